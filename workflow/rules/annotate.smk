"""
Annotation.

Takes the integrated cells of a scope; leaves them with compartment, type, state, confidence and malignant call, the
marker evidence of each group of cells, the chromosome arms of each patient, and figures.
"""


rule annotate_cells:
    input:
        cells="<results>/{scope}/integrated.h5ad",
    output:
        cells="<results>/{scope}/cells.h5ad",
        markers="<results>/{scope}/markers.tsv",
        arms="<results>/{scope}/cnv.tsv",
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
        annotate=config["annotate"],
        cnv=config["cnv"],
        seed=config["seed"],
    message:
        "Annotation of the cells of {wildcards.scope}"
    script:
        "../../scripts/annotate_cells.py"


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
