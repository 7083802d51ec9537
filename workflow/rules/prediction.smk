"""
Prediction: whether declared features tell more of the primary label than clinical variables do.

Takes the feature table, the labels and the study table; leaves models by nested cross-validation beside their permutation
null, each centre predicted by the others, the probability of each patient, and figures. In the scope of a batch every
model is refused.
"""

from livermet.catalogue import label_timepoints


rule predict_response:
    input:
        features="<results>/{scope}/features.parquet",
        labels="<results>/study/labels.tsv",
        patients="<results>/study/tables/patients.tsv",
    output:
        predictors="<results>/{scope}/predictors.tsv",
        predictions="<results>/{scope}/predictions.tsv",
        null="<results>/{scope}/prediction_null.tsv",
    log:
        "<logs>/predict_response/{scope}.log",
    benchmark:
        "<benchmarks>/predict_response/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(50, 1500),
        runtime=minutes(120),
    params:
        code=script_digest("predict_response.py"),
        response={
            key: config["response"][key]
            for key in (
                "primary_label",
                "timepoints",
                "tissues",
                "confirmatory",
                "alpha",
                "look",
                "planned_looks",
                "min_mean_cells",
                "max_zero_fraction",
            )
        },
        prediction=config["prediction"],
        goes_with=label_timepoints(config["response"]["primary_label"], config["labels"]),
        earlier_looks=lambda wc: earlier_looks(wc.scope),
        libraries=lambda wc: scope_rows(wc.scope, "all"),
        seed=config["seed"],
    message:
        "Models of the primary label, {wildcards.scope}"
    script:
        "../../scripts/predict_response.py"


rule plot_prediction:
    input:
        predictors="<results>/{scope}/predictors.tsv",
        predictions="<results>/{scope}/predictions.tsv",
        null="<results>/{scope}/prediction_null.tsv",
    output:
        models=report(
            "<results>/{scope}/figures/prediction.png",
            caption="../report/prediction.rst",
            category="Response",
            labels={"figure": "Prediction of unseen patients"},
        ),
        calibration=report(
            "<results>/{scope}/figures/calibration.png",
            caption="../report/calibration.rst",
            category="Response",
            labels={"figure": "Calibration of the predictions"},
        ),
    log:
        "<logs>/plot_prediction/{scope}.log",
    benchmark:
        "<benchmarks>/plot_prediction/{scope}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(50, 1500),
        runtime=minutes(10),
    params:
        code=script_digest("plot_prediction.py"),
        response={"primary_label": config["response"]["primary_label"]},
        prediction=config["prediction"],
        simulated=SIMULATED,
        blind=config["blind"],
    message:
        "Figures of prediction, {wildcards.scope}"
    script:
        "../../scripts/plot_prediction.py"
