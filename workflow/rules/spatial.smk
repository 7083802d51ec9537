"""
Tissue sections.

Takes the kept spots of each section and the annotated cells of the scope; leaves, once per scope, the reference profiles
of the cell types, and per section the abundance of each type in each spot with intervals, the tumour mask, the signed
distance to the tumour-liver border in micrometres and the zones.
"""


rule build_reference:
    input:
        cells="<results>/{scope}/cells.h5ad",
    output:
        reference="<results>/{scope}/reference.h5ad",
    log:
        "<logs>/build_reference/{scope}.log",
    benchmark:
        "<benchmarks>/build_reference/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(4, 2000),
        runtime=minutes(20),
    params:
        code=script_digest("build_reference.py"),
        reference={
            key: config["spatial"][key] for key in ("min_reference_cells", "min_malignant_cells", "split_states")
        },
    message:
        "Reference profiles of cell types, {wildcards.scope}"
    script:
        "../../scripts/build_reference.py"


rule map_section:
    input:
        section="<results>/libraries/{library}/qc.h5ad",
        status="<results>/{scope}/status.tsv",
        reference="<results>/{scope}/reference.h5ad",
        boundary=lambda wc: library_row(wc.library)["boundary_path"] or [],
    output:
        section="<results>/{scope}/sections/{library}/zones.h5ad",
        abundance="<results>/{scope}/sections/{library}/abundance.parquet",
    log:
        "<logs>/map_section/{scope}/{library}.log",
    benchmark:
        "<benchmarks>/map_section/{scope}/{library}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(20, 2000),
        runtime=minutes(30),
    params:
        code=script_digest("map_section.py"),
        patient=lambda wc: library_row(wc.library)["patient_id"],
        library=lambda wc: {
            key: library_row(wc.library)[key] for key in ("library_id", "modality", "pixel_um", "boundary_path")
        },
        spatial={
            key: config["spatial"][key]
            for key in (
                "n_genes_per_type",
                "n_bootstrap",
                "min_label_confidence",
                "deconvolution",
                "cell2location",
                "neighbours",
                "neighbour_um",
                "tile_um",
                "min_component",
                "margin_um",
                "core_um",
                "distant_um",
            )
        },
        seed=config["seed"],
    message:
        "Abundances and zones of section {wildcards.library}, {wildcards.scope}"
    script:
        "../../scripts/map_section.py"
