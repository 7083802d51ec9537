"""Rule measure_invasion: margin against core, tail, vessels, spatial genes and distance profiles of one section."""

import anndata as ad

from livermet import invasion, moran, profiles, tail
from livermet.deconvolve import profiles_of_patient
from livermet.files import write_parquet
from livermet.section import section_of
from livermet.snake import job_log

with job_log(snakemake):
    row, output, options = snakemake.params.row, snakemake.output, snakemake.params.invasion
    mapped = ad.read_h5ad(snakemake.input.section)
    section = section_of(mapped, row=row)
    reference = profiles_of_patient(ad.read_h5ad(snakemake.input.reference), row["patient_id"])
    reason = invasion.no_margin(mapped)
    enough = {name: options[name] for name in ("min_spots", "min_cells")}
    width = profiles.bin_width(section, **{name: options[name] for name in ("bin_um", "spot_bin_um")})
    programmes = invasion.load_programmes(options["programmes"])
    found = invasion.section_invasion(
        mapped, section, reference, programmes, **enough, **snakemake.params.genes, bin_um=width
    )
    reach, curve = tail.section_tail(
        section, **enough, **snakemake.params.tail, seed=snakemake.params.seed, border_reason=reason
    )
    vessels = tail.vessel_cooption(
        section, **enough, **snakemake.params.vessels, bin_um=width, border_reason=invasion.without_border(mapped)
    )
    genes = moran.section_genes(
        mapped.X,
        mapped.var_names,
        section.graph,
        section.zone,
        resolution=section.resolution,
        **enough,
        **snakemake.params.moran,
    )
    types = profiles.section_profiles(mapped, section, genes=options["genes"], bin_um=width)
    lines = invasion.stacked([types, found.profile], invasion.PROFILE_COLUMNS)
    tables = {"programmes": found.table, "tail": reach, "curve": curve, "vessels": vessels, "genes": genes}
    for name, table in (tables | {"profiles": lines}).items():
        write_parquet(invasion.with_identity(table, row), output[name])
