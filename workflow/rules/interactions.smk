"""
Ligand-receptor interactions to and from malignant cells.

Takes the annotated cells, the ambient profile of each library and the neighbourhood enrichment of the sections; leaves
one table of edges per patient, timepoint, tissue and modality, with magnitude, specificity, status and evidence grade,
and a figure of the strongest ones.
"""


rule score_interactions:
    input:
        cells="<results>/{scope}/cells.h5ad",
        neighbourhood="<results>/{scope}/neighbourhood.tsv",
        libraries=lambda wc: expand("<results>/libraries/{library}/qc.h5ad", library=libraries(wc.scope, "cells")),
        panel=lambda wc: config["interactions"]["panel"] or [],
    output:
        table="<results>/{scope}/interactions.tsv",
    log:
        "<logs>/score_interactions/{scope}.log",
    benchmark:
        "<benchmarks>/score_interactions/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(8, 2000),
        runtime=minutes(60),
    params:
        code=script_digest("score_interactions.py"),
        interactions=config["interactions"],
        seed=config["seed"],
    message:
        "Ligand-receptor interactions per patient, {wildcards.scope}"
    script:
        "../../scripts/score_interactions.py"


rule plot_interactions:
    input:
        table="<results>/{scope}/interactions.tsv",
    output:
        figure=report(
            "<results>/{scope}/figures/interactions.png",
            caption="../report/interactions.rst",
            category="Interactions",
            labels={"figure": "Strongest ligand-receptor edges"},
        ),
    log:
        "<logs>/plot_interactions/{scope}.log",
    benchmark:
        "<benchmarks>/plot_interactions/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=minutes(10),
    params:
        code=script_digest("plot_interactions.py"),
        interactions=config["interactions"],
        n_edges=25,
        simulated=SIMULATED,
    message:
        "Figure of interactions, {wildcards.scope}"
    script:
        "../../scripts/plot_interactions.py"
