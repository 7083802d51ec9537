"""
Reading of raw libraries.

Takes the files that an instrument left for one library; leaves sparse integer counts with gene ids and symbols,
positions in micrometres and outlines of segmented cells, and the counts of the empty droplets where raw droplets were
given. Where these are all that was given, cells are called from them. A library that can't be read leaves counts without
cells, and the reason.
"""


rule ingest_library:
    input:
        files=lambda wc: library_files(wc.library),
    output:
        counts="<results>/libraries/{library}/counts.h5ad",
    log:
        "<logs>/ingest_library/{library}.log",
    benchmark:
        "<benchmarks>/ingest_library/{library}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(20, 1500),
        runtime=minutes(30),
    params:
        code=script_digest("ingest_library.py"),
        # What reading depends on: a change elsewhere in the tables reads no library again.
        row=lambda wc: {
            name: library_row(wc.library)[name]
            for name in ("library_id", "sample_id", "patient_id", "modality", "path", "raw_path", "pixel_um", "bin_um")
        },
        ingest=lambda wc: {
            name: library_config("qc", wc.library)[name]
            for name in ("empty_max_counts", "calling_fdr", "calling_min_counts")
        },
        seed=config["seed"],
        simulated=SIMULATED,
    message:
        "Reading library {wildcards.library}"
    script:
        "../../scripts/ingest_library.py"
