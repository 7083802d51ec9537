"""
Blood biomarkers: analytes and indices against the primary label, and against tissue, the patient being the unit.

Takes the blood table with the course of treatment, the labels and the feature table; leaves what each analyte tells of
the label alone, jointly and beyond the reference, its correlation with declared features of tissue, every value with its
day, and figures. In the scope of a batch every comparison is refused: a batch is described.
"""

from livermet.catalogue import label_timepoints


rule test_biomarkers:
    input:
        blood="<results>/study/tables/blood.tsv",
        patients="<results>/study/tables/patients.tsv",
        treatment="<results>/study/tables/treatment.tsv",
        local_treatment="<results>/study/tables/local_treatment.tsv",
        labels="<results>/study/labels.tsv",
        features="<results>/{scope}/features.parquet",
    output:
        biomarkers="<results>/{scope}/biomarkers.tsv",
        tissue="<results>/{scope}/blood_tissue.tsv",
        pairs="<results>/{scope}/blood_tissue_values.tsv",
        audit="<results>/{scope}/blood_measures.tsv",
        courses="<results>/{scope}/blood_courses.tsv",
    log:
        "<logs>/test_biomarkers/{scope}.log",
    benchmark:
        "<benchmarks>/test_biomarkers/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(50, 1500),
        runtime=minutes(30),
    params:
        code=script_digest("test_biomarkers.py"),
        response=config["response"],
        biomarkers=config["biomarkers"],
        trial={name: STUDY.trial.get(name, {}) for name in ("ca199", "windows")},
        goes_with=label_timepoints(config["response"]["primary_label"], config["labels"]),
        earlier_looks=lambda wc: earlier_looks(wc.scope),
        seed=config["seed"],
    message:
        "Blood biomarkers, {wildcards.scope}"
    script:
        "../../scripts/test_biomarkers.py"


rule plot_biomarkers:
    input:
        labels="<results>/study/labels.tsv",
        biomarkers="<results>/{scope}/biomarkers.tsv",
        tissue="<results>/{scope}/blood_tissue.tsv",
        pairs="<results>/{scope}/blood_tissue_values.tsv",
        courses="<results>/{scope}/blood_courses.tsv",
    output:
        courses=report(
            "<results>/{scope}/figures/blood_courses.png",
            caption="../report/blood_courses.rst",
            category="Blood",
            labels={"figure": "Course of each patient"},
        ),
        areas=report(
            "<results>/{scope}/figures/biomarkers.png",
            caption="../report/biomarkers.rst",
            category="Blood",
            labels={"figure": "Analytes and the primary label"},
        ),
        tissue=report(
            "<results>/{scope}/figures/blood_tissue.png",
            caption="../report/blood_tissue.rst",
            category="Blood",
            labels={"figure": "Blood against tissue"},
        ),
    log:
        "<logs>/plot_biomarkers/{scope}.log",
    benchmark:
        "<benchmarks>/plot_biomarkers/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(50, 1500),
        runtime=minutes(10),
    params:
        code=script_digest("plot_biomarkers.py"),
        response=config["response"],
        biomarkers=config["biomarkers"],
        simulated=SIMULATED,
        blind=config["blind"],
    message:
        "Figures of blood, {wildcards.scope}"
    script:
        "../../scripts/plot_biomarkers.py"
