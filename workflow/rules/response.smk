"""
Response: features against the declared primary label, the patient being the unit.

Takes the feature table, the labels and the design; leaves the associations (or refusals with their reasons), how they
stand without each centre, changes between timepoints, the label against the design, what was filtered, the verdict in
words, and figures. In the scope of a batch every association is refused: a batch is described.
"""

from livermet.catalogue import label_timepoints


rule test_response:
    input:
        features="<results>/{scope}/features.parquet",
        labels="<results>/study/labels.tsv",
        patients="<results>/study/tables/patients.tsv",
        deviations="<results>/study/deviations.tsv",
        treatment="<results>/study/tables/treatment.tsv",
    output:
        associations="<results>/{scope}/associations.tsv",
        robustness="<results>/{scope}/robustness.tsv",
        changes="<results>/{scope}/changes.tsv",
        confounding="<results>/{scope}/confounding.tsv",
        filtered="<results>/{scope}/response_filtered.tsv",
        verdict="<results>/{scope}/verdict.json",
    log:
        "<logs>/test_response/{scope}.log",
    benchmark:
        "<benchmarks>/test_response/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(50, 1500),
        runtime=minutes(30),
    params:
        code=script_digest("test_response.py"),
        response=config["response"],
        goes_with=label_timepoints(config["response"]["primary_label"], config["labels"]),
        signature=config["labels"].get(config["response"]["primary_label"], {}).get("genes", []),
        libraries=lambda wc: scope_rows(wc.scope, "all"),
        earlier_looks=lambda wc: earlier_looks(wc.scope),
        seed=config["seed"],
    message:
        "Associations with the primary label, {wildcards.scope}"
    script:
        "../../scripts/test_response.py"


rule plot_robustness:
    input:
        robustness="<results>/{scope}/robustness.tsv",
        changes="<results>/{scope}/changes.tsv",
        features="<results>/{scope}/features.parquet",
    output:
        robustness=report(
            "<results>/{scope}/figures/robustness.png",
            caption="../report/robustness.rst",
            category="Response",
            labels={"figure": "Effects without each centre"},
        ),
        changes=report(
            "<results>/{scope}/figures/changes.png",
            caption="../report/changes.rst",
            category="Response",
            labels={"figure": "Changes between timepoints"},
        ),
    log:
        "<logs>/plot_robustness/{scope}.log",
    benchmark:
        "<benchmarks>/plot_robustness/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(50, 1500),
        runtime=minutes(10),
    params:
        code=script_digest("plot_robustness.py"),
        response=config["response"],
        simulated=SIMULATED,
        blind=config["blind"],
    message:
        "Figures of robustness and of changes, {wildcards.scope}"
    script:
        "../../scripts/plot_robustness.py"


rule plot_response:
    input:
        associations="<results>/{scope}/associations.tsv",
        features="<results>/{scope}/features.parquet",
        labels="<results>/study/labels.tsv",
        patients="<results>/study/tables/patients.tsv",
    output:
        associations=report(
            "<results>/{scope}/figures/associations.png",
            caption="../report/associations.rst",
            category="Response",
            labels={"figure": "Effects of all features"},
        ),
        confirmatory=report(
            "<results>/{scope}/figures/confirmatory.png",
            caption="../report/confirmatory.rst",
            category="Response",
            labels={"figure": "Confirmatory features per patient"},
        ),
        power=report(
            "<results>/{scope}/figures/power.png",
            caption="../report/power.rst",
            category="Response",
            labels={"figure": "What could have been found"},
        ),
    log:
        "<logs>/plot_response/{scope}.log",
    benchmark:
        "<benchmarks>/plot_response/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(50, 1500),
        runtime=minutes(10),
    params:
        code=script_digest("plot_response.py"),
        response=config["response"],
        simulated=SIMULATED,
        blind=config["blind"],
    message:
        "Figures of response, {wildcards.scope}"
    script:
        "../../scripts/plot_response.py"
