"""Rule map_section: abundances, tumour mask, signed distance to the border and zones of one section."""

import anndata as ad

from livermet.deconvolve import abundance_table, abundances, profiles_of_patient
from livermet.files import read_table, write_h5ad, write_parquet
from livermet.markers import load_markers
from livermet.section import scope_section
from livermet.snake import job_log
from livermet.zones import map_section

with job_log(snakemake):
    options = snakemake.params.spatial
    status = read_table(snakemake.input.status).set_index("library_id").loc[snakemake.wildcards.library]
    section = scope_section(ad.read_h5ad(snakemake.input.section), status=status)
    profiles = profiles_of_patient(ad.read_h5ad(snakemake.input.reference), snakemake.params.patient)
    result = abundances(
        section.X,
        section.var_names,
        profiles,
        markers=load_markers()["genes"].to_dict(),
        n_genes_per_type=options["n_genes_per_type"],
        n_bootstrap=options["n_bootstrap"],
        seed=snakemake.params.seed,
    )
    zones = {name: options[name] for name in ("neighbours", "min_component", "margin_um", "core_um", "distant_um")}
    mapped = map_section(section, result.fractions, result.types, abundance_reason=result.reason, **zones)
    write_h5ad(mapped, snakemake.output.section)
    write_parquet(abundance_table(result, section.obs_names), snakemake.output.abundance)
