"""Rule find_niches: niches over all sections of a scope, neighbourhoods and contacts of cell types in each section."""

from functools import partial

import anndata as ad

from livermet.contacts import scope_contacts
from livermet.files import read_table, write_parquet, write_table
from livermet.neighbourhood import scope_cooccurrence, scope_neighbourhood
from livermet.niches import find_niches
from livermet.section import section_of
from livermet.snake import job_log

with job_log(snakemake):
    inputs, output, seed = snakemake.input, snakemake.output, snakemake.params.seed
    niches, neighbourhood = dict(snakemake.params.niches), dict(snakemake.params.neighbourhood)
    earlier = read_table(inputs.earlier) if niches.pop("earlier") else None
    draws = neighbourhood.pop("contact_permutations")
    null = {"bin_um": neighbourhood["bin_um"], "seed": seed}
    sections, counts = [], {}
    for path, row in zip(inputs.sections, snakemake.params.rows, strict=True):
        sections.append(section_of(ad.read_h5ad(path, backed="r"), row=row))
        counts[row["library_id"]] = partial(ad.read_h5ad, path)
    result = find_niches(sections, counts=counts, earlier=earlier, **niches, **null)
    for name in ("stability", "consensus", "structure"):
        write_table(getattr(result, name), output[name])
    write_table(result.composition, output.niches)
    write_parquet(result.labels, output.labels)
    write_table(scope_neighbourhood(sections, **neighbourhood, seed=seed), output.neighbourhood)
    write_table(scope_cooccurrence(sections, **neighbourhood, seed=seed), output.cooccurrence)
    contacts = scope_contacts(sections, n_permutations=draws, min_cells=neighbourhood["min_cells"], **null)
    write_table(contacts, output.contacts)
