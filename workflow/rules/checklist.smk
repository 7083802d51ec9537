"""
The reporting checklist of a scope.

Takes the tables of the study and of the response steps and the record of the run; leaves the items of REMARK and
TRIPOD+AI, each with what the run says to it, or that it is left to the authors. Tables of steps that do not run are not
asked for: their items say so.
"""


rule write_checklist:
    input:
        patients="<results>/study/tables/patients.tsv",
        samples="<results>/study/tables/samples.tsv",
        treatment="<results>/study/tables/treatment.tsv",
        labels="<results>/study/labels.tsv",
        consent="<results>/study/consent.tsv",
        status="<results>/{scope}/status.tsv",
        associations="<results>/{scope}/associations.tsv",
        left_out="<results>/{scope}/features_left_out.tsv",
        robustness="<results>/{scope}/robustness.tsv",
        confounding="<results>/{scope}/confounding.tsv",
        survival="<results>/{scope}/survival.tsv",
        biomarkers="<results>/{scope}/biomarkers.tsv",
        predictors="<results>/{scope}/predictors.tsv",
        verdict="<results>/{scope}/verdict.json",
        run="<results>/{scope}/run.json",
    output:
        checklist="<results>/{scope}/checklist.tsv",
    log:
        "<logs>/write_checklist/{scope}.log",
    benchmark:
        "<benchmarks>/write_checklist/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=minutes(10),
    params:
        code=script_digest("write_checklist.py"),
        response=config["response"],
        looks=lambda wc: earlier_states(wc.scope),
        blind=config["blind"],
    message:
        "Reporting checklist, {wildcards.scope}"
    script:
        "../../scripts/write_checklist.py"
