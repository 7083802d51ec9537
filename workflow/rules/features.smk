"""
Features of patients.

Takes the annotated cells, the table of malignant cells, the activity of gene sets, the sections with zones and niches,
the interactions and the blood values of a scope; leaves one long table (a value per patient, timepoint, tissue,
modality, family and feature) and a table of what was left out, with the reason. Counts of a patient are summed over
libraries before fractions are taken. No label is among the inputs: a feature that knew it would find itself.
"""


rule collect_features:
    input:
        cells="<results>/{scope}/cells.h5ad",
        malignant="<results>/{scope}/malignant.tsv",
        activity="<results>/{scope}/activity.tsv",
        sections=lambda wc: expand(
            "<results>/{scope}/sections/{library}/zones.h5ad",
            scope=wc.scope,
            library=libraries(wc.scope, "spatial"),
        ),
        niches="<results>/{scope}/niche_labels.parquet",
        neighbourhood="<results>/{scope}/neighbourhood.tsv",
        contacts="<results>/{scope}/contacts.tsv",
        growth="<results>/{scope}/growth_pattern.tsv",
        invasion="<results>/{scope}/invasion.tsv",
        tail="<results>/{scope}/invasion_tail.tsv",
        interactions="<results>/{scope}/interactions.tsv",
        blood="<results>/study/tables/blood.tsv",
        treatment="<results>/study/tables/treatment.tsv",
        local_treatment="<results>/study/tables/local_treatment.tsv",
    output:
        features="<results>/{scope}/features.parquet",
        left_out="<results>/{scope}/features_left_out.tsv",
    log:
        "<logs>/collect_features/{scope}.log",
    benchmark:
        "<benchmarks>/collect_features/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(6, 1500),
        runtime=minutes(20),
    params:
        code=script_digest("collect_features.py"),
        libraries=lambda wc: scope_rows(wc.scope, "all"),
        declared=config["features"]["spatial"],
        least={
            "min_spots": config["spatial"]["min_spots_per_zone"],
            "min_cells": config["spatial"]["min_cells_per_zone"],
        },
        windows=STUDY.trial.get("windows", {}),
    message:
        "Features per patient, {wildcards.scope}"
    script:
        "../../scripts/collect_features.py"
