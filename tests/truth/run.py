"""Score the whole workflow on simulated studies, beside naive answers and shuffled ones.

    python tests/truth/run.py --seeds 5 --size demo --work build/truth --cores 2

For each seed: simulate a study, run the workflow on it, score its answers. Prints one table (also written to
truth.tsv in the work folder), then the scores of the response engine on patient-level cohorts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import yaml

import naive
from livermet import keys, truth
from livermet.files import read_json, read_table, write_table
from livermet.markers import compartment_of
from livermet.simulate import simulate_study

ROOT = Path(__file__).resolve().parents[2]
ANSWERS = ["ours", "argmax", "plain", "shuffled"]
LEGEND = """ours: this workflow; argmax: highest mean of markers, per cell or spot; plain: scanpy at its tutorial's defaults (scrublet,
Leiden clusters named by marker means, clusters of spots as niches) and NNLS without weights or platform factor;
shuffled: our own answer permuted within each library; met: whether the median of ours reaches the target"""
SPOT_MIN_MEAN = 0.01  # types rarer than 1 % are flagged by the workflow, so they enter no correlation
MIN_CELLS = 10


def main() -> int:
    """Run all seeds; the exit status tells whether everything ran, not whether targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many simulated studies")
    parser.add_argument("--size", default="demo", help="size of each study")
    parser.add_argument("--work", type=Path, default=Path("build/truth"), help="folder for studies and results")
    parser.add_argument("--cores", type=int, default=2, help="cores for Snakemake")
    parser.add_argument("--cohorts", type=int, default=50, help="planted cohorts for the response engine")
    parser.add_argument("--null", type=int, default=500, help="null cohorts for the response engine")
    args = parser.parse_args()
    started = time.monotonic()

    rows = []
    for seed in range(1, args.seeds + 1):
        folder = args.work.resolve() / f"seed{seed}"
        simulate_study(folder, size=args.size, seed=seed)
        results = run_workflow(folder, cores=args.cores, seed=seed)
        scores = score_study(folder / "truth", results, seed=seed)
        rows += [{"seed": seed, **row} for row in scores]
        print(f"seed {seed} of {args.seeds} scored, {(time.monotonic() - started) / 60:.1f} min", flush=True)
    table = pd.DataFrame(rows, columns=["seed", "score", *ANSWERS])
    write_table(table, args.work / "truth.tsv")
    print(f"\nSIMULATED DATA. {args.seeds} studies of size {args.size}: median over seeds (range)\n{LEGEND}\n")
    print(summary(table).to_string(index=False))

    print("\nResponse engine, patient-level cohorts\n", flush=True)
    response = [sys.executable, str(ROOT / "tests" / "truth" / "response.py")]
    status = subprocess.run(
        [*response, "--cohorts", str(args.cohorts), "--null", str(args.null)], check=False
    ).returncode
    print(f"\n{(time.monotonic() - started) / 60:.1f} min in all")
    return status


def run_workflow(folder: Path, *, cores: int, seed: int) -> Path:
    """Run the workflow with the demo's config on one simulated study; returns the folder of its results."""
    results = folder / "results"
    config = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text(encoding="utf-8")) or {}
    config |= {"study": str(folder / "study"), "results": str(results), "seed": seed}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    libraries = read_table(folder / "study" / "libraries.tsv")
    sections = libraries.loc[libraries["modality"].isin(keys.SPATIAL_MODALITIES), keys.LIBRARY]
    wanted = [results / "cohort" / name for name in ("cells.h5ad", "cnv.tsv", "niches.tsv", "neighbourhood.tsv")]
    wanted += [results / "cohort" / "sections" / name / "spatial.h5ad" for name in sections]
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--workflow-profile", ROOT / "profiles" / "default", "--cores", cores, "--configfile", path, "--"]
    log = folder / "snakemake.log"
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run([str(part) for part in [*command, *wanted]], stdout=stream, stderr=stream, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-40:])
        raise SystemExit(f"{tail}\n\nthe workflow failed on {folder}; the whole log is {log}")
    return results


def score_study(known: Path, results: Path, *, seed: int) -> list[dict]:
    """All scores of one study: the workflow's answer, the naive ones, and ours shuffled."""
    cells = read_truth(known / "cells.tsv.gz")
    spots = read_truth(known / "spots.tsv.gz")
    abundance = pd.read_parquet(known / "abundance.parquet")
    sections = read_truth(known / "sections.tsv")
    arms = read_truth(known / "cnv.tsv")
    controls = sections.loc[sections["negative_control"] == 1, keys.LIBRARY]
    planted = spots[spots[keys.LIBRARY].isin(sections.loc[sections["planted_niche"] == 1, keys.LIBRARY])]
    types = compartment_of()

    ours = our_answers(results)
    single = counts_of(results, sorted(cells[keys.LIBRARY].unique()))
    tissue = counts_of(results, sorted(spots[keys.LIBRARY].unique()))
    plain_qc, plain_cells = naive.scanpy_cells(single)
    annotated = single[single.obs_names.isin(ours["cells"].index)]
    plain_types = ours["cells"].loc[annotated.obs_names, "cell_type"].to_numpy()
    argmax = {"cells": naive.argmax_cells(single), "zones": naive.argmax_zones(tissue)}
    plain = {
        "qc": plain_qc,
        "cells": plain_cells,
        "abundance": naive.plain_nnls(tissue, annotated, plain_types),
        "niche": naive.scanpy_niches(tissue),
    }
    library = [keys.LIBRARY]
    null = {
        "qc": truth.shuffled(ours["qc"], columns=["kept", "doublet_score"], within=library, seed=seed),
        "ambient": truth.shuffled(
            ours["ambient"].assign(all=0), columns=["contamination", "contamination_basis"], within=["all"], seed=seed
        ),
        "cells": truth.shuffled(
            ours["cells"],
            columns=["compartment", "cell_type", "malignant", "cnv_score"],
            within=library,
            seed=seed,
        ),
        "arms": truth.shuffled(ours["arms"].assign(all=0), columns=[keys.PATIENT], within=["all"], seed=seed),
        "abundance": shuffled_spots(ours["abundance"], seed=seed),
        "zones": truth.shuffled(ours["zones"], columns=["signed_distance_um", "zone"], within=library, seed=seed),
        "niche": truth.shuffled(ours["niche"], columns=["niche"], within=library, seed=seed),
    }
    judges = {
        "qc": [lambda a: truth.score_qc(a, cells), lambda a: truth.score_doublets(a, cells)],
        "ambient": [lambda a: truth.score_ambient(a, cells)],
        "cells": [
            lambda a: truth.score_annotation(a, cells, known_types=types, min_cells=MIN_CELLS),
            lambda a: truth.score_malignant(a, cells),
        ],
        "arms": [lambda a: truth.score_arms(a, arms)],
        "abundance": [lambda a: truth.score_abundance(a, abundance, compartments=types, min_mean=SPOT_MIN_MEAN)],
        "zones": [lambda a: truth.score_zones(a, spots)],
        "niche": [lambda a: truth.score_niche(a, planted)],
        "neighbourhood": [lambda a: truth.score_negative_control(a, libraries=controls)],
    }
    values: dict[str, dict[str, float]] = {}
    for label, answer in zip(ANSWERS, (ours, argmax, plain, null), strict=True):
        for part, table in answer.items():
            for judge in judges[part]:
                for name, value in judge(table).items():
                    values.setdefault(name, {})[label] = value
    return [{"score": name, **scores} for name, scores in values.items()]


def our_answers(results: Path) -> dict[str, pd.DataFrame]:
    """The workflow's answers from its result files, known by library_id and barcode."""
    qc = [read_table(path).assign(library_id=path.parent.name) for path in sorted(results.glob("libraries/*/qc.tsv"))]
    sections = sorted((results / "cohort" / "sections").glob("*/spatial.h5ad"))
    spots = pd.concat([keyed(read_obs(path)) for path in sections])
    abundance = [
        pd.read_parquet(path.parent / "abundance.parquet").assign(library_id=path.parent.name) for path in sections
    ]
    arms = read_table(results / "cohort" / "cnv.tsv").rename(columns={"called": "kind"})
    return {
        "qc": bare(pd.concat(qc, ignore_index=True)),
        "ambient": contaminations(results),
        "cells": keyed(read_obs(results / "cohort" / "cells.h5ad")),
        "arms": arms[arms["kind"].isin(["gain", "loss"])],
        "abundance": bare(pd.concat(abundance, ignore_index=True)),
        "zones": spots,
        "niche": spots,
        "neighbourhood": read_table(results / "cohort" / "neighbourhood.tsv"),
    }


def contaminations(results: Path) -> pd.DataFrame:
    """Contamination of each single-cell library as its status tells it."""
    statuses = [read_json(path) for path in sorted(results.glob("libraries/*/status.json"))]
    found = {status[keys.LIBRARY]: status["metrics"].get("contamination") for status in statuses}
    rows = [(name, entry["fraction"], entry["basis"]) for name, entry in found.items() if entry]
    return pd.DataFrame(rows, columns=[keys.LIBRARY, "contamination", "contamination_basis"]).astype(
        {"contamination": float}
    )


def counts_of(results: Path, libraries: list[str]) -> ad.AnnData:
    """Counts as read, of all libraries together."""
    parts = [ad.read_h5ad(results / "libraries" / name / "counts.h5ad") for name in libraries]
    for part in parts:
        part.obs = part.obs[[keys.LIBRARY]].astype(str)
    return ad.concat(parts, join="inner")


def read_truth(path: Path) -> pd.DataFrame:
    """A truth table; only the empty field is a missing value."""
    return pd.read_csv(path, sep="\t", keep_default_na=False, na_values=[""])


def read_obs(path: Path) -> pd.DataFrame:
    """Only the obs of an h5ad."""
    with h5py.File(path) as stored:
        obs = ad.io.read_elem(stored["obs"])
    return obs.astype({name: str for name in obs if isinstance(obs[name].dtype, pd.CategoricalDtype)})


def keyed(obs: pd.DataFrame) -> pd.DataFrame:
    """Add the barcode from names "library:barcode"; the names stay as index."""
    return obs.assign(barcode=obs.index.str.split(":", n=1).str[1])


def bare(table: pd.DataFrame) -> pd.DataFrame:
    """Barcodes without the library in front."""
    return table.assign(barcode=table["barcode"].str.split(":").str[-1])


def shuffled_spots(abundance: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Each spot gets the whole composition of another spot of its section."""
    spots = abundance[[keys.LIBRARY, "barcode"]].drop_duplicates(ignore_index=True).assign(moved=lambda t: t["barcode"])
    spots = truth.shuffled(spots, columns=["moved"], within=[keys.LIBRARY], seed=seed)
    return (
        abundance.merge(spots, on=[keys.LIBRARY, "barcode"])
        .drop(columns="barcode")
        .rename(columns={"moved": "barcode"})
    )


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Median and range over seeds of each answer, target, and whether the median of ours meets it."""
    rows = []
    for name, group in table.groupby("score", sort=False):
        comparison, threshold = truth.TARGETS.get(name, ("", np.nan))
        row = {"score": name}
        for label in ANSWERS:
            row[label] = spread(group[label].dropna())
        row["target"] = f"{comparison} {threshold:g}" if comparison else ""
        row["met"] = truth.met(name, float(group["ours"].median()))
        rows.append(row)
    return pd.DataFrame(rows)


def spread(values: pd.Series) -> str:
    """Median (smallest to largest), or a dash where the answer does not exist."""
    if values.empty:
        return "-"
    digits = 0 if values.abs().max() > 10 else 2
    low, middle, high = (f"{v:.{digits}f}" for v in (values.min(), values.median(), values.max()))
    return middle if len(values) == 1 else f"{middle} ({low}-{high})"


if __name__ == "__main__":
    sys.exit(main())
