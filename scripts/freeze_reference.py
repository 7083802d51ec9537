"""Rule freeze_reference: the cells of a scope, with labels and embedding, frozen under a name."""

from pathlib import Path

import anndata as ad

from livermet.files import read_table, write_json
from livermet.frozen import freeze, refuse_existing, write_reference
from livermet.markers import load_markers
from livermet.snake import job_log

with job_log(snakemake):
    given, params = snakemake.input, snakemake.params
    folder = Path(params.folder) / params.name
    if not params.name:
        raise ValueError("reference.freeze is empty: give the name that the cells are to be frozen under")
    refuse_existing(folder)
    cells = ad.read_h5ad(given.cells)
    reference = freeze(
        cells,
        read_table(given.markers),
        load_markers(),
        min_state_cells=params.config["annotate"]["min_state_cells"],
        seed=params.seed,
    )
    manifest = write_reference(
        reference,
        folder,
        cells=Path(given.cells),
        obs=cells.obs,
        tables=[Path(path) for path in given.copied],
        libraries=dict(zip(params.libraries, map(Path, given.libraries), strict=True)),
        config=params.config,
        seed=params.seed,
    )
    write_json(manifest, snakemake.output.record)
