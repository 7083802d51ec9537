"""
Differential expression and activity of gene sets.

Takes the annotated cells, the ambient profile of each library, the labels and the design; leaves the activity of gene
sets per patient, every tested gene of every cell type, one row per type with the design or the reason of a refusal, the
activity of gene sets in the contrast, and figures. The patient is the unit: a patient's cells of a type are summed. In
the scope of a batch no type is compared. Activity per patient is a feature of the response step, so its rule sees no
label.
"""

from livermet.catalogue import label_timepoints
from livermet.gene_sets import checked_path


rule score_activity:
    input:
        cells="<results>/{scope}/cells.h5ad",
        libraries=lambda wc: expand("<results>/libraries/{library}/qc.h5ad", library=libraries(wc.scope, "cells")),
        gene_sets=lambda wc: checked_path(config["differential"]["gene_sets"]),
    output:
        activity="<results>/{scope}/activity.tsv",
    log:
        "<logs>/score_activity/{scope}.log",
    benchmark:
        "<benchmarks>/score_activity/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(6, 2000),
        runtime=minutes(60),
    params:
        code=script_digest("score_activity.py"),
        differential=config["differential"],
    message:
        "Activity of gene sets per patient and cell type, {wildcards.scope}"
    script:
        "../../scripts/score_activity.py"


rule differential_expression:
    input:
        cells="<results>/{scope}/cells.h5ad",
        libraries=lambda wc: expand("<results>/libraries/{library}/qc.h5ad", library=libraries(wc.scope, "cells")),
        activity="<results>/{scope}/activity.tsv",
        labels="<results>/study/labels.tsv",
        patients="<results>/study/tables/patients.tsv",
        gene_sets=lambda wc: checked_path(config["differential"]["gene_sets"]),
    output:
        genes="<results>/{scope}/differential.tsv",
        tests="<results>/{scope}/differential_tests.tsv",
        contrast="<results>/{scope}/activity_contrast.tsv",
    log:
        "<logs>/differential_expression/{scope}.log",
    benchmark:
        "<benchmarks>/differential_expression/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(6, 2000),
        runtime=minutes(240),
    params:
        code=script_digest("differential_expression.py"),
        differential=config["differential"],
        response={
            key: config["response"][key]
            for key in (
                "primary_label",
                "timepoints",
                "tissues",
                "fdr",
                "n_permutations",
                "look",
                "planned_looks",
                "min_patients_per_arm",
            )
        },
        earlier_looks=lambda wc: earlier_looks(wc.scope),
        goes_with=label_timepoints(config["response"]["primary_label"], config["labels"]),
        libraries=lambda wc: scope_rows(wc.scope, "cells"),
        seed=config["seed"],
    message:
        "Differential expression per cell type, {wildcards.scope}"
    script:
        "../../scripts/differential_expression.py"


rule plot_differential:
    input:
        genes="<results>/{scope}/differential.tsv",
        tests="<results>/{scope}/differential_tests.tsv",
        activity="<results>/{scope}/activity.tsv",
        contrast="<results>/{scope}/activity_contrast.tsv",
    output:
        volcano=report(
            "<results>/{scope}/figures/volcano.png",
            caption="../report/volcano.rst",
            category="Expression",
            labels={"figure": "Differential expression per cell type"},
        ),
        activity=report(
            "<results>/{scope}/figures/activity.png",
            caption="../report/activity.rst",
            category="Expression",
            labels={"figure": "Pathways and transcription factors per cell type"},
        ),
    log:
        "<logs>/plot_differential/{scope}.log",
    benchmark:
        "<benchmarks>/plot_differential/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(10, 1500),
        runtime=minutes(20),
    params:
        code=script_digest("plot_differential.py"),
        primary_label=config["response"]["primary_label"],
        fdr=config["response"]["fdr"],
        differential=config["differential"],
        simulated=SIMULATED,
        blind=config["blind"],
    message:
        "Figures of expression and activity, {wildcards.scope}"
    script:
        "../../scripts/plot_differential.py"
