"""Rule map_cells: new cells of a scope mapped onto a frozen reference, beside its own cells."""

import shutil
from pathlib import Path

import anndata as ad

from livermet.files import read_table, replacing, write_h5ad, write_table
from livermet.findings import findings_frame
from livermet.frozen import read_reference, refuse_changed
from livermet.frozen_files import CELLS, verify
from livermet.genes import gene_positions
from livermet.mapping import cluster_names, map_scope, mapping_findings
from livermet.overrides import load_overrides, override_table
from livermet.snake import job_log

with job_log(snakemake):
    given, params, output = snakemake.input, snakemake.params, snakemake.output
    folder = Path(given.manifest).parent
    manifest = verify(folder)
    status = read_table(given.status).set_index("library_id")["status"]
    rows = [row for row in params.rows if status[row["library_id"]] == "ok"]
    paths = {row["library_id"]: path for row, path in zip(params.rows, given.cells, strict=True)}
    refuse_changed(manifest, rows=rows, libraries={row["library_id"]: paths[row["library_id"]] for row in rows})
    new = [row["library_id"] for row in rows if row["library_id"] not in manifest["libraries"]]
    overrides = load_overrides(params.annotate["overrides"], not_personal=params.not_personal)
    mapped = map_scope(
        read_reference(folder),
        gene_positions(),
        earlier=ad.read_h5ad(folder / CELLS),
        earlier_arms=read_table(folder / "tables" / "cnv.tsv"),
        adatas=[ad.read_h5ad(paths[library]) for library in new],
        rows=rows,
        name=manifest["name"],
        min_genes_shared=params.min_genes_shared,
        annotate=params.annotate | manifest["config"]["annotate"],
        cnv=params.cnv | manifest["config"]["cnv"],
        max_out=params.reference["max_out"],
        seed=params.seed,
        overrides=overrides,
    )
    write_h5ad(mapped.cells, output.cells)
    write_table(mapped.arms, output.arms)
    write_table(mapped.libraries, output.mapping)
    warnings = mapping_findings(mapped.libraries, name=manifest["name"], warn_share=params.reference["warn_share"])
    write_table(findings_frame(warnings), output.findings)
    write_table(override_table(mapped.cells.obs, overrides), output.overrides)
    write_table(cluster_names(mapped.cells), output.names)
    for name in ("markers", "clustering", "scores", "integration"):
        with replacing(output[name]) as temporary:
            shutil.copyfile(folder / "tables" / Path(output[name]).name, temporary)
