"""Rule map_section: abundances, tumour mask, signed distance to the border and zones of one section."""

import logging

import anndata as ad

from livermet.contents import section_contents
from livermet.deconvolve import profiles_of_patient
from livermet.files import read_table, write_h5ad, write_parquet
from livermet.polygon import section_outline
from livermet.section import scope_section
from livermet.snake import job_log
from livermet.zones import ZONE_OPTIONS, map_section

with job_log(snakemake):
    options = snakemake.params.spatial
    status = read_table(snakemake.input.status).set_index("library_id").loc[snakemake.wildcards.library]
    section = scope_section(ad.read_h5ad(snakemake.input.section), status=status)
    profiles = profiles_of_patient(ad.read_h5ad(snakemake.input.reference), snakemake.params.patient)
    names = ("n_genes_per_type", "n_bootstrap", "min_label_confidence", "deconvolution", "cell2location")
    contents = {name: options[name] for name in names}
    found = section_contents(section, profiles, **contents, seed=snakemake.params.seed)
    zones = {name: options[name] for name in ZONE_OPTIONS}
    outline, fault = None, ""
    try:
        outline = section_outline(section, snakemake.params.library) if section.n_obs else None
    except ValueError as error:
        fault = str(error)
        logging.getLogger("livermet").warning(fault)
    mapped = map_section(
        section,
        found.fractions,
        found.types,
        abundance_reason=found.reason,
        outline=outline,
        outline_reason=fault,
        **zones,
    )
    write_h5ad(mapped, snakemake.output.section)
    write_parquet(found.table, snakemake.output.abundance)
