"""The pages that people open: one report per scope, one page per library, and an index.

Each page is one file that works offline: styles, script and figures are inside it, and its content security policy
forbids everything else. All text is escaped by the templates. Pages hold no time, no machine and no path, so that equal
runs give equal bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd
from markupsafe import Markup
from pandas.api.types import is_numeric_dtype

from livermet import keys
from livermet.captions import caption_params, render_caption
from livermet.checklist import REMARK, RUN, TRIPOD, checklist_view, status_counts
from livermet.pages import Embedded, embed, is_finite, template
from livermet.plots.style import COMPARTMENT_COLOURS, colours
from livermet.report_biomarkers import (
    added_table,
    biomarker_summary,
    biomarker_table,
    blood_days,
    joint_table,
    missing_measures,
    pair_table,
)
from livermet.report_cells import arm_events, compared_types, leading_genes, malignant_patients, type_evidence
from livermet.report_data import (
    CELL_MODALITIES,
    CLINICAL,
    PatientRow,
    association_order,
    beyond_distance,
    interaction_summary,
    level_names,
    library_table,
    matrix_columns,
    neighbourhood_summary,
    patient_matrix,
    patients_in,
    reason_summary,
    records,
    refusal_summary,
    select_label,
    value_words,
)
from livermet.report_flow import flow_chart, patient_flow
from livermet.report_prediction import model_table, prediction_sentences, transport_table
from livermet.report_response import changes_view, codes_view, confounding_view, robustness_view
from livermet.report_sections import (
    contact_summary,
    invasion_tail,
    invasion_tests,
    margin_sensitivity,
    niche_agreement,
    section_table,
    spatial_genes,
)
from livermet.report_study import (
    COURSE_COLUMNS,
    DIFFERING_COLUMNS,
    findings_view,
    label_rows,
    main_labels,
    patient_labels,
)
from livermet.report_survival import (
    hazard_ratios,
    landmark_facts,
    median_times,
    refused_hazards,
    survival_summary,
)

logger = logging.getLogger(__name__)

MAX_THUMBNAIL_WIDTH = 760
BLINDED_HEADLINE = "Blinded, with permuted labels, so this is no result: "
MAX_ROWS = 400
PRIVATE_KEYS = ("study", "roots", "results", "batches", "trial", "scope")
FILE_KEYS = ("panel", "overrides", "reference", "celltypist_model", "gene_sets", "earlier", "folder")
MAX_LEADS = 60
MAX_CONTACTS = 40
MAX_SPATIAL_GENES = 10
MAX_SENSITIVITY = 8
MAX_ROBUST = 60
MAX_CHANGES = 60
MAX_MISSING = 40
MEASURED = {"cells": "single-cell library", "sections": "section"}

SCOPE_TABLES = (
    ("status.tsv", "each library of the scope: ok or excluded, and why"),
    ("findings.tsv", "findings on the libraries after quality control"),
    ("features.parquet", "one row per patient and feature"),
    ("features_left_out.tsv", "values that are missing from it, and why"),
    ("associations.tsv", "features against response, tested or refused"),
    ("response_filtered.tsv", "which features can be tested, whatever the label"),
    ("verdict.json", "what may be said, and what not"),
    ("robustness.tsv", "effects with and without adjustment, without each centre, and areas under the curve"),
    ("confounding.tsv", "the primary label against centre, batch, chemistry, sampling, regimen and tumour fraction"),
    ("changes.tsv", "changes within patients between timepoints"),
    ("survival.tsv", "times to an event against features, and facts from a landmark on"),
    ("survival_curves.tsv", "Kaplan-Meier curves with numbers at risk"),
    ("biomarkers.tsv", "blood against the primary label: alone, jointly, beyond the reference"),
    ("blood_measures.tsv", "every blood measure per patient with its days, or why it is missing"),
    ("blood_tissue.tsv", "declared pairs of blood and tissue"),
    ("predictors.tsv", "models of the primary label, against chance and between centres"),
    ("predictions.tsv", "probability of each patient by models that had not seen the patient"),
    ("prediction_null.tsv", "area under the curve of each permutation"),
    ("checklist.tsv", "items of REMARK and TRIPOD+AI, filled from the run"),
    ("clustering.tsv", "resolutions tried"),
    ("integration.tsv", "scores of the plain and the aligned embedding, and which was used"),
    ("markers.tsv", "genes that mark each group of cells"),
    ("annotation.tsv", "what speaks for each cell type and against it"),
    ("annotation_comparison.tsv", "agreement with a reference and a CellTypist model, where named"),
    ("annotation_agreement.tsv", "cells by our type and theirs"),
    ("annotation_labels.parquet", "their labels cell by cell"),
    ("overrides.tsv", "what the user's table of labels replaced"),
    ("cnv.tsv", "chromosome arms of each patient"),
    ("malignant.tsv", "malignant cells, subtypes, states and PurIST of each patient"),
    ("pdac_arms.tsv", "recurrent arm events and how often they are found"),
    ("differential.tsv", "every tested gene of every cell type against the primary label"),
    ("differential_tests.tsv", "each cell type with its design, or why it was not tested"),
    ("activity.tsv", "pathways and transcription factors per patient and type"),
    ("activity_contrast.tsv", "the same between the classes of the primary label"),
    ("niches.tsv", "niches and their composition"),
    ("niche_stability.tsv", "how well niches repeat, by their number"),
    ("niche_consensus.tsv", "agreement of both definitions of niches in each section"),
    ("niche_structure.tsv", "whether a niche clusters in a section beyond its distance to the border"),
    ("neighbourhood.tsv", "neighbours beside the distance-stratified null"),
    ("cooccurrence.tsv", "the same at several distances instead of between neighbours"),
    ("contacts.tsv", "distances between single cells beside the same null"),
    ("sections.tsv", "tumour, border and zones of each section"),
    ("zone_sensitivity.tsv", "margin against core for several half-widths of the margin"),
    ("growth_pattern.tsv", "growth pattern of each section beside the pathologist's"),
    ("invasion.tsv", "malignant cells of margin against core, by patient and programme"),
    ("invasion_tests.tsv", "the same over patients, tested or refused"),
    ("invasion_tail.tsv", "malignant cells beyond the border of each section"),
    ("invasion_vessels.tsv", "malignant cells beside vessels, beyond the border"),
    ("spatial_genes.tsv", "genes with a pattern in space, over patients"),
    ("distance_profiles.parquet", "types, states, programmes and genes by distance to the border"),
    ("interactions.tsv", "ligand-receptor scores per patient"),
)
MAPPING_TABLES = (
    ("mapping.tsv", "how the cells of each library were mapped onto the frozen reference"),
    ("mapping_findings.tsv", "libraries with many cells beyond it"),
)
STUDY_TABLES = (
    ("../study/findings.tsv", "findings on the study tables"),
    ("../study/labels.tsv", "labels per patient with the rows that they come from, or the reason why they are missing"),
    ("../study/recist.tsv", "each evaluation by RECIST 1.1 as computed, beside the one reported"),
    ("../study/consent.tsv", "patients enrolled, withdrawn, and without consent to omics"),
    ("../study/deviations.tsv", "patients who depart from the protocol, and the rules that say so"),
)

CONTENTS = (
    ("verdict", "Verdict"),
    ("flow", "Patients"),
    ("labels", "Labels"),
    ("findings", "Findings"),
    ("data", "Data per patient"),
    ("libraries", "Libraries"),
    ("qc", "Quality"),
    ("cells", "Cells"),
    ("composition", "Composition"),
    ("malignancy", "Malignancy"),
    ("expression", "Expression"),
    ("sections", "Sections"),
    ("niches", "Niches"),
    ("neighbourhood", "Neighbourhood"),
    ("invasion", "Invasion"),
    ("interactions", "Interactions"),
    ("response", "Response"),
    ("survival", "Survival"),
    ("blood", "Blood"),
    ("prediction", "Prediction"),
    ("checklist", "Reporting checklist"),
    ("methods", "Methods"),
    ("inputs", "Inputs and versions"),
    ("glossary", "Glossary"),
)


@dataclass(frozen=True)
class View:
    """A table as the template shows it."""

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Any, ...], ...]
    omitted: str = ""


@dataclass(frozen=True)
class CohortInputs:
    """All that the report of a scope is made of.

    Attributes
    ----------
    scope, title, simulated
        Name of the scope, heading, and whether the data were made by a program.
    tables
        ``patients``, ``samples``, ``libraries`` and the tables named in ``report_data.CLINICAL`` (checked study
        tables); ``labels``, ``recist``, ``consent``, ``deviations``, ``findings`` (on the tables); of the scope
        ``scope_findings`` (after quality control), ``status``, ``clustering``, ``integration`` (and ``mapping``,
        ``mapping_findings`` where cells were mapped onto a frozen reference), ``annotation``,
        ``annotation_comparison``, ``overrides``, ``cnv``, ``malignant``, ``pdac_arms``, ``differential``,
        ``differential_tests``, ``niches``, ``niche_stability``, ``neighbourhood``, ``interactions``, ``features``,
        ``features_left_out``, ``associations``, ``response_filtered``. An empty table is one with no rows.
    verdict
        What the response step states in words.
    figures
        PNG bytes by the figure's name.
    sections
        PNG bytes of the section panels by library.
    captions, drawn
        Caption sources by figure name (``section`` for the section panels), and what captions may use beside the
        config: params of the rules that drew the figures.
    params
        The config as it ran.
    run
        The run record, of which the page uses ``inputs``, ``tables``, ``versions``, ``seed`` and ``overlays`` alone:
        the rest may differ between equal runs.
    """

    scope: str
    title: str
    simulated: bool
    tables: Mapping[str, pd.DataFrame]
    verdict: Mapping[str, Any]
    figures: Mapping[str, bytes]
    sections: Mapping[str, bytes]
    captions: Mapping[str, str]
    drawn: Mapping[str, Any]
    params: Mapping[str, Any]
    run: Mapping[str, Any]


def cohort_page(inputs: CohortInputs) -> str:
    """HTML of the report of a scope.

    Raises
    ------
    ValueError
        If a caption cannot be rendered.
    """
    tables = inputs.tables
    response = inputs.params["response"]
    place = {"timepoints": response["timepoints"], "tissues": response["tissues"]}
    libraries = library_table(tables["libraries"], tables["samples"], tables["status"])
    declared = inputs.params["labels"]
    levels = level_names(declared)
    labels = select_label(tables["labels"], response["primary_label"], levels=levels)
    features = tables["features"]
    flows = {
        name: patient_flow(
            patients=tables["patients"],
            consent=tables["consent"],
            samples=tables["samples"],
            libraries=libraries,
            features=features,
            left_out=tables["features_left_out"],
            modalities=modalities,
            measured=MEASURED[name],
            **place,
        )
        for name, modalities in _modality_groups(libraries).items()
    }
    columns = matrix_columns(libraries)
    matrix = patient_matrix(
        patients=tables["patients"],
        libraries=libraries,
        columns=columns,
        labels=labels,
        features=features,
        clinical={name: patients_in(tables[name], tables["samples"]) for name in CLINICAL if name in tables},
        **place,
    )
    analysed = {name: flow.analysed for name, flow in flows.items()}
    main = main_labels(tables["labels"], primary=response["primary_label"], declared=declared)
    interactions, interaction_statuses = interaction_summary(tables["interactions"], top=60)
    associations = association_order(tables["associations"], limit=MAX_ROWS)
    status = tables["status"]
    params = _public(inputs.params)
    blinded = bool(inputs.params.get("blind"))
    after_qc = [tables[name] for name in ("scope_findings", "mapping_findings") if name in tables and len(tables[name])]
    html = template("cohort").render(
        page_title=inputs.title,
        title=inputs.title,
        scope=inputs.scope,
        simulated=inputs.simulated,
        blinded=blinded,
        descriptive=inputs.scope != "cohort",
        contents=CONTENTS,
        verdict={**inputs.verdict, "headline": f"{BLINDED_HEADLINE * blinded}{inputs.verdict['headline']}"},
        primary_label=response["primary_label"],
        per_class=_per_class(inputs.verdict, tables["labels"], levels),
        timepoints=place["timepoints"],
        tissues=place["tissues"],
        flows={name: (flow, flow_chart(flow)) for name, flow in flows.items()},
        labels=label_rows(tables["labels"], analysed=analysed, primary=response["primary_label"], declared=declared),
        main_labels=main,
        patient_labels=patient_labels(tables["labels"], tables["recist"], main=main, declared=declared),
        findings=findings_view(tables["findings"], pd.concat(after_qc or [tables["scope_findings"]])),
        course_columns=COURSE_COLUMNS,
        differing_columns=DIFFERING_COLUMNS,
        deviations=records(tables["deviations"]),
        max_rows=MAX_ROWS,
        columns=columns,
        column_groups=_groups(columns),
        clinical_names=CLINICAL,
        matrix=[(row, _parts(row.composition), _polarity(row)) for row in matrix],
        matrix_legend=_legend(matrix),
        status=records(status),
        status_counts=status["status"].value_counts().sort_index().to_dict(),
        modality_counts=status["modality"].value_counts().sort_index().to_dict(),
        cells_in=int(status.loc[status["modality"].isin(CELL_MODALITIES), "n_in"].sum()),
        cells_out=int(status.loc[status["modality"].isin(CELL_MODALITIES), "n_out"].sum()),
        spots_in=int(status.loc[~status["modality"].isin(CELL_MODALITIES), "n_in"].sum()),
        spots_out=int(status.loc[~status["modality"].isin(CELL_MODALITIES), "n_out"].sum()),
        n_patients=len(tables["patients"]),
        n_cell_patients=status.loc[
            status["modality"].isin(CELL_MODALITIES) & (status["status"] == "ok"), "patient_id"
        ].nunique(),
        n_cnv_patients=tables["cnv"].loc[tables["cnv"]["called"] != "not_tested", "patient_id"].nunique(),
        n_neighbourhood_patients=beyond_distance(tables["neighbourhood"])["patient_id"].nunique(),
        n_section_patients=status.loc[
            ~status["modality"].isin(CELL_MODALITIES) & (status["status"] == "ok"), "patient_id"
        ].nunique(),
        figure_of=_figures(inputs, params),
        sections_caption=_sections_caption(inputs, params),
        sections=_sections(inputs, status),
        clustering=_view(tables["clustering"]),
        integration=_view(tables["integration"]),
        mapping=_view(tables.get("mapping", pd.DataFrame())),
        types=_view(type_evidence(tables["annotation"])),
        comparison=_view(tables["annotation_comparison"]),
        overrides=_view(tables["overrides"]),
        malignant=_view(malignant_patients(tables["malignant"])),
        arm_events=_view(arm_events(tables["pdac_arms"])),
        expression_tests=_view(compared_types(tables["differential_tests"])),
        leads=_view(leading_genes(tables["differential"], fdr=response["fdr"], top=MAX_LEADS)),
        n_leads=int(tables["differential_tests"]["n_leads"].sum()),
        n_expression_tested=int((tables["differential_tests"]["status"] == "tested").sum()),
        section_table=_view(section_table(tables["sections"], tables["growth_pattern"])),
        sensitivity=_view(
            margin_sensitivity(
                tables["zone_sensitivity"], margin_um=float(params["spatial"]["margin_um"]), top=MAX_SENSITIVITY
            )
        ),
        niches=_niches(tables["niches"]),
        niche_stability=_view(tables["niche_stability"]),
        niche_agreement=_view(niche_agreement(tables["niche_consensus"])),
        n_structures=int((tables["niche_structure"]["status"] == "structure").sum()),
        contacts=_view(contact_summary(tables["contacts"], top=MAX_CONTACTS)),
        invasion=_view(invasion_tests(tables["invasion_tests"])),
        n_invasion_tested=int((tables["invasion_tests"]["status"] == "tested").sum()),
        tail=_view(invasion_tail(tables["invasion_tail"])),
        spatial_genes=_view(spatial_genes(tables["spatial_genes"], top=MAX_SPATIAL_GENES)),
        neighbourhood=_view(neighbourhood_summary(tables["neighbourhood"], top=40)),
        n_neighbourhood=int(tables["neighbourhood"]["z"].notna().sum()),
        interactions=_view(interactions),
        interaction_statuses=interaction_statuses,
        associations=_associations(associations),
        n_associations=len(tables["associations"]),
        n_tested=int((tables["associations"]["status"] == "tested").sum()),
        left_out=_view(reason_summary(tables["features_left_out"], by=["family", "reason"])),
        filtered=_view(reason_summary(tables["response_filtered"], by=["modality", "family", "reason"])),
        refusals=_view(refusal_summary(tables["associations"])),
        **_evidence(tables, response),
        params=_flat_params(params),
        p=params,
        run=inputs.run,
        overlays=[(batch, _words(_public(overlay))) for batch, overlay in sorted(inputs.run["overlays"].items())],
        input_files=_input_files(inputs.run),
    )
    logger.info("cohort page of scope %s: %.2f MB", inputs.scope, len(html.encode()) / 1e6)
    return html


def _evidence(tables: Mapping[str, pd.DataFrame], response: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of response beside the associations: how firm they are, survival, blood, prediction."""
    fdr, alpha = response["fdr"], response["alpha"] / response["planned_looks"]
    changes, survival, biomarkers = tables["changes"], tables["survival"], tables["biomarkers"]
    views = {
        "robustness": robustness_view(tables["robustness"], top=MAX_ROBUST),
        "confounding": confounding_view(tables["confounding"]),
        "changes": changes_view(changes, top=MAX_CHANGES),
        "change_refusals": refusal_summary(changes),
        "median_times": median_times(tables["survival_curves"]),
        "hazard_ratios": hazard_ratios(survival),
        "landmark_facts": landmark_facts(survival),
        "refused_hazards": refused_hazards(survival),
        "biomarkers": biomarker_table(biomarkers),
        "biomarkers_joint": joint_table(biomarkers),
        "biomarkers_added": added_table(biomarkers),
        "blood_tissue": pair_table(tables["blood_tissue"]),
        "blood_missing": missing_measures(tables["blood_measures"], top=MAX_MISSING),
        "blood_days": blood_days(tables["blood_measures"]),
        "prediction_models": model_table(tables["predictors"], tables["prediction_null"]),
        "prediction_transport": transport_table(tables["predictors"]),
        "refusal_codes": codes_view(),
    }
    return {
        **{name: _view(table) for name, table in views.items()},
        "survival_summary": survival_summary(survival, fdr=fdr),
        "blood_summary": biomarker_summary(biomarkers, fdr=fdr),
        "prediction_sentences": prediction_sentences(tables["predictors"], alpha=alpha),
        "checklist": {name: _view(checklist_view(tables["checklist"], name)) for name in (REMARK, TRIPOD, RUN)},
        "checklist_counts": status_counts(tables["checklist"]),
    }


def index_files(libraries: Sequence[Mapping[str, str]], *, mapped: bool = False) -> dict[str, list[tuple[str, str]]]:
    """What a scope's folder holds for people, as (path relative to it, what it is), by heading.

    Parameters
    ----------
    libraries
        ``library_id``, ``patient_id`` and ``modality`` of each library of the scope.
    mapped
        Whether cells were mapped onto a frozen reference.
    """
    ids = [(row["library_id"], f"{row['modality']}, patient {row['patient_id']}") for row in libraries]
    spatial = [row["library_id"] for row in libraries if row["modality"] not in CELL_MODALITIES]
    return {
        "Read": [("report.html", "the report: verdict, patients, figures, methods")],
        "Libraries": [(f"pages/{library}.html", what) for library, what in ids],
        "Tables": [*SCOPE_TABLES, *(MAPPING_TABLES if mapped else ()), *STUDY_TABLES],
        "Objects": [
            ("cells.h5ad", "all cells of the scope with types, states and malignant calls"),
            *((f"sections/{library}/spatial.h5ad", "section with zones and niches") for library in spatial),
            *((f"sections/{library}/abundance.parquet", "abundance of types per spot") for library in spatial),
        ],
        "Provenance": [("run.json", "inputs with checksums, config, versions, seeds, machine, time")],
    }


def index_page(
    *, title: str, scope: str, simulated: bool, files: Mapping[str, Sequence[tuple[str, str]]], blinded: bool = False
) -> str:
    """HTML of the plain index: headings, each with (relative path, what it is).

    Raises
    ------
    ValueError
        If a path is absolute: the folder must work wherever it is copied to.
    """
    for path in (path for group in files.values() for path, _ in group):
        if path.startswith("/") or ":" in path:
            raise ValueError(f"index: {path!r} is not relative; give paths as seen from the scope's folder")
    return template("index").render(
        page_title=title,
        title=title,
        scope=scope,
        simulated=simulated,
        blinded=blinded,
        descriptive=scope != "cohort",
        contents=[(f"part{i}", name) for i, name in enumerate(files)],
        files=files,
    )


def _figures(inputs: CohortInputs, params: Mapping[str, Any]) -> dict[str, Embedded]:
    offered = caption_params(params) | dict(inputs.drawn)
    return {
        name: embed(
            png,
            caption=render_caption(inputs.captions[name], params=offered, wildcards={"scope": inputs.scope}, name=name),
            alt=f"Figure: {name.replace('_', ' ')}, described in the caption below",
        )
        for name, png in sorted(inputs.figures.items())
    }


def _sections(inputs: CohortInputs, status: pd.DataFrame) -> list[tuple[dict[str, Any], Embedded]]:
    rows = {row["library_id"]: row for row in status.to_dict(orient="records")}
    return [
        (
            {**rows[library], "unit": keys.unit_of(rows[library]["modality"])},
            embed(png, caption=Markup(""), alt=f"Panels of section {library}", max_width=MAX_THUMBNAIL_WIDTH),
        )
        for library, png in sorted(inputs.sections.items())
        if rows[library]["status"] == "ok"
    ]


def _sections_caption(inputs: CohortInputs, params: Mapping[str, Any]) -> Markup:
    """The caption that all section panels share; empty if there are none."""
    if not inputs.sections:
        return Markup("")
    wildcards = {"scope": inputs.scope, "library": "of each library"}
    return render_caption(
        inputs.captions["section"],
        params=caption_params(params) | dict(inputs.drawn),
        wildcards=wildcards,
        name="section",
    )


def _modality_groups(libraries: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Cells and sections, where the study has them; a study without libraries has the patients alone."""
    present = set(libraries["modality"])
    spatial = tuple(sorted(present - set(CELL_MODALITIES)))
    groups = {"cells": tuple(m for m in CELL_MODALITIES if m in present), "sections": spatial}
    return {name: kinds for name, kinds in groups.items() if kinds}


def _per_class(
    verdict: Mapping[str, Any], labels: pd.DataFrame, levels: Mapping[str, Sequence[str]]
) -> list[tuple[str, int]]:
    """Patients per class of the primary label, classes in words."""
    name = verdict["label"]
    kinds = labels.loc[labels["label"] == name, "kind"]
    kind = kinds.iloc[0] if len(kinds) else "binary"
    classes = verdict["numbers"]["per_class"]
    return [(value_words(kind, value, levels=levels.get(name, ())), n) for value, n in classes.items()]


def _groups(columns: Sequence[Any]) -> list[tuple[str, int]]:
    """Header groups of the matrix: timepoint and how many columns it spans."""
    groups: list[list[Any]] = []
    for column in columns:
        if groups and groups[-1][0] == column.timepoint:
            groups[-1][1] += 1
        else:
            groups.append([column.timepoint, 1])
    return [(name, n) for name, n in groups]


def _parts(composition: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Rectangles of a composition bar on a scale of 100."""
    order = list(COMPARTMENT_COLOURS)
    tint = colours([*order, *(name for name, _ in composition)])
    parts, start = [], 0.0
    for name, share in sorted(
        composition, key=lambda part: (order.index(part[0]) if part[0] in order else 99, part[0])
    ):
        width = 100 * share
        parts.append(
            {"name": name, "share": share, "start": round(start, 2), "width": round(width, 2), "colour": tint[name]}
        )
        start += width
    return parts


def _legend(matrix: Sequence[PatientRow]) -> list[tuple[str, str]]:
    used = {name for row in matrix for name, _ in row.composition}
    order = [*COMPARTMENT_COLOURS, *sorted(used - set(COMPARTMENT_COLOURS))]
    tint = colours(order)
    return [(name, tint[name]) for name in order if name in used]


def _polarity(row: PatientRow) -> float | None:
    return None if row.classical is None or row.basal is None else row.basal - row.classical


def _niches(niches: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per niche with the types that are most enriched in it."""
    rows = []
    for niche, group in niches[niches["definition"] == "composition"].groupby("niche", sort=True):
        more = group[group["enrichment"] > 0]
        top = more.sort_values(["enrichment", "cell_type"], ascending=[False, True], kind="stable").head(5)
        rows.append(
            {
                "niche": niche,
                "name": group["name"].iloc[0],
                "n_spots": int(group["n_spots"].iloc[0]),
                "n_patients": int(group["n_patients"].iloc[0]),
                "confirmed": bool(group["confirmed"].iloc[0]),
                "match": str(group["match"].iloc[0]),
                "jaccard": float(group["jaccard"].iloc[0]),
                "types": [
                    (r["cell_type"], r["enrichment"], r["mean_abundance"]) for r in top.to_dict(orient="records")
                ],
            }
        )
    return rows


def _associations(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with the place of effect and interval on a common scale per kind of effect."""
    rows = records(table)
    reach: dict[str, float] = {}
    for row in rows:
        ends = [abs(row[key]) for key in ("ci_low", "ci_high", "effect") if is_finite(row[key])]
        if ends:
            reach[row["effect_kind"]] = max(reach.get(row["effect_kind"], 0.0), *ends)
    for row in rows:
        row["glyph"] = _glyph(row, reach.get(row["effect_kind"], 0.0))
    return rows


def _glyph(row: Mapping[str, Any], reach: float) -> dict[str, float] | None:
    """Interval on an axis from 0 to 100 with zero at 50."""
    if not reach or not all(is_finite(row[key]) for key in ("ci_low", "ci_high", "effect")):
        return None
    place = {
        name: round(50 + 46 * row[key] / reach, 1)
        for name, key in (("low", "ci_low"), ("high", "ci_high"), ("at", "effect"))
    }
    return place


def _view(table: pd.DataFrame) -> View:
    rows = tuple(tuple(row.values()) for row in records(table.head(MAX_ROWS)))
    omitted = f"The first {MAX_ROWS} of {len(table)} rows; all are in the table file." if len(table) > MAX_ROWS else ""
    return View(
        columns=tuple(str(name).replace("_", " ") for name in table.columns),
        numeric=tuple(map(is_numeric_dtype, table.dtypes)),
        rows=rows,
        omitted=omitted,
    )


def _public(params: Mapping[str, Any]) -> dict[str, Any]:
    """The config without its paths: those of the study are left out, files within a section keep their name alone."""
    return {
        key: {name: PurePath(str(item)).name if name in FILE_KEYS else item for name, item in value.items()}
        if isinstance(value, Mapping)
        else value
        for key, value in params.items()
        if key not in PRIVATE_KEYS
    }


def _flat_params(params: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Sections of the config as (key, value) pairs; single values come under "general"."""
    flat: dict[str, list[tuple[str, str]]] = {}
    for section, values in params.items():
        if isinstance(values, Mapping):
            pairs = [(str(key), _words(value)) for key, value in values.items()]
            flat[section] = pairs
        else:
            flat.setdefault("general", []).append((section, _words(values)))
    return {key: pairs for key, pairs in flat.items() if pairs}


def _words(value: Any) -> str:
    if value is None or value == "" or value == [] or value == {}:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{key} = {_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(f"({_words(item)})" if isinstance(item, Mapping) else _words(item) for item in value)
    return str(value)


def _input_files(run: Mapping[str, Any]) -> list[tuple[str, str, int, str]]:
    """(library, file, bytes, sha256)"""
    return [
        (library, file["name"], int(file["bytes"]), file["sha256"])
        for library, entry in sorted(run["inputs"].items())
        for file in entry["files"]
    ]
