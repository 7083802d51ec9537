"""
Niches and neighbourhoods.

Takes all mapped sections of a scope; leaves niches common to them by two definitions, with their composition,
stability, agreement and structure beyond distance; the neighbourhood of cell types in each section against a null
within distances to the border, their co-occurrence at several distances, and distances between single cells where they
are resolved; the labelled sections that people open, and figures of each section and of all.
"""


rule find_niches:
    input:
        sections=lambda wc: expand(
            "<results>/{{scope}}/sections/{library}/zones.h5ad", library=libraries(wc.scope, "spatial")
        ),
        earlier=lambda wc: config["niches"]["earlier"] or [],
    output:
        niches="<results>/{scope}/niches.tsv",
        labels="<results>/{scope}/niche_labels.parquet",
        stability="<results>/{scope}/niche_stability.tsv",
        consensus="<results>/{scope}/niche_consensus.tsv",
        structure="<results>/{scope}/niche_structure.tsv",
        neighbourhood="<results>/{scope}/neighbourhood.tsv",
        cooccurrence="<results>/{scope}/cooccurrence.tsv",
        contacts="<results>/{scope}/contacts.tsv",
    log:
        "<logs>/find_niches/{scope}.log",
    benchmark:
        "<benchmarks>/find_niches/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(4, 2000),
        runtime=minutes(240),
    params:
        code=script_digest("find_niches.py"),
        rows=lambda wc: [
            {key: row[key] for key in ("library_id", "patient_id", "timepoint", "tissue")}
            for row in scope_rows(wc.scope, "spatial")
        ],
        niches=config["niches"],
        neighbourhood=config["neighbourhood"],
        seed=config["seed"],
    message:
        "Niches and neighbourhoods, {wildcards.scope}"
    script:
        "../../scripts/find_niches.py"


rule growth_pattern:
    input:
        sections=lambda wc: expand(
            "<results>/{{scope}}/sections/{library}/zones.h5ad", library=libraries(wc.scope, "spatial")
        ),
        pathology="<results>/study/tables/pathology.tsv",
    output:
        growth="<results>/{scope}/growth_pattern.tsv",
        sections="<results>/{scope}/sections.tsv",
        sensitivity="<results>/{scope}/zone_sensitivity.tsv",
        figure=report(
            "<results>/{scope}/figures/growth_pattern.png",
            caption="../report/growth_pattern.rst",
            category="Sections",
            labels={"figure": "Growth pattern"},
        ),
    log:
        "<logs>/growth_pattern/{scope}.log",
    benchmark:
        "<benchmarks>/growth_pattern/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(4, 2000),
        runtime=minutes(20),
    params:
        code=script_digest("growth_pattern.py"),
        rows=lambda wc: [
            {key: row[key] for key in ("library_id", "sample_id", "patient_id", "timepoint", "tissue")}
            for row in scope_rows(wc.scope, "spatial")
        ],
        spatial=config["spatial"],
        simulated=SIMULATED,
    message:
        "Growth patterns, {wildcards.scope}"
    script:
        "../../scripts/growth_pattern.py"


rule label_section:
    input:
        section="<results>/{scope}/sections/{library}/zones.h5ad",
        labels="<results>/{scope}/niche_labels.parquet",
    output:
        section="<results>/{scope}/sections/{library}/spatial.h5ad",
    log:
        "<logs>/label_section/{scope}/{library}.log",
    benchmark:
        "<benchmarks>/label_section/{scope}/{library}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(10, 1500),
        runtime=minutes(20),
    params:
        code=script_digest("label_section.py"),
    message:
        "Labelled section {wildcards.library}, {wildcards.scope}"
    script:
        "../../scripts/label_section.py"


rule plot_section:
    input:
        section="<results>/{scope}/sections/{library}/spatial.h5ad",
        profiles="<results>/{scope}/sections/{library}/distance_profiles.parquet",
        niches="<results>/{scope}/niches.tsv",
    output:
        figure=report(
            "<results>/{scope}/figures/sections/{library}.png",
            caption="../report/section.rst",
            category="Sections",
            labels={"figure": "Section {library}"},
        ),
    log:
        "<logs>/plot_section/{scope}/{library}.log",
    benchmark:
        "<benchmarks>/plot_section/{scope}/{library}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(10, 1500),
        runtime=minutes(10),
    params:
        code=script_digest("plot_section.py"),
        title=lambda wc: wc.library,
        n_types=8,
        min_spots=3,
        spatial=config["spatial"],
        simulated=SIMULATED,
    message:
        "Figure of section {wildcards.library}, {wildcards.scope}"
    script:
        "../../scripts/plot_section.py"


rule plot_sections:
    input:
        sections=lambda wc: expand(
            "<results>/{{scope}}/sections/{library}/zones.h5ad", library=libraries(wc.scope, "spatial")
        ),
        niches="<results>/{scope}/niches.tsv",
        labels="<results>/{scope}/niche_labels.parquet",
        stability="<results>/{scope}/niche_stability.tsv",
        neighbourhood="<results>/{scope}/neighbourhood.tsv",
        consensus="<results>/{scope}/niche_consensus.tsv",
        contacts="<results>/{scope}/contacts.tsv",
        profiles="<results>/{scope}/distance_profiles.parquet",
    output:
        niches=report(
            "<results>/{scope}/figures/niches.png",
            caption="../report/niches.rst",
            category="Niches",
            labels={"figure": "Composition of niches"},
        ),
        stability=report(
            "<results>/{scope}/figures/niche_stability.png",
            caption="../report/niche_stability.rst",
            category="Niches",
            labels={"figure": "Stability of niches"},
        ),
        neighbourhood=report(
            "<results>/{scope}/figures/neighbourhood.png",
            caption="../report/neighbourhood.rst",
            category="Niches",
            labels={"figure": "Neighbours beyond distance"},
        ),
        contacts=report(
            "<results>/{scope}/figures/contacts.png",
            caption="../report/contacts.rst",
            category="Niches",
            labels={"figure": "Distances between single cells"},
        ),
        profiles=report(
            "<results>/{scope}/figures/distance_profiles.png",
            caption="../report/distance_profiles.rst",
            category="Sections",
            labels={"figure": "Cell types across the border"},
        ),
        zones=report(
            "<results>/{scope}/figures/zone_composition.png",
            caption="../report/zone_composition.rst",
            category="Sections",
            labels={"figure": "Composition by zone"},
        ),
    log:
        "<logs>/plot_sections/{scope}.log",
    benchmark:
        "<benchmarks>/plot_sections/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(4, 2000),
        runtime=minutes(20),
    params:
        code=script_digest("plot_sections.py"),
        rows=lambda wc: [
            {key: row[key] for key in ("library_id", "patient_id", "timepoint", "tissue")}
            for row in scope_rows(wc.scope, "spatial")
        ],
        min_ari=config["niches"]["min_ari"],
        min_spots=config["neighbourhood"]["min_spots"],
        zone_limits={
            "min_spots": config["spatial"]["min_spots_per_zone"],
            "min_cells": config["spatial"]["min_cells_per_zone"],
        },
        profiles={"min_spots": 3, "n_types": 16},
        invasion={key: config["invasion"][key] for key in ("bin_um", "spot_bin_um")},
        niches=config["niches"],
        spatial=config["spatial"],
        neighbourhood=config["neighbourhood"],
        simulated=SIMULATED,
    message:
        "Figures of all sections, {wildcards.scope}"
    script:
        "../../scripts/plot_sections.py"
