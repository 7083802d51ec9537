"""Rule library_page: the page of one library, and the figure of its quality."""

import json
from pathlib import Path

import pandas as pd

from livermet.files import read_json, read_table, write_text
from livermet.h5read import read_obs, read_uns
from livermet.library_report import LibraryInputs, count_types, library_page, rare_abundances, total_abundances
from livermet.plots.qc import plot_library_qc
from livermet.plots.style import save_figure
from livermet.section_report import section_facts
from livermet.snake import job_log
from livermet.status import scope_statuses

with job_log(snakemake):
    given, params, library = snakemake.input, snakemake.params, snakemake.wildcards.library
    decided = read_table(given.scope_status)
    (status,) = scope_statuses([read_json(given.status)], decided)
    findings = read_table(given.findings)
    figure = plot_library_qc(read_table(given.table), status)
    save_figure(figure, snakemake.output.figure, simulated=params.simulated)
    figures, section, rare = {"library_qc": snakemake.output.figure}, [], []
    if given.cells:
        types = count_types(read_obs(given.cells[0], ["cell_type"], library=library)["cell_type"])
    else:
        figures["section"] = given.panel[0]
        abundance = pd.read_parquet(given.abundance[0], columns=["cell_type", "abundance"])
        types, rare = total_abundances(abundance), rare_abundances(abundance, modality=status["modality"])
        meta = read_uns(given.section[0], "livermet")
        tables = [read_table(path).set_index("library_id") for path in (*given.sections, *given.growth)]
        confusable = json.loads(meta.get("confusable", "[]"))
        section = section_facts(
            *(table.loc[library].to_dict() for table in tables),
            confusable,
            n_genes=int(meta.get("n_label_genes", 0)),
            rare=rare,
            polygon_notes=json.loads(meta.get("polygon_notes", "[]")),
        )
    inputs = LibraryInputs(
        scope=snakemake.wildcards.scope,
        simulated=params.simulated,
        blinded=params.blind,
        row=params.row,
        status=status,
        siblings=scope_statuses([read_json(path) for path in given.siblings], decided),
        warnings=findings.loc[(findings["value"] == library) & (findings["severity"] == "warning"), "message"].tolist(),
        figures={name: Path(path).read_bytes() for name, path in figures.items()},
        captions=params.captions,
        params=params.config,
        types=types,
        section=section,
        rare=rare,
        order=params.order,
    )
    write_text(library_page(inputs), snakemake.output.page)
