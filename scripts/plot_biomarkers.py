"""Rule plot_biomarkers: every patient's course, areas under the ROC curve, and blood against tissue."""

from livermet.compared import read_label
from livermet.files import read_table
from livermet.plots.biomarkers import plot_areas, plot_courses, plot_tissue_pairs
from livermet.plots.style import save_figure
from livermet.snake import job_log

with job_log(snakemake):
    given, figures, options = snakemake.input, snakemake.output, snakemake.params.biomarkers
    label = read_label(read_table(given.labels), snakemake.params.response["primary_label"])
    first = [options["reference"], *options["joint"]]
    named = {"name": label.name, "binary": label.binary, "first": first}
    drawn = {
        figures.courses: plot_courses(read_table(given.courses), label.numbers, **named),
        figures.areas: plot_areas(
            read_table(given.biomarkers), reference=options["reference"], fdr=snakemake.params.response["fdr"]
        ),
        figures.tissue: plot_tissue_pairs(read_table(given.pairs), read_table(given.tissue)),
    }
    for path, figure in drawn.items():
        save_figure(figure, path, simulated=snakemake.params.simulated, blind=snakemake.params.blind)
