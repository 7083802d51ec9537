"""Rule growth_pattern: border and growth pattern of all sections of a scope, beside the pathologist's reading."""

import anndata as ad
import pandas as pd

from livermet.files import read_table, write_table
from livermet.growth import growth_pattern, growth_table
from livermet.invasion import stacked
from livermet.plots.growth import plot_growth
from livermet.plots.style import save_figure
from livermet.section import section_of
from livermet.snake import job_log
from livermet.zones import SENSITIVITY_COLUMNS, SUMMARY_COLUMNS, border_lines, border_summary, margin_sensitivity

with job_log(snakemake):
    params, output = snakemake.params, snakemake.output
    spatial = params.spatial
    limits = {name: spatial[name] for name in ("core_um", "distant_um", "tile_um")}
    limits |= {"min_spots": spatial["min_spots_per_zone"], "min_cells": spatial["min_cells_per_zone"]}
    rows, summary, widths = [], [], []
    for path, row in zip(snakemake.input.sections, params.rows, strict=True):
        mapped = ad.read_h5ad(path)
        found = border_summary(mapped) | {"library_id": row["library_id"]}
        section, lines = section_of(mapped, row=row), border_lines(mapped)
        rows.append(row | growth_pattern(section, lines, min_mm=spatial["growth_min_mm"], reason=found["reason"]))
        summary.append(found)
        widths.append(margin_sensitivity(section, half_widths=spatial["margin_sensitivity_um"], **limits))
    table = growth_table(rows, pathology=read_table(snakemake.input.pathology))
    write_table(table, output.growth)
    write_table(pd.DataFrame(summary, columns=list(SUMMARY_COLUMNS)), output.sections)
    write_table(stacked(widths, SENSITIVITY_COLUMNS), output.sensitivity)
    save_figure(plot_growth(table, min_mm=spatial["growth_min_mm"]), output.figure, simulated=params.simulated)
