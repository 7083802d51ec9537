"""
Integration.

Takes the kept single cells of all libraries of a scope; leaves one object over their common genes with embedding,
neighbour graph, clusters at a resolution chosen by stability, and a UMAP for display. Counts stay as they are.
"""


rule integrate_cells:
    input:
        cells=lambda wc: expand("<results>/libraries/{library}/qc.h5ad", library=libraries(wc.scope, "cells")),
        status="<results>/{scope}/status.tsv",
    output:
        cells="<results>/{scope}/integrated.h5ad",
        clustering="<results>/{scope}/clustering.tsv",
    log:
        "<logs>/integrate_cells/{scope}.log",
    benchmark:
        "<benchmarks>/integrate_cells/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(12, 2000),
        runtime=minutes(60),
    params:
        code=script_digest("integrate_cells.py"),
        integrate=config["integrate"],
        rows=lambda wc: scope_rows(wc.scope, "cells"),
        seed=config["seed"],
    message:
        "Integration of the cells of {wildcards.scope}"
    script:
        "../../scripts/integrate_cells.py"
