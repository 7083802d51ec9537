"""
Invasion.

Takes each mapped section with the reference profiles of its scope; leaves per section, and combined over patients, the
programmes of malignant cells at the margin against the core, their tail in the liver and its vessels, the spatially
variable genes and profiles over the distance to the border; and figures.
"""

from livermet.gene_sets import checked_path


rule measure_invasion:
    input:
        section="<results>/{scope}/sections/{library}/zones.h5ad",
        reference="<results>/{scope}/reference.h5ad",
        programmes=lambda wc: checked_path(config["invasion"]["programmes"], option="invasion.programmes"),
    output:
        programmes="<results>/{scope}/sections/{library}/invasion.parquet",
        tail="<results>/{scope}/sections/{library}/invasion_tail.parquet",
        curve="<results>/{scope}/sections/{library}/invasion_tail_curve.parquet",
        vessels="<results>/{scope}/sections/{library}/invasion_vessels.parquet",
        genes="<results>/{scope}/sections/{library}/spatial_genes.parquet",
        profiles="<results>/{scope}/sections/{library}/distance_profiles.parquet",
    log:
        "<logs>/measure_invasion/{scope}/{library}.log",
    benchmark:
        "<benchmarks>/measure_invasion/{scope}/{library}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(20, 2000),
        runtime=minutes(30),
    params:
        code=script_digest("measure_invasion.py"),
        row=lambda wc: {
            key: library_row(wc.library)[key]
            for key in ("library_id", "patient_id", "timepoint", "tissue", "modality")
        },
        invasion={
            key: config["invasion"][key]
            for key in ("programmes", "min_spots", "min_cells", "bin_um", "spot_bin_um", "genes")
        },
        genes={
            "min_malignant_share": config["invasion"]["min_malignant_share"],
            "ambient_top": config["differential"]["ambient_top"],
            "max_contamination": config["differential"]["max_contamination"],
        },
        tail={key: config["invasion"][key] for key in ("tail_um", "n_bootstrap")},
        vessels={key: config["invasion"][key] for key in ("tail_um", "vessel_um")},
        moran={
            "n_genes": config["invasion"]["n_spatial_genes"],
            "min_expressed": config["invasion"]["min_expressed"],
            "min_observations": config["invasion"]["min_spots_genes"],
        },
        seed=config["seed"],
    message:
        "Invasion in section {wildcards.library}, {wildcards.scope}"
    script:
        "../../scripts/measure_invasion.py"


rule combine_invasion:
    input:
        programmes=lambda wc: expand(
            "<results>/{{scope}}/sections/{library}/invasion.parquet", library=libraries(wc.scope, "spatial")
        ),
        tail=lambda wc: expand(
            "<results>/{{scope}}/sections/{library}/invasion_tail.parquet", library=libraries(wc.scope, "spatial")
        ),
        curve=lambda wc: expand(
            "<results>/{{scope}}/sections/{library}/invasion_tail_curve.parquet",
            library=libraries(wc.scope, "spatial"),
        ),
        vessels=lambda wc: expand(
            "<results>/{{scope}}/sections/{library}/invasion_vessels.parquet", library=libraries(wc.scope, "spatial")
        ),
        genes=lambda wc: expand(
            "<results>/{{scope}}/sections/{library}/spatial_genes.parquet", library=libraries(wc.scope, "spatial")
        ),
        profiles=lambda wc: expand(
            "<results>/{{scope}}/sections/{library}/distance_profiles.parquet", library=libraries(wc.scope, "spatial")
        ),
    output:
        patients="<results>/{scope}/invasion.tsv",
        tests="<results>/{scope}/invasion_tests.tsv",
        tail="<results>/{scope}/invasion_tail.tsv",
        vessels="<results>/{scope}/invasion_vessels.tsv",
        genes="<results>/{scope}/spatial_genes.tsv",
        curves="<results>/{scope}/invasion_tail_curves.parquet",
        sections="<results>/{scope}/invasion_sections.parquet",
        gene_sections="<results>/{scope}/spatial_genes_sections.parquet",
        profiles="<results>/{scope}/distance_profiles.parquet",
    log:
        "<logs>/combine_invasion/{scope}.log",
    benchmark:
        "<benchmarks>/combine_invasion/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(10, 2000),
        runtime=minutes(20),
    params:
        code=script_digest("combine_invasion.py"),
        tests={
            "min_patients": config["invasion"]["min_patients"],
            "alpha": config["response"]["alpha"],
            "n_permutations": config["response"]["n_permutations"],
            "seed": config["seed"],
        },
    message:
        "Invasion over patients, {wildcards.scope}"
    script:
        "../../scripts/combine_invasion.py"


rule plot_invasion:
    input:
        patients="<results>/{scope}/invasion.tsv",
        tests="<results>/{scope}/invasion_tests.tsv",
        tail="<results>/{scope}/invasion_tail.tsv",
        curves="<results>/{scope}/invasion_tail_curves.parquet",
        profiles="<results>/{scope}/distance_profiles.parquet",
        genes="<results>/{scope}/spatial_genes.tsv",
        gene_sections="<results>/{scope}/spatial_genes_sections.parquet",
    output:
        forest=report(
            "<results>/{scope}/figures/invasion.png",
            caption="../report/invasion.rst",
            category="Invasion",
            labels={"figure": "Margin against core"},
        ),
        tails=report(
            "<results>/{scope}/figures/invasion_tails.png",
            caption="../report/invasion_tails.rst",
            category="Invasion",
            labels={"figure": "Malignant cells beyond the border"},
        ),
        profiles=report(
            "<results>/{scope}/figures/invasion_profiles.png",
            caption="../report/invasion_profiles.rst",
            category="Invasion",
            labels={"figure": "Programmes across the border"},
        ),
        genes=report(
            "<results>/{scope}/figures/spatial_genes.png",
            caption="../report/spatial_genes.rst",
            category="Invasion",
            labels={"figure": "Spatially variable genes"},
        ),
    log:
        "<logs>/plot_invasion/{scope}.log",
    benchmark:
        "<benchmarks>/plot_invasion/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(10, 2000),
        runtime=minutes(10),
    params:
        code=script_digest("plot_invasion.py"),
        lines={"min_spots": 3, "top": 12},
        invasion=config["invasion"],
        spatial=config["spatial"],
        simulated=SIMULATED,
    message:
        "Figures of invasion, {wildcards.scope}"
    script:
        "../../scripts/plot_invasion.py"
