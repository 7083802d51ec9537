"""The reporting checklist: what readers of a paper ask for, filled from the run where the run knows it.

Items of REMARK (McShane et al. 2005; explained by Altman et al. 2012) and of TRIPOD+AI (Collins et al. 2024), in
words of our own. An item is *reported* where the run holds what it asks for, with the value or where it stands; *not
applicable* where nothing of the kind was done, with the reason; and *by the authors* for all that no run can know. What
did not run is never said to be reported. Every sentence is computed from the run's tables, or is true of every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from livermet import keys
from livermet.blood import INDICES
from livermet.compared import is_compositional

COLUMNS = ("guideline", "item", "topic", "asks", "status", "value", "place")
REPORTED, NOT_APPLICABLE, AUTHORS = "reported", "not applicable", "by the authors"
REMARK, TRIPOD, RUN = "REMARK", "TRIPOD+AI", "this run"
# Features that somebody cut before us: scores of points by published cut-points, and what an assay detects or not.
CUT_SCORES = tuple(name for name, (_, unit, _) in INDICES.items() if unit == "score")
DETECTED = ("kras_detected",)
BOTH_MODELS = "clinical+tissue"
# What is asked of tables of tests, one that did not run having no rows.
OF_TESTS = ("status", "analysis", "adjusted_for", "model", "validation", "family", "feature", "analyte")


@dataclass(frozen=True)
class Entry:
    """What is said to one item: its status, the value or the reason, and the file or page that holds more."""

    status: str
    value: str = ""
    place: str = ""


@dataclass(frozen=True)
class Item:
    """One item: guideline, number, topic, what it asks, and how it is filled."""

    guideline: str
    number: str
    topic: str
    asks: str
    fill: Callable[[Facts], Entry]


@dataclass(frozen=True)
class Facts:
    """What a run knows of itself.

    Attributes
    ----------
    tables
        Tables by name: ``patients``, ``samples``, ``treatment``, ``labels``, ``consent``, ``status``, ``associations``,
        ``left_out``; and, where the run has them, ``robustness``, ``confounding``, ``survival``, ``biomarkers``,
        ``blood_tissue``, ``predictors``. A name that is missing did not run.
    verdict, run
        What the response step states, and the record of the run (of which nothing is used that differs between equal
        runs).
    config
        Section ``response``.
    looks
        Other states of the data that were looked at (:func:`livermet.looks.other_states`).
    blind
        Whether labels are permuted.
    """

    tables: Mapping[str, pd.DataFrame]
    verdict: Mapping[str, Any]
    run: Mapping[str, Any]
    config: Mapping[str, Any]
    looks: Sequence[Mapping[str, str]]
    blind: bool

    @property
    def label(self) -> str:
        """The primary label, for people."""
        return str(self.config["primary_label"])

    @property
    def associations(self) -> pd.DataFrame:
        """The primary analysis: one row per feature."""
        table = self.tables["associations"]
        return table[table["analysis"] == "primary"]

    def tested(self, name: str) -> pd.DataFrame:
        """Rows of a table that were tested; none where the table did not run."""
        table = self.tables.get(name, pd.DataFrame(columns=list(OF_TESTS)))
        return table[table["status"] == "tested"]


def fill_checklist(facts: Facts) -> pd.DataFrame:
    """All items with their status, as a table with ``COLUMNS``."""
    rows = []
    for item in ITEMS:
        entry = item.fill(facts)
        rows.append((item.guideline, item.number, item.topic, item.asks, entry.status, entry.value, entry.place))
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def checklist_view(checklist: pd.DataFrame, guideline: str) -> pd.DataFrame:
    """Items of one guideline as the report shows them."""
    table = checklist[checklist["guideline"] == guideline].fillna("")
    value = table["value"].str.cat(table["place"].map(lambda place: f" ({place})" if place else "")).str.strip()
    return table[["item", "topic", "asks", "status"]].assign(**{"value and place": value})


def status_counts(checklist: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many items of each guideline have each status."""
    counts = checklist.groupby(["guideline", "status"], sort=False).size()
    return {
        name: {status: int(counts.get((name, status), 0)) for status in (REPORTED, NOT_APPLICABLE, AUTHORS)}
        for name in (REMARK, TRIPOD, RUN)
    }


# ------------------------------------------------------------------------------------------------------------- words


def _counts(values: Iterable[Any], *, most: int = 8) -> str:
    """Frequencies in words, the most frequent first."""
    counts = pd.Series([str(value) for value in values if value == value and str(value) != ""], dtype=object)
    counts = counts.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    shown = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in counts.head(most).items())
    return shown + (f" and {len(counts) - most} more" if len(counts) > most else "")


def _number(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _adjusted(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose estimate is adjusted for centre; in a study of one centre there are none."""
    return rows[rows["adjusted_for"].fillna("").astype(str).str.startswith("centre")]


def _analysis(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows[rows["analysis"] == name]


def _and(values: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(values[:-1]), *values[-1:]) if part)


def _authors(value: str = "") -> Callable[[Facts], Entry]:
    return lambda facts: Entry(AUTHORS, value)


def _filled(value: str, place: str, otherwise: str) -> Entry:
    """Reported where there is a value, else left to the authors with the reason."""
    return Entry(REPORTED, value, place) if value else Entry(AUTHORS, otherwise)


# ------------------------------------------------------------------------------------------- what is asked more often


def _marker(facts: Facts) -> Entry:
    config = facts.config
    declared = ", ".join(item["feature"] for item in config["confirmatory"])
    value = (
        f"features of {', '.join(config['tissues'])} at {', '.join(config['timepoints'])} against {facts.label}; "
        f"declared beforehand: {declared or 'none, so nothing can be confirmed'}"
    )
    return Entry(REPORTED, value.replace("_", " "), "config, section response")


def _patients(facts: Facts) -> Entry:
    patients = facts.tables["patients"]
    by = "; ".join(f"{name}: {_counts(patients[name])}" for name in ("centre", "cohort"))
    value = f"{_number(len(patients), 'patient')}; {by}"
    return _filled(value if len(patients) else "", "study/tables/patients.tsv", "the table of patients is empty")


def _treatments(facts: Facts) -> Entry:
    treatment = facts.tables["treatment"]
    value = f"rows by regimen, of any line: {_counts(treatment['regimen'])}" if len(treatment) else ""
    return _filled(value, "study/tables/treatment.tsv", "the study has no treatment.tsv")


def _specimens(facts: Facts) -> Entry:
    samples = facts.tables["samples"]
    if samples.empty:
        return Entry(AUTHORS, "the table of samples is empty")
    parts = [_counts(samples["timepoint"] + " " + samples["tissue"])]
    for column in ("method", "preservation"):
        given = _counts(samples[column]) if column in samples else ""
        parts.append(f"{column}: {given or 'not given, to be said by the authors'}")
    return Entry(REPORTED, "; ".join(parts), "study/tables/samples.tsv")


def _assays(facts: Facts) -> Entry:
    status = facts.tables["status"]
    if status.empty:
        return Entry(NOT_APPLICABLE, "the scope holds no library")
    ok = int((status["status"] == "ok").sum())
    value = (
        f"{ok} of {len(status)} libraries passed quality control ({_counts(status['modality'])}); features are made "
        f"without the labels"
    )
    return Entry(REPORTED, value, "status.tsv, pages of the libraries; laboratory protocol by the authors")


def _endpoint(facts: Facts) -> Entry:
    own = _labels(facts, facts.label)
    known = own[own["value"] != ""]
    value = f"{facts.label.replace('_', ' ')}: {_number(len(known), 'patient')} with a value"
    if len(own) and own["kind"].iloc[0] == "survival":
        value += f", {_number(_events(known), 'event')}"
    if facts.blind:
        return Entry(REPORTED, f"{value}; labels are permuted (blinded run)", "study/labels.tsv")
    return Entry(REPORTED, value, "study/labels.tsv, with the rows that each comes from")


def _labels(facts: Facts, name: str) -> pd.DataFrame:
    labels = facts.tables["labels"]
    own = labels[labels["label"] == name]
    return own.assign(value=own["value"].fillna("").astype(str))


def _events(known: pd.DataFrame) -> int:
    return int((pd.to_numeric(known["event"]) == 1).sum())


def _candidates(facts: Facts) -> Entry:
    rows = facts.associations
    if rows.empty:
        return Entry(NOT_APPLICABLE, "no feature was there to be examined")
    families = rows.groupby([keys.MODALITY, "family"]).ngroups
    roles = rows["role"].value_counts()
    tested, refused = (int((rows["status"] == status).sum()) for status in ("tested", "refused"))
    value = (
        f"{_number(len(rows), 'feature')} in {families} famil{'y' if families == 1 else 'ies'}, "
        f"{int(roles.get('confirmatory', 0))} declared and {int(roles.get('exploratory', 0))} exploratory; {tested} "
        f"tested, {refused} refused" + ", each with its reason" * bool(refused)
    )
    return Entry(REPORTED, value, "associations.tsv, response_filtered.tsv")


def _sample_size(facts: Facts) -> Entry:
    detectable = facts.associations["minimal_detectable_effect"].dropna()
    if detectable.empty:
        return Entry(AUTHORS, "no detectable effect was reckoned; python -m livermet power shows what a study can find")
    value = (
        f"smallest effects found with 80 % power: {detectable.min():.2f} to {detectable.max():.2f}; how the number of "
        f"patients was chosen is to be said by the authors"
    )
    return Entry(REPORTED, value, "associations.tsv, minimal_detectable_effect")


def _statistics(facts: Facts) -> Entry:
    config = facts.config
    rows = facts.associations[facts.associations["status"] == "tested"]
    if rows.empty:
        return Entry(NOT_APPLICABLE, "nothing was tested")
    within = len(_adjusted(rows))
    where = {0: "over all patients", len(rows): "within centre"}.get(within, f"within centre (of {within} features)")
    what = "log-rank scores" if (rows["effect_kind"] == "log_hr_per_sd").all() else "labels"
    parts = [f"permutation of {what} {where}, two-sided, at most {config['n_permutations']} draws"]
    corrections = {
        "confirmatory": f"Holm at {config['alpha'] / config['planned_looks']:.3g} for declared features",
        "exploratory": f"Benjamini-Hochberg at {config['fdr']:.3g} in each exploratory family",
    }
    parts += [words for role, words in corrections.items() if (rows["role"] == role).any()]
    return Entry(REPORTED, "; ".join(parts), "report, Methods")


def _missing(facts: Facts) -> Entry:
    own, left_out = _labels(facts, facts.label), facts.tables["left_out"]
    without = int((own["value"] == "").sum())
    value = (
        f"{_number(without, 'patient')} without a value of {facts.label.replace('_', ' ')}; "
        f"{_number(len(left_out), 'value')} of features left out, each with its reason; the tests fill nothing in"
    )
    return Entry(REPORTED, value, "study/labels.tsv, features_left_out.tsv; n_missing in associations.tsv")


def _cut_points(facts: Facts) -> Entry:
    rows = facts.tested("associations")
    survival, blood = facts.tested("survival"), facts.tested("biomarkers")
    names = {*rows["feature"], *survival["feature"], *blood["analyte"]}
    if not names:
        return Entry(NOT_APPLICABLE, "nothing was tested")
    parts = ["no cut-point was sought in the data"]
    if any(map(is_compositional, {*rows["family"], *survival["family"]})):
        parts.append("compositions are compared as centred log-ratios")
    if (rows["effect_kind"] == "spearman_rho").any():
        parts.append("values are compared by their ranks")
    if scores := [name for name in CUT_SCORES if name in names]:
        parts.append(f"scores by published cut-points among the features: {', '.join(scores)}")
    if detected := [name for name in DETECTED if name in names]:
        parts.append(f"detected or not: {', '.join(detected).replace('_', ' ')}")
    return Entry(REPORTED, "; ".join(parts), "features.parquet")


def _flow(facts: Facts) -> Entry:
    consent = facts.tables["consent"]
    enrolled = int(consent["enrolled"].iloc[0]) if len(consent) else len(facts.tables["patients"])
    status = facts.tables["status"]
    with_data = status.loc[status["status"] == "ok", "patient_id"].nunique()
    rows = facts.associations[facts.associations["status"] == "tested"]
    most = int(rows["n"].max()) if len(rows) else 0
    value = (
        f"{enrolled} enrolled, {with_data} with a library that passed, {f'up to {most}' if most else 'none'} in a test"
    )
    events = [(name, _labels(facts, name)) for name in ("os", "pfs")]
    words = [
        f"{name}: {_number(_events(own[own['value'] != '']), 'event')}"
        for name, own in events
        if (own["value"] != "").any()
    ]
    return Entry(REPORTED, "; ".join([value, *words]), "report, Patients (flow)")


def _characteristics(facts: Facts) -> Entry:
    patients = facts.tables["patients"]
    parts = []
    if "age" in patients and patients["age"].notna().any():
        low, median, high = (f"{value:g}" for value in patients["age"].quantile([0, 0.5, 1]))
        parts.append(f"age, median {median} ({low} to {high})")
    for column in ("sex", "ecog"):
        given = _counts(patients[column]) if column in patients else ""
        parts += [f"{column}: {given}"] if given else []
    return _filled("; ".join(parts), "study/tables/patients.tsv", "age, sex and ECOG are not given")


def _standard_variables(facts: Facts) -> Entry:
    confounding = facts.tables.get("confounding", pd.DataFrame(columns=["factor", "strength"]))
    rows = confounding[confounding["strength"].notna()]
    if rows.empty:
        return Entry(AUTHORS, "the label was compared with no variable of the design")
    factors = [str(name).replace("_", " ") for name in rows["factor"].drop_duplicates()]
    value = f"{_number(len(rows), 'comparison')} of the label with {_and(factors)}"
    return Entry(REPORTED, f"{value}; features against prognostic variables by the authors", "confounding.tsv")


def _univariable(facts: Facts) -> Entry:
    rows = facts.associations[facts.associations["status"] == "tested"]
    times = _analysis(facts.tested("survival"), "primary")
    if rows.empty and times.empty:
        return Entry(NOT_APPLICABLE, "nothing was tested: " + facts.verdict["headline"])
    with_interval = int(rows[["ci_low", "ci_high"]].notna().all(axis=1).sum())
    parts, places = [], []
    if len(rows):
        parts.append(f"{_number(len(rows), 'feature')} with effect and p, {with_interval} with a 95 % interval")
        places.append("associations.tsv")
    if len(times):
        parts.append(_number(len(times), "hazard ratio"))
        places.append("survival.tsv")
    return Entry(REPORTED, "; ".join(parts), ", ".join(places))


def _multivariable(facts: Facts) -> Entry:
    joint = facts.tested("biomarkers")
    found = {
        "associations.tsv": (_adjusted(facts.tested("associations")), "estimate", "adjusted for centre"),
        "survival.tsv": (_adjusted(facts.tested("survival")), "hazard ratio", "adjusted for centre"),
        "biomarkers.tsv": (joint[joint["model"] == "joint"], "term", "of a joint model of blood"),
    }
    parts = [f"{_number(len(rows), noun)} {words}" for rows, noun, words in found.values() if len(rows)]
    if not parts:
        return Entry(NOT_APPLICABLE, "no adjusted estimate of response or survival was made")
    return Entry(REPORTED, "; ".join(parts), ", ".join(name for name, (rows, *_) in found.items() if len(rows)))


def _with_standard(facts: Facts) -> Entry:
    predictors = facts.tested("predictors")
    if predictors.empty:
        return Entry(NOT_APPLICABLE, _no_predictor(facts))
    if not (predictors["model"] == BOTH_MODELS).any():
        return Entry(NOT_APPLICABLE, f"no model of both was fitted, but of {_model_names(facts)} alone")
    return Entry(REPORTED, f"models: {_model_names(facts)}", "predictors.tsv")


def _further(facts: Facts) -> Entry:
    rows = _analysis(facts.tested("associations"), "sensitivity")
    robustness = facts.tables.get("robustness", pd.DataFrame(columns=["n_centres_left_out"]))
    without = robustness[robustness["n_centres_left_out"].fillna(0) > 0]
    parts = [f"{_number(len(rows), 'row')} of sensitivity analyses"] if len(rows) else []
    parts += [f"{_number(len(without), 'feature')} without one centre at a time"] if len(without) else []
    if not parts:
        return Entry(NOT_APPLICABLE, "no sensitivity analysis was possible")
    places = ["associations.tsv"] * bool(len(rows)) + ["robustness.tsv"] * bool(len(without))
    return Entry(REPORTED, "; ".join(parts), ", ".join(places))


def _limits(facts: Facts) -> Entry:
    limits = facts.verdict["limits"]
    value = f"{_number(len(limits), 'limit')} stated with the verdict: {facts.verdict['headline']}"
    return _filled(value if limits else "", "verdict.json; what they mean by the authors", "no limit was recorded")


def _looks(facts: Facts) -> str:
    config = facts.config
    words = f"look {config['look']} of {config['planned_looks']} planned by the config"
    if facts.blind:
        return f"{words}; this run is blinded and is no look"
    if not facts.looks:
        return f"{words}; the ledger holds no other state of the data"
    seen = ", ".join(f"look {row['look']}: {row['label']}, n = {row['n_patients']}" for row in facts.looks)
    return f"{words}; the ledger holds {_number(len(facts.looks), 'other state')} of the data ({seen})"


def _ledger(facts: Facts) -> str:
    """The ledger of looks, where a run wrote it: one that is blinded, or tested nothing, is no look."""
    tested = any(len(facts.tested(name)) for name in ("associations", "survival", "biomarkers", "predictors"))
    return "study/looks.tsv" if facts.looks or (tested and not facts.blind) else ""


def _looks_entry(facts: Facts) -> Entry:
    ledger = _ledger(facts)
    return Entry(REPORTED, _looks(facts), f"{ledger}, with the time of each look" if ledger else "")


def _prespecified(facts: Facts) -> Entry:
    n = len(facts.config["confirmatory"])
    value = f"{_number(n, 'feature')} declared; checksum of the section response {facts.run['response_sha256'][:12]}"
    places = ", ".join(name for name in ("run.json", _ledger(facts)) if name)
    return Entry(REPORTED, value, f"{places}; that it was fixed before looking is for the authors to show")


def _inputs(facts: Facts) -> Entry:
    files = sum(len(entry["files"]) for entry in facts.run["inputs"].values())
    value = f"{_number(files, 'raw file')} and {_number(len(facts.run['tables']), 'study table')} with SHA-256"
    return Entry(REPORTED, value, "run.json")


def _refusals(facts: Facts) -> Entry:
    refused = facts.associations[facts.associations["status"] == "refused"]
    if refused.empty:
        return Entry(NOT_APPLICABLE, "no feature was refused")
    return Entry(REPORTED, f"features by code: {_counts(refused['refusal_code'])}", "associations.tsv, report")


def _code(facts: Facts) -> Entry:
    versions = facts.run["versions"]
    named = ("livermet", "python", "numpy", "scipy")
    shown = ", ".join(f"{name} {versions[name]}" for name in named if name in versions)
    value = f"{shown}; seed {facts.run['seed']}; config {facts.run['config_sha256'][:12]}"
    return Entry(REPORTED, value, "run.json: commit, all versions; where the code lies by the authors")


# --------------------------------------------------------------------------------------------------------- predictors


def _no_predictor(facts: Facts) -> str:
    table = facts.tables.get("predictors")
    if table is None:
        return "no predictor was run"
    refused = table[table["status"] == "refused"]
    if refused.empty:
        return "no predictor was fitted"
    first = refused.iloc[0]
    return f"no predictor was fitted ({first['refusal_code']}: {first['refusal_reason']})"


def _if_predicted(fill: Callable[[Facts], Entry]) -> Callable[[Facts], Entry]:
    """An item on prediction models, which asks nothing where none was fitted."""
    return lambda facts: fill(facts) if len(facts.tested("predictors")) else Entry(NOT_APPLICABLE, _no_predictor(facts))


def _nested(facts: Facts) -> pd.DataFrame:
    rows = facts.tested("predictors")
    return rows[rows["validation"] == "nested_cv"]


def _model_names(facts: Facts) -> str:
    return ", ".join(facts.tested("predictors")["model"].drop_duplicates()).replace("_", " ")


def _predictors_used(facts: Facts) -> Entry:
    rows = _nested(facts)
    used = [f"{row['model']}: {row['features']}".replace("_", " ") for row in rows.to_dict("records")]
    return Entry(REPORTED, "; ".join(used), "predictors.tsv, features")


def _predicted_n(facts: Facts) -> Entry:
    rows = _nested(facts)
    used = [
        f"{row['model'].replace('_', ' ')}: {row['n']} patients, {row['n_alt']} with the label"
        for row in rows.to_dict("records")
    ]
    return Entry(REPORTED, "; ".join(used), "predictors.tsv, n and n_alt")


def _performance(facts: Facts) -> Entry:
    shown = [
        f"{row['model']}: AUC {row['auc']:.2f} ({row['auc_low']:.2f} to {row['auc_high']:.2f}), Brier "
        f"{row['brier']:.2f}, calibration slope {row['calibration_slope']:.2f}".replace("_", " ")
        for row in _nested(facts).to_dict("records")
    ]
    return Entry(REPORTED, "; ".join(shown), "predictors.tsv, all out of fold")


def _transport(facts: Facts) -> Entry:
    rows = facts.tested("predictors")
    rows = rows[(rows["validation"] == "leave_one_centre_out") & rows["auc"].notna()]
    if rows.empty:
        return Entry(NOT_APPLICABLE, "no centre could be left out and predicted")
    return Entry(REPORTED, f"{_number(len(rows), 'row')} of centres that were left out and predicted", "predictors.tsv")


def _validation(facts: Facts) -> Entry:
    value = f"models: {_model_names(facts)}; nested cross-validation with everything inside the fold"
    return Entry(REPORTED, value, "predictors.tsv, report, Methods")


def _says(value: str, place: str = "") -> Callable[[Facts], Entry]:
    return lambda facts: Entry(REPORTED, value, place)


def _not_updated(facts: Facts) -> Entry:
    return Entry(NOT_APPLICABLE, "no earlier model was updated")


NO_DATES = "accrual and follow-up in calendar time are in no table"
DEVELOPMENT = "development, with internal validation; there is no other cohort"
NOT_BALANCED = "not corrected: probabilities would lose their calibration"
NO_GROUPS = "no analysis by groups of patients is made"
PROBABILITY = "a probability per patient; no class, no cut-point"
NO_FINAL_MODEL = "no final model is given out: what is estimated is how well such models would do"

REMARK_ITEMS = (
    ("1", "aims", "marker, objectives and hypotheses stated beforehand", _marker),
    ("2", "patients", "source, characteristics, who was included", _patients),
    ("3", "treatments", "what patients were given, and how it was chosen", _treatments),
    ("4", "specimens", "material, how it was taken and preserved", _specimens),
    ("5", "assays", "method, quality control, blinding to the outcome", _assays),
    ("6", "design", "how cases were selected, period, follow-up", _authors(NO_DATES)),
    ("7", "endpoints", "definition of each outcome", _endpoint),
    ("8", "candidates", "all variables that were examined", _candidates),
    ("9", "sample size", "reason for it, effect that it can detect", _sample_size),
    ("10", "statistics", "methods, choice of variables", _statistics),
    ("10", "missing data", "how much is missing, and how it was handled", _missing),
    ("11", "marker values", "how they were used, and cut-points", _cut_points),
    ("12", "flow", "patients and events at each stage", _flow),
    ("13", "characteristics", "distribution of demographic and clinical variables", _characteristics),
    ("14", "marker and others", "relation of the marker to standard variables", _standard_variables),
    ("15", "single effects", "estimate with interval for each marker", _univariable),
    ("16", "adjusted effects", "estimates of models with several variables", _multivariable),
    ("17", "added value", "marker together with standard prognostic variables", _with_standard),
    ("18", "further analyses", "sensitivity, checks of assumptions, validation", _further),
    ("19", "interpretation", "results against the hypotheses, with limits", _limits),
    ("20", "implications", "for research and for practice", _authors()),
)
# On prediction models: without one, none of them asks for anything.
TRIPOD_ITEMS = (
    ("1", "title", "names a prediction model, its population and outcome", _authors()),
    ("2", "abstract", "a structured summary", _authors()),
    ("3", "background", "context, purpose, known inequalities", _authors()),
    ("4", "objectives", "development, evaluation or both", _says(DEVELOPMENT)),
    ("5", "data", "sources and dates", _authors(NO_DATES)),
    ("6", "participants", "setting, who is eligible, treatments", _patients),
    ("7", "preparation", "how data were cleaned and transformed", _assays),
    ("8", "outcome", "what is predicted, and how it was assessed", _endpoint),
    ("9", "predictors", "which ones, how chosen and measured", _predictors_used),
    ("10", "sample size", "how it was arrived at", _authors("the number of patients is that of the study")),
    ("11", "missing data", "how they were handled", _authors("how values are filled in stands in the report")),
    ("12", "methods", "kind of model, tuning, internal validation, measures", _validation),
    ("13", "class imbalance", "whether and how it was corrected", _says(NOT_BALANCED)),
    ("14", "fairness", "what was done for groups of patients", _authors(NO_GROUPS)),
    ("15", "output", "what the model gives", _says(PROBABILITY, "predictions.tsv")),
    ("16", "development and test", "differences between both data", _transport),
    ("17", "ethics", "approval and consent", _authors()),
    ("18", "open science", "protocol, registration, data, code", _code),
    ("19", "patients and public", "their part in the study", _authors()),
    ("20", "flow", "patients, events, characteristics", _flow),
    ("21", "development", "patients and events in each analysis", _predicted_n),
    ("22", "specification", "the full model, so that others can use it", _authors(NO_FINAL_MODEL)),
    ("23", "performance", "measures with intervals, also by group", _performance),
    ("24", "updating", "results of an updated model", _not_updated),
    ("25", "interpretation", "the main results in context", _authors()),
    ("26", "limitations", "bias, uncertainty, whom it holds for", _limits),
    ("27", "usability", "input, users, next steps", _authors()),
)
# What reviewers ask of any such study beside the two guidelines.
RUN_ITEMS = (
    ("a", "declaration", "what was fixed before looking, and how that can be shown", _prespecified),
    ("b", "looks", "how often response was looked at", _looks_entry),
    ("c", "code", "software, versions, seed and settings with which it can be repeated", _code),
    ("d", "inputs", "files that went in, with checksums", _inputs),
    ("e", "refusals", "what was not tested because the design can't carry it", _refusals),
)
ITEMS = (
    *(Item(REMARK, *row) for row in REMARK_ITEMS),
    *(Item(TRIPOD, *row[:3], _if_predicted(row[3])) for row in TRIPOD_ITEMS),
    *(Item(RUN, *row) for row in RUN_ITEMS),
)
