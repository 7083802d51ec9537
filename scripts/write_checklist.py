"""Rule write_checklist: the items of REMARK and TRIPOD+AI, filled from what the run knows."""

from livermet.checklist import Facts, fill_checklist
from livermet.files import read_json, read_table, write_table
from livermet.snake import job_log

with job_log(snakemake):
    given, params = dict(snakemake.input.items()), snakemake.params
    facts = Facts(
        tables={name: read_table(path) for name, path in given.items() if path.endswith(".tsv")},
        verdict=read_json(given["verdict"]),
        run=read_json(given["run"]),
        config=params.response,
        looks=params.looks,
        blind=params.blind,
    )
    write_table(fill_checklist(facts), snakemake.output.checklist)
