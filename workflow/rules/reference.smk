"""
Frozen reference.

Takes the annotated cells of the scope; leaves them, with labels and embedding, in a folder of their own under the name
`reference: freeze`, outside the results. That folder is never overwritten, so that it is no output of a rule: what
Snakemake knows of it is a copy of its manifest. Runs only when it is asked for: `snakemake ... freeze_reference`.
"""


rule freeze_reference:
    input:
        cells=f"<results>/{SCOPE}/cells.h5ad",
        markers=f"<results>/{SCOPE}/markers.tsv",
        copied=[
            f"<results>/{SCOPE}/{name}"
            for name in ("markers.tsv", "cnv.tsv", "clustering.tsv", "integration.tsv", "figures/integration.png")
        ],
        libraries=expand("<results>/libraries/{library}/qc.h5ad", library=libraries(SCOPE, "cells")),
    output:
        record=f"<results>/{SCOPE}/frozen/{config['reference']['freeze'] or 'unnamed'}.json",
    log:
        f"<logs>/freeze_reference/{SCOPE}.log",
    benchmark:
        f"<benchmarks>/freeze_reference/{SCOPE}.tsv"
    conda:
        "../../envs/livermet.yaml"
    threads: 1
    resources:
        mem_mb=memory(8, 2000),
        runtime=minutes(30),
    params:
        code=script_digest("freeze_reference.py"),
        name=config["reference"]["freeze"],
        folder=config["reference"]["folder"],
        libraries=libraries(SCOPE, "cells"),
        config={
            "annotate": {
                name: value
                for name, value in config["annotate"].items()
                if name not in ("overrides", "reference", "reference_labels", "celltypist_model")
            },
            "cnv": config["cnv"],
        },
        seed=config["seed"],
    message:
        f"Freezing the cells of {SCOPE} as {config['reference']['freeze']}"
    script:
        "../../scripts/freeze_reference.py"
