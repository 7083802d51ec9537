"""
Annotation.

Takes the integrated cells of a scope; leaves them with compartment, type, state, confidence and malignant call, the
marker evidence of each group of cells, the chromosome arms of each patient, what the user's overrides did, the evidence
for each type beside labels from elsewhere, and figures.
"""


rule annotate_cells:
    input:
        cells="<results>/{scope}/integrated.h5ad",
        overrides=lambda wc: config["annotate"]["overrides"] or [],
    output:
        cells="<results>/{scope}/cells.h5ad",
        markers="<results>/{scope}/markers.tsv",
        arms="<results>/{scope}/cnv.tsv",
        overrides="<results>/{scope}/overrides.tsv",
    log:
        "<logs>/annotate_cells/{scope}.log",
    benchmark:
        "<benchmarks>/annotate_cells/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(12, 2000),
        runtime=minutes(60),
    params:
        code=script_digest("annotate_cells.py"),
        annotate={
            name: value
            for name, value in config["annotate"].items()
            if name not in ("reference", "reference_labels", "celltypist_model")
        },
        cnv=config["cnv"],
        not_personal=config["not_personal"],
        seed=config["seed"],
    message:
        "Annotation of the cells of {wildcards.scope}"
    script:
        "../../scripts/annotate_cells.py"


rule compare_annotations:
    input:
        cells="<results>/{scope}/cells.h5ad",
        markers="<results>/{scope}/markers.tsv",
        reference=lambda wc: config["annotate"]["reference"] or [],
        model=lambda wc: config["annotate"]["celltypist_model"] or [],
    output:
        types="<results>/{scope}/annotation.tsv",
        comparison="<results>/{scope}/annotation_comparison.tsv",
        agreement="<results>/{scope}/annotation_agreement.tsv",
        labels="<results>/{scope}/annotation_labels.parquet",
    log:
        "<logs>/compare_annotations/{scope}.log",
    benchmark:
        "<benchmarks>/compare_annotations/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(8, 2000),
        runtime=minutes(30),
    params:
        code=script_digest("compare_annotations.py"),
        reference=config["annotate"]["reference"],
        reference_labels=config["annotate"]["reference_labels"],
        celltypist_model=config["annotate"]["celltypist_model"],
        seed=config["seed"],
    message:
        "Evidence for each cell type of {wildcards.scope}, beside labels from elsewhere"
    script:
        "../../scripts/compare_annotations.py"


rule plot_annotation:
    input:
        types="<results>/{scope}/annotation.tsv",
        comparison="<results>/{scope}/annotation_comparison.tsv",
        agreement="<results>/{scope}/annotation_agreement.tsv",
    output:
        types=report(
            "<results>/{scope}/figures/annotation.png",
            caption="../report/annotation.rst",
            category="Cells",
            labels={"figure": "Evidence for each cell type"},
        ),
        agreement=report(
            "<results>/{scope}/figures/annotation_agreement.png",
            caption="../report/annotation_agreement.rst",
            category="Cells",
            labels={"figure": "Agreement with labels from elsewhere"},
        ),
    log:
        "<logs>/plot_annotation/{scope}.log",
    benchmark:
        "<benchmarks>/plot_annotation/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=minutes(10),
    params:
        code=script_digest("plot_annotation.py"),
        annotate=config["annotate"],
        simulated=SIMULATED,
    message:
        "Figures of the evidence for each cell type of {wildcards.scope}"
    script:
        "../../scripts/plot_annotation.py"


rule plot_cells:
    input:
        cells="<results>/{scope}/cells.h5ad",
        arms="<results>/{scope}/cnv.tsv",
        clustering="<results>/{scope}/clustering.tsv",
    output:
        umap=report(
            "<results>/{scope}/figures/umap.png",
            caption="../report/umap.rst",
            category="Cells",
            labels={"figure": "UMAP of all cells"},
        ),
        markers=report(
            "<results>/{scope}/figures/marker_dotplot.png",
            caption="../report/marker_dotplot.rst",
            category="Cells",
            labels={"figure": "Marker genes of the cell types"},
        ),
        composition=report(
            "<results>/{scope}/figures/composition.png",
            caption="../report/composition.rst",
            category="Cells",
            labels={"figure": "Cell types per patient"},
        ),
        malignancy=report(
            "<results>/{scope}/figures/malignancy.png",
            caption="../report/malignancy.rst",
            category="Cells",
            labels={"figure": "Copy number and malignant cells"},
        ),
        clustering=report(
            "<results>/{scope}/figures/clustering.png",
            caption="../report/clustering.rst",
            category="Cells",
            labels={"figure": "Stability of the clusters"},
        ),
    log:
        "<logs>/plot_cells/{scope}.log",
    benchmark:
        "<benchmarks>/plot_cells/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(8, 1500),
        runtime=minutes(20),
    params:
        code=script_digest("plot_cells.py"),
        annotate=config["annotate"],
        cnv=config["cnv"],
        integrate=config["integrate"],
        max_cells_plotted=config["report"]["max_cells_plotted"],
        n_markers=3,
        simulated=SIMULATED,
    message:
        "Figures of the cells of {wildcards.scope}"
    script:
        "../../scripts/plot_cells.py"
