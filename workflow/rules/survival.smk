"""
Survival: features against times to an event, and what became known later from a landmark on.

Takes the feature table, the labels with their times, and the days on which things became known; leaves hazard ratios (or
refusals with their reasons), Kaplan-Meier curves, and figures. In the scope of a batch every comparison is refused.
"""

from livermet.catalogue import label_timepoints


rule test_survival:
    input:
        features="<results>/{scope}/features.parquet",
        labels="<results>/study/labels.tsv",
        patients="<results>/study/tables/patients.tsv",
        recist="<results>/study/recist.tsv",
        reported="<results>/study/tables/response.tsv",
        treatment="<results>/study/tables/treatment.tsv",
        local_treatment="<results>/study/tables/local_treatment.tsv",
    output:
        survival="<results>/{scope}/survival.tsv",
        curves="<results>/{scope}/survival_curves.tsv",
    log:
        "<logs>/test_survival/{scope}.log",
    benchmark:
        "<benchmarks>/test_survival/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(50, 1500),
        runtime=minutes(20),
    params:
        code=script_digest("test_survival.py"),
        survival=config["survival"],
        response=config["response"],
        goes_with={name: label_timepoints(name, {}) for name in config["survival"]["endpoints"]},
        trial={name: STUDY.trial.get(name, {}) for name in ("evaluation", "windows", "ca199")},
        libraries=lambda wc: scope_rows(wc.scope, "all"),
        earlier_looks=lambda wc: earlier_looks(wc.scope),
        seed=config["seed"],
    message:
        "Survival, {wildcards.scope}"
    script:
        "../../scripts/test_survival.py"


rule plot_survival:
    input:
        survival="<results>/{scope}/survival.tsv",
        curves="<results>/{scope}/survival_curves.tsv",
    output:
        curves=report(
            "<results>/{scope}/figures/survival_curves.png",
            caption="../report/survival_curves.rst",
            category="Survival",
            labels={"figure": "Kaplan-Meier curves"},
        ),
        hazards=report(
            "<results>/{scope}/figures/hazard_ratios.png",
            caption="../report/hazard_ratios.rst",
            category="Survival",
            labels={"figure": "Hazard ratios of all features"},
        ),
    log:
        "<logs>/plot_survival/{scope}.log",
    benchmark:
        "<benchmarks>/plot_survival/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=minutes(10),
    params:
        code=script_digest("plot_survival.py"),
        survival=config["survival"],
        response=config["response"],
        simulated=SIMULATED,
        blind=config["blind"],
    message:
        "Figures of survival, {wildcards.scope}"
    script:
        "../../scripts/plot_survival.py"
