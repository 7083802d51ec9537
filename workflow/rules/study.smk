"""The study tables as the user gave them are checked; they leave typed tables, labels per patient and all findings.

Of the config, only what the tables are read by is a param here, so that no other setting makes this step run again.
What was found in the trial file and the overlays while the workflow was parsed is a param too.
In a blinded run labels and evaluations change places between patients of a centre, and what tells outcome is masked.
With errors it is the only job, so nothing waits for it: libraries that took its output as `ancient` would not be seen to
have changed in a run in which the check itself runs again.
"""

from livermet.tables import TABLES


rule check_study:
    input:
        **study_tables(),
        raw=lambda wc: raw_files(),
    output:
        findings="<results>/study/findings.tsv",
        labels="<results>/study/labels.tsv",
        recist="<results>/study/recist.tsv",
        consent="<results>/study/consent.tsv",
        deviations="<results>/study/deviations.tsv",
        tables=expand("<results>/study/tables/{table}.tsv", table=TABLES),
    log:
        "<logs>/check_study/study.log",
        findings="<logs>/check_study/findings.tsv",
    benchmark:
        "<benchmarks>/check_study/study.tsv"
    priority: 1
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(20, 500),
        runtime=minutes(10),
    params:
        code=script_digest("check_study.py"),
        study=config["study"],
        trial=STUDY.trial,
        labels=config["labels"],
        reading={
            **{name: config[name] for name in ("decimal", "roots", "not_personal")},
            "bin_um": config["spatial"]["bin_um"],
        },
        primary=config["response"]["primary_label"],
        setup=STUDY.setup_findings,
        blind=config["seed"] if config["blind"] else None,
    message:
        "Checking the study tables"
    script:
        "../../scripts/check_study.py"
