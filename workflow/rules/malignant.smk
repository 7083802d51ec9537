"""
Malignant cells.

Takes the annotated cells and the chromosome arms of a scope; leaves one row per patient, timepoint, tissue and modality
(numbers, arms, PurIST, subtypes and states with intervals), how often each recurrent arm event is found, and a figure.
"""


rule summarise_malignant:
    input:
        cells="<results>/{scope}/cells.h5ad",
        arms="<results>/{scope}/cnv.tsv",
    output:
        table="<results>/{scope}/malignant.tsv",
        pdac="<results>/{scope}/pdac_arms.tsv",
    log:
        "<logs>/summarise_malignant/{scope}.log",
    benchmark:
        "<benchmarks>/summarise_malignant/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(6, 1500),
        runtime=minutes(20),
    params:
        code=script_digest("summarise_malignant.py"),
        malignant=config["malignant"],
        min_state_z=config["annotate"]["min_state_z"],
        seed=config["seed"],
    message:
        "Malignant cells per patient, {wildcards.scope}"
    script:
        "../../scripts/summarise_malignant.py"


rule plot_malignant:
    input:
        table="<results>/{scope}/malignant.tsv",
    output:
        figure=report(
            "<results>/{scope}/figures/malignant_states.png",
            caption="../report/malignant_states.rst",
            category="Cells",
            labels={"figure": "States of malignant cells per patient"},
        ),
    log:
        "<logs>/plot_malignant/{scope}.log",
    benchmark:
        "<benchmarks>/plot_malignant/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=minutes(10),
    params:
        code=script_digest("plot_malignant.py"),
        malignant=config["malignant"],
        annotate=config["annotate"],
        simulated=SIMULATED,
    message:
        "Figure of malignant states, {wildcards.scope}"
    script:
        "../../scripts/plot_malignant.py"
