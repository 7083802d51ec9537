"""
Mapping onto a frozen reference (only with `reference: use`; takes the place of integration and annotation).

Takes the kept single cells of the libraries of a scope; leaves those that the reference holds exactly as they were
frozen, and the others with labels, confidence and out-of-reference score by it, under the earlier names of clusters;
a table of how each library was mapped, and warnings on libraries of which many cells are beyond the reference. Marker
evidence, resolutions and what shows the integration are those of the reference.
"""


ruleorder: map_cells > integrate_cells
ruleorder: map_cells > plot_integration
ruleorder: map_cells > annotate_cells


rule map_cells:
    input:
        cells=lambda wc: expand("<results>/libraries/{library}/qc.h5ad", library=libraries(wc.scope, "cells")),
        status="<results>/{scope}/status.tsv",
        manifest=f"{config['reference']['folder']}/{config['reference']['use']}/manifest.json",
        overrides=lambda wc: config["annotate"]["overrides"] or [],
    output:
        cells="<results>/{scope}/cells.h5ad",
        markers="<results>/{scope}/markers.tsv",
        arms="<results>/{scope}/cnv.tsv",
        clustering="<results>/{scope}/clustering.tsv",
        scores="<results>/{scope}/integration.tsv",
        names="<results>/{scope}/cluster_names.tsv",
        integration=report(
            "<results>/{scope}/figures/integration.png",
            caption="../report/integration.rst",
            category="Cells",
            labels={"figure": "Plain and integrated embedding, frozen"},
        ),
        overrides="<results>/{scope}/overrides.tsv",
        mapping="<results>/{scope}/mapping.tsv",
        findings="<results>/{scope}/mapping_findings.tsv",
    log:
        "<logs>/map_cells/{scope}.log",
    benchmark:
        "<benchmarks>/map_cells/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(12, 4000),
        runtime=minutes(60),
    params:
        code=script_digest("map_cells.py"),
        annotate={
            name: value
            for name, value in config["annotate"].items()
            if name not in ("reference", "reference_labels", "celltypist_model")
        },
        cnv=config["cnv"],
        min_genes_shared=config["integrate"]["min_genes_shared"],
        not_personal=config["not_personal"],
        reference={name: config["reference"][name] for name in ("max_out", "warn_share")},
        rows=lambda wc: scope_rows(wc.scope, "cells"),
        seed=config["seed"],
    message:
        "Mapping the cells of {wildcards.scope} onto the frozen reference"
    script:
        "../../scripts/map_cells.py"
