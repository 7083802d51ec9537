"""
Quality control.

Takes the counts of one library; leaves its whole single cells (or the spots, bins or segmented cells of a section) with
metrics, doublet scores and the ambient profile, a table with the reason of each removal, and the library's status. Per
scope: a table of all statuses, what their counts tell of person and tissue, and figures of what was removed and what is
left.
"""


rule qc_library:
    input:
        counts="<results>/libraries/{library}/counts.h5ad",
    output:
        cells="<results>/libraries/{library}/qc.h5ad",
        table="<results>/libraries/{library}/qc.tsv",
        status="<results>/libraries/{library}/status.json",
    log:
        "<logs>/qc_library/{library}.log",
    benchmark:
        "<benchmarks>/qc_library/{library}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(20, 1500),
        runtime=minutes(15),
    params:
        code=script_digest("qc_library.py"),
        # Cells are called by ingest_library, the share of acinar counts is judged by collect_status.
        qc=lambda wc: {
            key: value
            for key, value in library_config("qc", wc.library).items()
            if key not in ("empty_max_counts", "calling_fdr", "calling_min_counts", "max_acinar_percent")
        },
        # What quality control depends on: a change elsewhere in the tables does not repeat it.
        row=lambda wc: {
            name: library_row(wc.library)[name] for name in ("library_id", "modality", "chemistry", "expected_cells")
        },
        seed=config["seed"],
    message:
        "QC of library {wildcards.library}"
    script:
        "../../scripts/qc_library.py"


rule collect_status:
    input:
        statuses=lambda wc: expand("<results>/libraries/{library}/status.json", library=libraries(wc.scope, "all")),
        cells=lambda wc: expand("<results>/libraries/{library}/qc.h5ad", library=libraries(wc.scope, "cells")),
    output:
        table="<results>/{scope}/status.tsv",
        findings="<results>/{scope}/findings.tsv",
    log:
        "<logs>/collect_status/{scope}.log",
    benchmark:
        "<benchmarks>/collect_status/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=minutes(10),
    params:
        code=script_digest("collect_status.py"),
        rows=lambda wc: scope_rows(wc.scope, "all"),
        cells=lambda wc: libraries(wc.scope, "cells"),
        min_genes_shared=config["integrate"]["min_genes_shared"],
        max_acinar_percent=lambda wc: {
            library: library_config("qc", library)["max_acinar_percent"] for library in libraries(wc.scope, "all")
        },
    message:
        "Status of all libraries, {wildcards.scope}"
    script:
        "../../scripts/collect_status.py"


rule plot_qc:
    input:
        status="<results>/{scope}/status.tsv",
        statuses=lambda wc: expand("<results>/libraries/{library}/status.json", library=libraries(wc.scope, "all")),
        tables=lambda wc: expand("<results>/libraries/{library}/qc.tsv", library=libraries(wc.scope, "all")),
    output:
        waterfall=report(
            "<results>/{scope}/figures/qc_waterfall.png",
            caption="../report/qc_waterfall.rst",
            category="Quality",
            labels={"figure": "Kept and removed per library"},
        ),
        metrics=report(
            "<results>/{scope}/figures/qc_metrics.png",
            caption="../report/qc_metrics.rst",
            category="Quality",
            labels={"figure": "Counts, genes and mitochondria"},
        ),
    log:
        "<logs>/plot_qc/{scope}.log",
    benchmark:
        "<benchmarks>/plot_qc/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=minutes(10),
    params:
        code=script_digest("plot_qc.py"),
        qc=config["qc"],
        simulated=SIMULATED,
    message:
        "Figures of quality control, {wildcards.scope}"
    script:
        "../../scripts/plot_qc.py"
