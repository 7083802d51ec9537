"""
Export of sections (only with `export: spatialdata`).

Takes the labelled section that people open; leaves the same as a SpatialData zarr folder, with the shapes of its spots,
bins or cells, their table and the tissue image in one coordinate system in micrometres.
"""


rule export_section:
    input:
        section="<results>/{scope}/sections/{library}/spatial.h5ad",
    output:
        zarr=directory("<results>/{scope}/sections/{library}/{library}.zarr"),
    log:
        "<logs>/export_section/{scope}/{library}.log",
    benchmark:
        "<benchmarks>/export_section/{scope}/{library}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(10, 2000),
        runtime=minutes(20),
    params:
        code=script_digest("export_section.py"),
        library=lambda wc: wc.library,
    message:
        "SpatialData of section {wildcards.library}, {wildcards.scope}"
    script:
        "../../scripts/export_section.py"
