"""
Pages that people open, and the record of the run.

Takes the tables and figures of all steps; leaves one offline report per scope, one page per library, an index of the
scope's folder, and run.json, the only file that may differ between equal runs. No page holds a time, a machine or a path.
"""

from livermet.captions import read_captions
from livermet.tables import TABLES

# Captions are texts, not code: as params they make the pages run again when they are edited, whatever the file's time.
CAPTIONS = read_captions(HOME / "workflow" / "report")


rule record_run:
    input:
        counts=lambda wc: expand("<results>/libraries/{library}/counts.h5ad", library=libraries(wc.scope, "all")),
        tables=expand("<results>/study/tables/{table}.tsv", table=TABLES),
    output:
        record="<results>/{scope}/run.json",
    log:
        "<logs>/record_run/{scope}.log",
    benchmark:
        "<benchmarks>/record_run/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=minutes(10),
    params:
        code=script_digest("record_run.py"),
        config={key: value for key, value in config.items() if key != "scope"},
        overlays=STUDY.overlays,
        simulated=SIMULATED,
    message:
        "Record of inputs, config and versions, {wildcards.scope}"
    script:
        "../../scripts/record_run.py"


rule library_page:
    input:
        **{
            name: (lambda wc, path=path: [path] if wc.library in libraries(wc.scope, "spatial") else [])
            for name, path in {
                "panel": "<results>/{scope}/figures/sections/{library}.png",
                "section": "<results>/{scope}/sections/{library}/zones.h5ad",
                "sections": "<results>/{scope}/sections.tsv",
                "growth": "<results>/{scope}/growth_pattern.tsv",
            }.items()
        },
        scope_status="<results>/{scope}/status.tsv",
        findings="<results>/{scope}/findings.tsv",
        status="<results>/libraries/{library}/status.json",
        table="<results>/libraries/{library}/qc.tsv",
        siblings=lambda wc: expand("<results>/libraries/{library}/status.json", library=libraries(wc.scope, "all")),
        cells=lambda wc: ["<results>/{scope}/cells.h5ad"] if wc.library in libraries(wc.scope, "cells") else [],
        abundance=lambda wc: (
            ["<results>/{scope}/sections/{library}/abundance.parquet"]
            if wc.library in libraries(wc.scope, "spatial")
            else []
        ),
    output:
        page=report(
            "<results>/{scope}/pages/{library}.html",
            caption="../report/library_page.rst",
            category="Libraries",
            labels={"library": "{library}"},
        ),
        figure="<results>/{scope}/figures/libraries/{library}.png",
    log:
        "<logs>/library_page/{scope}/{library}.log",
    benchmark:
        "<benchmarks>/library_page/{scope}/{library}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=minutes(10),
    params:
        code=script_digest("library_page.py"),
        row=lambda wc: next(row for row in scope_rows(wc.scope, "all") if row["library_id"] == wc.library),
        order=lambda wc: libraries(wc.scope, "all"),
        captions={name: CAPTIONS[name] for name in ("library_qc", "section")},
        config=lambda wc: {
            "qc": library_config("qc", wc.library),
            "spatial": config["spatial"],
            "niches": config["niches"],
        },
        simulated=SIMULATED,
        blind=config["blind"],
    message:
        "Page of library {wildcards.library}, {wildcards.scope}"
    script:
        "../../scripts/library_page.py"


rule cohort_report:
    input:
        scope_tables=expand(
            "<results>/{{scope}}/{table}.tsv",
            table=[
                "status",
                "findings",
                "clustering",
                "integration",
                *(["mapping", "mapping_findings"] if config["reference"]["use"] else []),
                "annotation",
                "annotation_comparison",
                "overrides",
                "cnv",
                "malignant",
                "pdac_arms",
                "differential",
                "differential_tests",
                "niches",
                "niche_stability",
                "niche_consensus",
                "niche_structure",
                "neighbourhood",
                "contacts",
                "sections",
                "growth_pattern",
                "zone_sensitivity",
                "invasion_tests",
                "invasion_tail",
                "spatial_genes",
                "interactions",
                "features_left_out",
                "associations",
                "response_filtered",
                "robustness",
                "confounding",
                "changes",
                "survival",
                "survival_curves",
                "biomarkers",
                "blood_tissue",
                "blood_measures",
                "predictors",
                "prediction_null",
                "checklist",
            ],
        ),
        study_tables=[
            "<results>/study/findings.tsv",
            "<results>/study/labels.tsv",
            "<results>/study/recist.tsv",
            "<results>/study/consent.tsv",
            "<results>/study/deviations.tsv",
            *expand("<results>/study/tables/{table}.tsv", table=TABLES),
        ],
        features="<results>/{scope}/features.parquet",
        verdict="<results>/{scope}/verdict.json",
        run="<results>/{scope}/run.json",
        figures=expand(
            "<results>/{{scope}}/figures/{figure}.png",
            figure=[
                "qc_waterfall",
                "qc_metrics",
                "clustering",
                "integration",
                "umap",
                "marker_dotplot",
                "annotation",
                "annotation_agreement",
                "composition",
                "malignancy",
                "malignant_states",
                "volcano",
                "activity",
                "distance_profiles",
                "zone_composition",
                "niches",
                "niche_stability",
                "neighbourhood",
                "contacts",
                "growth_pattern",
                "invasion",
                "invasion_profiles",
                "invasion_tails",
                "spatial_genes",
                "interactions",
                "associations",
                "confirmatory",
                "power",
                "robustness",
                "changes",
                "survival_curves",
                "hazard_ratios",
                "blood_courses",
                "biomarkers",
                "blood_tissue",
                "prediction",
                "calibration",
            ],
        ),
        sections=lambda wc: expand(
            "<results>/{{scope}}/figures/sections/{library}.png", library=libraries(wc.scope, "spatial")
        ),
    output:
        report=report(
            "<results>/{scope}/report.html",
            caption="../report/cohort_report.rst",
            category="Report",
            labels={"page": "Report of {scope}"},
        ),
        index="<results>/{scope}/index.html",
    log:
        "<logs>/cohort_report/{scope}.log",
    benchmark:
        "<benchmarks>/cohort_report/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(6, 1500),
        runtime=minutes(15),
    params:
        code=script_digest("cohort_report.py"),
        config={key: value for key, value in config.items() if key != "scope"},
        report=config["report"],
        libraries=lambda wc: scope_rows(wc.scope, "all"),
        captions=CAPTIONS,
        drawn={"profiles": rules.plot_sections.params.profiles, "lines": rules.plot_invasion.params.lines},
        simulated=SIMULATED,
    message:
        "Report of scope {wildcards.scope}"
    script:
        "../../scripts/cohort_report.py"
