"""Rule plot_sections: figures over all sections of a scope: niches, neighbourhoods, distance profiles, zones."""

import anndata as ad
import pandas as pd

from livermet.files import read_table
from livermet.plots import contacts, spatial
from livermet.plots.style import save_figure
from livermet.section import section_of
from livermet.snake import job_log

with job_log(snakemake):
    inputs, params = snakemake.input, snakemake.params
    sections = [section_of(ad.read_h5ad(path), row=row) for path, row in zip(inputs.sections, params.rows, strict=True)]
    patients = {row["library_id"]: row["patient_id"] for row in params.rows}
    figures = {
        "niches": spatial.plot_niches(
            read_table(inputs.niches), pd.read_parquet(inputs.labels), patients, read_table(inputs.consensus)
        ),
        "stability": spatial.plot_stability(read_table(inputs.stability), min_ari=params.min_ari),
        "neighbourhood": spatial.plot_neighbourhood(read_table(inputs.neighbourhood), min_spots=params.min_spots),
        "contacts": contacts.plot_contacts(read_table(inputs.contacts)),
        "profiles": spatial.plot_distance_profiles(pd.read_parquet(inputs.profiles), **params.profiles),
        "zones": spatial.plot_zones(sections, **params.zone_limits),
    }
    for name, figure in figures.items():
        save_figure(figure, snakemake.output[name], simulated=params.simulated)
