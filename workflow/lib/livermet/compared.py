"""What is compared: the label as numbers, the design of the patients, and the values on the scale of the tests.

Nothing here looks at response to choose features: which of them can be tested follows from cells, zeros and spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from livermet import cox, keys, refusals, statistics
from livermet.features import BLOOD, BLOOD_MODALITIES, PBMC, PBMC_TISSUE, WITHIN

FAMILY = [keys.MODALITY, "family"]
FEATURE = [*FAMILY, "feature"]
COLUMNS = [
    "label",
    keys.TIMEPOINT,
    keys.TISSUE,
    keys.MODALITY,
    "family",
    "feature",
    "role",
    "analysis",
    "n",
    "n_ref",
    "n_alt",
    "n_missing",
    "effect",
    "effect_kind",
    "ci_low",
    "ci_high",
    "p",
    "p_method",
    "q",
    "adjusted_for",
    "smallest_attainable_p",
    "minimal_detectable_effect",
    "status",
    "refusal_code",
    "refusal_reason",
]
INTEGERS = ["n", "n_ref", "n_alt", "n_missing"]
FLOATS = ["effect", "ci_low", "ci_high", "p", "q", "smallest_attainable_p", "minimal_detectable_effect"]
PSEUDOCOUNT = 0.5  # cells
MAX_SHARE_OF_ZEROS = 0.5  # features that are not compositional, above all interactions: mostly absent, not comparable
DESIGN_FACTORS = ("batch", "chemistry", "method")
NICHE = "niche"
# Among more parts than this the log-ratios' own centre moves too little to matter.
MAX_PARTS_CENTRED = 20


@dataclass(frozen=True)
class Label:
    """A label: its name, its kind, and a number per patient who has one.

    Of a time to an event (kind "survival") ``numbers`` are days and ``events`` says whether it was seen (1) or the
    patient was followed so long without it (0); other kinds have no events.
    """

    name: str
    kind: str
    numbers: pd.Series
    events: pd.Series | None = None

    @property
    def binary(self) -> bool:
        return self.kind == "binary"

    @property
    def survival(self) -> bool:
        return self.kind == "survival"

    def classes(self, patients: Iterable[str]) -> tuple[int, int]:
        """Patients with value 0 and with value 1 (or, for other kinds, all of them and none)."""
        values = self.numbers.reindex(list(patients)).dropna()
        return (int((values == 0).sum()), int((values == 1).sum())) if self.binary else (len(values), 0)


def read_label(labels: pd.DataFrame, name: str) -> Label:
    """One label from the table of labels.

    Raises
    ------
    ValueError
        When a value is not a number, that of a binary label neither 0 nor 1, or a time has no event of 0 or 1.
    """
    rows = labels[labels["label"] == name]
    known = rows[rows["value"].notna() & (rows["value"].astype(str) != "")]
    kind = str(rows["kind"].iloc[0]) if len(rows) else "binary"
    values = pd.to_numeric(known["value"], errors="coerce")
    bad = values.isna() | ((kind == "binary") & ~values.isin([0, 1]))
    if bad.any():
        first = known[bad].iloc[0]
        raise ValueError(
            f"labels, {name}, patient {first[keys.PATIENT]}: value {first['value']!r}; "
            f"expected {'0 or 1' if kind == 'binary' else 'a number'}"
        )
    index = known[keys.PATIENT].to_numpy()
    events = None
    if kind == "survival":
        given = known["event"] if "event" in known else pd.Series("", index=known.index)
        seen = pd.to_numeric(given, errors="coerce")
        if not seen.isin([0, 1]).all():
            first = known[~seen.isin([0, 1])].iloc[0]
            raise ValueError(
                f"labels, {name}, patient {first[keys.PATIENT]}: event {first.get('event', '')!r}; expected 0 or 1"
            )
        events = pd.Series(seen.to_numpy(float), index=index, dtype=float)
    return Label(name, kind, pd.Series(values.to_numpy(float), index=index, dtype=float), events)


def patient_design(
    patients: pd.DataFrame, libraries: Sequence[Mapping[str, str]], *, timepoints: Sequence[str], tissues: Sequence[str]
) -> pd.DataFrame:
    """Centre of each patient, and per modality batch, chemistry and sampling method of the libraries compared.

    Parameters
    ----------
    patients
        The study table.
    libraries
        Library rows of the scope.
    timepoints, tissues
        What is compared; cells of blood go by timepoint alone.

    Returns
    -------
    One row per patient and modality (patients without such a library: one row with modality missing); where a patient's
    libraries differ in a factor, its values are joined by "+".
    """
    columns = [keys.PATIENT, keys.MODALITY, keys.TIMEPOINT, keys.TISSUE, *DESIGN_FACTORS]
    rows = pd.DataFrame([dict(row) for row in libraries], columns=columns, dtype=object)
    of_blood = rows[keys.TISSUE] == PBMC_TISSUE
    rows = rows[rows[keys.TIMEPOINT].isin(timepoints) & (rows[keys.TISSUE].isin(tissues) | of_blood)]
    rows = rows.fillna("").astype(str)
    rows.loc[rows[keys.TISSUE] == PBMC_TISSUE, keys.MODALITY] = PBMC
    factors = rows.groupby([keys.PATIENT, keys.MODALITY])[list(DESIGN_FACTORS)]
    joined = factors.agg(lambda values: "+".join(sorted(set(values)))).reset_index()
    return patients[[keys.PATIENT, keys.CENTRE]].merge(joined, on=keys.PATIENT, how="left")


def design_of(patients: pd.DataFrame, index: pd.Index, modality: str) -> pd.DataFrame:
    """Centre and further design factors of the patients in ``index``, "" where not known."""
    centre = patients.drop_duplicates(keys.PATIENT).set_index(keys.PATIENT)[[keys.CENTRE]]
    if keys.MODALITY in patients:
        rows = patients[patients[keys.MODALITY] == modality].set_index(keys.PATIENT)
        centre = centre.join(rows[[name for name in DESIGN_FACTORS if name in rows]])
    return centre.reindex(index).fillna("").astype(str)


def sampled_patients(patients: pd.DataFrame, table: pd.DataFrame, modality: str) -> set[str]:
    """Patients of whom the modality was measured: by their libraries, and by any value of it in the feature table."""
    ids = set(table.loc[table[keys.MODALITY] == modality, keys.PATIENT])
    if keys.MODALITY in patients:
        ids |= set(patients.loc[patients[keys.MODALITY] == modality, keys.PATIENT])
    return ids


def is_compositional(family: str) -> bool:
    """Whether the values of a family are shares of one total."""
    return family in ("composition_compartment", "composition_type", NICHE) or family.startswith(WITHIN)


def analysis_set(features: pd.DataFrame, *, config: Mapping[str, Any]) -> pd.DataFrame:
    """Rows at the configured timepoints and tissues; blood and its cells go by timepoint alone."""
    here = features[keys.TISSUE].isin(config["tissues"]) | features[keys.MODALITY].isin(BLOOD_MODALITIES)
    return features[features[keys.TIMEPOINT].isin(config["timepoints"]) & here & features["value"].notna()]


def tissue_of(modality: pd.Series, tissues: Sequence[str]) -> pd.Series:
    """Tissue of each row: blood and its cells have one of their own, all else the configured one."""
    own = {BLOOD: BLOOD, PBMC: PBMC_TISSUE}
    return modality.map(own).fillna("+".join(tissues)).astype(object)


def filter_features(features: pd.DataFrame, *, config: Mapping[str, Any]) -> pd.DataFrame:
    """Which features can be tested, whatever the label.

    Parameters
    ----------
    features
        The long table, at one timepoint and in one tissue.
    config
        Section ``response``.

    Returns
    -------
    One row per feature: modality, family, feature, n_patients, mean_cells (of compositional features), zero_fraction
    and reason, "" where it is kept. A reason that is a refusal starts with its code.
    """
    value = features["value"]
    # An analyte of log2 0 is one unit of it, not none.
    zero = (value == 0) & (features[keys.MODALITY] != BLOOD)
    table = features.assign(cells=value * features["n_cells"], zero=zero, some=value > 0)
    groups = table.groupby(FEATURE, sort=True)
    summary = groups.agg(
        n_patients=(keys.PATIENT, "nunique"),
        mean_cells=("cells", "mean"),
        zero_fraction=("zero", "mean"),
        with_some=("some", "sum"),
        low=("value", "min"),
        high=("value", "max"),
    ).reset_index()
    parts = summary["family"].map(is_compositional).astype(bool)
    limit = np.where(parts, config["max_zero_fraction"], MAX_SHARE_OF_ZEROS)
    few = (summary["family"] == NICHE) & (summary["with_some"] < refusals.MIN_PATIENTS_OF_NICHE)
    reasons = {
        f"R14: {refusals.refuse_few_patients(1)}": few,
        "the same value in every patient": (summary["low"] == summary["high"]) & (summary["n_patients"] > 1),
        f"fewer than {config['min_mean_cells']:g} cells or spots in the mean": parts
        & (summary["mean_cells"] < config["min_mean_cells"]),
        "absent in too many patients": summary["zero_fraction"] > limit,
    }
    summary["reason"] = ""
    for reason, fires in reasons.items():
        summary["reason"] = summary["reason"].mask(fires & (summary["reason"] == ""), reason)
    kept = parts & (summary["reason"] == "")
    alone = kept & (summary[kept].groupby(FAMILY)["feature"].transform("size").reindex(summary.index) < 2)
    summary.loc[alone, "reason"] = "the only part of its family that is left: a share of what is not known"
    summary["mean_cells"] = summary["mean_cells"].where(parts)
    return summary.drop(columns=["low", "high", "with_some"])


def tested_counts(features: pd.DataFrame, *, config: Mapping[str, Any]) -> dict[tuple[str, str], pd.DataFrame]:
    """Values of the kept features, patients x features, by modality and family: counts where they are compositional.

    Raises
    ------
    ValueError
        When a patient has several rows of a feature (R03).
    """
    kept = filter_features(features, config=config)
    kept = kept[kept["reason"] == ""]
    table = features.merge(kept[FEATURE], on=FEATURE, how="inner")
    if reason := refusals.refuse_unit(table, unit=[keys.PATIENT, *FEATURE]):
        raise ValueError(f"feature table, R03: {reason}")
    table = table.assign(count=(table["value"] * table["n_cells"]).round())
    result = {}
    for (modality, family), group in table.groupby(FAMILY, sort=True):
        column = "count" if is_compositional(str(family)) else "value"
        wide = group.pivot_table(index=keys.PATIENT, columns="feature", values=column)
        result[str(modality), str(family)] = wide.sort_index(axis=0).sort_index(axis=1)
    return result


def on_tested_scale(counts: Mapping[tuple[str, str], pd.DataFrame]) -> dict[tuple[str, str], pd.DataFrame]:
    """Counts of compositional families as centred log-ratios of each patient, other values as they are."""
    result = {}
    for (modality, family), wide in counts.items():
        if is_compositional(family):
            logs = statistics.clr(wide.to_numpy(float), pseudocount=PSEUDOCOUNT)
            wide = pd.DataFrame(logs, index=wide.index, columns=wide.columns)
        result[modality, family] = wide
    return result


def tested_values(features: pd.DataFrame, *, config: Mapping[str, Any]) -> dict[tuple[str, str], pd.DataFrame]:
    """Values on the scale on which they are tested, patients x features, by modality and family.

    Compositional families: centred log-ratios of the counts of the kept features; others: the values.
    """
    return on_tested_scale(tested_counts(features, config=config))


def blocks(values: pd.DataFrame, label: Label) -> Iterator[pd.DataFrame]:
    """Patients with a label, by sets of features that are known for the same of them (patients x features)."""
    values = values[values.index.isin(label.numbers.index)]
    known = values.notna()
    patterns = known.T.groupby(known.T.apply(lambda row: row.to_numpy().tobytes(), axis=1), sort=True).groups
    for names in patterns.values():
        yield values.loc[known[names[0]], list(names)]


def label_numbers(label: Label, index: pd.Index, strata: np.ndarray) -> np.ndarray:
    """The label as the tests take it, one number per patient: log-rank scores within strata for a time to an event."""
    numbers = label.numbers.reindex(index).to_numpy()
    if label.events is None or not len(numbers):
        return numbers
    return cox.log_rank_scores(numbers, label.events.reindex(index).to_numpy(), strata=strata)


def compared_scale(values: pd.DataFrame | np.ndarray, label: Label) -> np.ndarray:
    """Ranks where effects are rank correlations (ordinal and continuous labels), else values as they are."""
    array = np.asarray(values, dtype=float)
    return array if label.binary or label.survival else rankdata(array, axis=0)


def is_centred(family: str, n_parts: int) -> bool:
    """Whether the differences of a family are taken from their median."""
    return is_compositional(family) and n_parts <= MAX_PARTS_CENTRED


def effect_kind(label: Label) -> str:
    """Name of the effect that goes with a kind of label."""
    return {"binary": "hedges_g", "survival": "log_hr_per_sd"}.get(label.kind, "spearman_rho")


def effect_sizes(
    block: pd.DataFrame, label: Label, strata: np.ndarray, *, centre_differences: bool
) -> statistics.Effects:
    """Size of each feature's difference by label, within strata, with its interval.

    Hedges' g (two classes), log hazard ratio per standard deviation (time to an event), rank correlation (others).

    Parameters
    ----------
    block
        Patients x features, no missing values.
    label
        The label, with a value for each of the patients.
    strata
        One code per patient.
    centre_differences
        As for :func:`livermet.statistics.permutation_p`.
    """
    values = block.to_numpy(float)
    numbers = label.numbers.reindex(block.index).to_numpy()
    if label.binary:
        return statistics.standardised_difference(values, numbers, strata, centre_differences=centre_differences)
    if label.events is not None:
        events = label.events.reindex(block.index).to_numpy()
        return statistics.log_hazard_ratio(values, numbers, events, strata, centre_differences=centre_differences)
    return statistics.rank_correlation(values, numbers, strata, centre_differences=centre_differences)


def detectable_effect(effects: statistics.Effects, label: Label, *, alpha: float, power: float) -> float:
    """Smallest effect, of the label's kind, that these patients show with the given power."""
    if label.binary:
        return statistics.minimal_detectable_effect(variance=effects.variance, df=effects.df, alpha=alpha, power=power)
    if label.survival:
        return statistics.minimal_detectable_hazard(variance=effects.variance, alpha=alpha, power=power)
    return statistics.minimal_detectable_correlation(df=effects.df, alpha=alpha, power=power)


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows with the columns of ``COLUMNS``, in their order and types, sorted by role, feature and analysis."""
    text = [name for name in COLUMNS if name not in INTEGERS + FLOATS]
    order = ["role", *FEATURE, "analysis", "effect_kind", "adjusted_for"]
    table = table.sort_values(order, kind="stable", ignore_index=True)[COLUMNS]
    return table.fillna(dict.fromkeys(text, "")).astype(
        {**dict.fromkeys(text, object), **dict.fromkeys(INTEGERS, "Int64"), **dict.fromkeys(FLOATS, float)}
    )
