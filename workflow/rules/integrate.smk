"""
Integration.

Takes the kept single cells of all libraries of a scope; leaves one object over their common genes with embedding,
neighbour graph, clusters at a resolution chosen by stability, and a UMAP for display; scores of the embedding before and
after integration, which choose between the two; and a figure of them. Counts stay as they are.
"""


rule integrate_cells:
    input:
        cells=lambda wc: expand("<results>/libraries/{library}/qc.h5ad", library=libraries(wc.scope, "cells")),
        groups=lambda wc: expand("<results>/libraries/{library}/qc.tsv", library=libraries(wc.scope, "cells")),
        status="<results>/{scope}/status.tsv",
        earlier=lambda wc: config["integrate"]["earlier"] or [],
    output:
        cells="<results>/{scope}/integrated.h5ad",
        clustering="<results>/{scope}/clustering.tsv",
        scores="<results>/{scope}/integration.tsv",
        names="<results>/{scope}/cluster_names.tsv",
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


rule plot_integration:
    input:
        cells="<results>/{scope}/integrated.h5ad",
        groups=lambda wc: expand("<results>/libraries/{library}/qc.tsv", library=libraries(wc.scope, "cells")),
        scores="<results>/{scope}/integration.tsv",
    output:
        figure=report(
            "<results>/{scope}/figures/integration.png",
            caption="../report/integration.rst",
            category="Cells",
            labels={"figure": "Plain and integrated embedding"},
        ),
    log:
        "<logs>/plot_integration/{scope}.log",
    benchmark:
        "<benchmarks>/plot_integration/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(4, 1500),
        runtime=minutes(10),
    params:
        code=script_digest("plot_integration.py"),
        integrate=config["integrate"],
        seed=config["seed"],
        simulated=SIMULATED,
    message:
        "Figure of the integration of {wildcards.scope}"
    script:
        "../../scripts/plot_integration.py"
