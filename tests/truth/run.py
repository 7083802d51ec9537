"""Score the whole workflow on simulated studies, beside naive answers and shuffled ones.

    python tests/truth/run.py --seeds 5 --size demo --work build/truth --cores 2

For each seed: simulate a study that holds the hard cases, run the workflow on it, score its answers. Prints one table of
all scores and one of the cell types (also written to truth.tsv and types.tsv in the work folder), then the scores of
the response engine on patient-level cohorts. With ``--real FOLDER`` the agreement with the authors' labels on a real
tumour is printed as well.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import yaml
from scipy import sparse

import naive
import real
from livermet import keys, truth
from livermet.files import read_json, read_table, write_table
from livermet.markers import compartment_of
from livermet.simulate import simulate_study
from livermet.status import DOUBLET

Judge = Callable[[pd.DataFrame], dict[str, float]]
ROOT = Path(__file__).resolve().parents[2]
ANSWERS = ["ours", "argmax", "plain", "shuffled"]
LEGEND = """ours: this workflow; argmax: highest mean of markers, per cell or spot; plain: scanpy at its tutorial's defaults (scrublet,
Leiden clusters named by marker means, clusters of spots as niches; no correction for ambient RNA) and NNLS without
weights or platform factor; shuffled: our own answer permuted within each library (contaminations, arms and basal
fractions, growth patterns between libraries or patients; ambient counts removed at random); met: whether the median of ours reaches the
target; "-": no such answer"""
HARD_LEGEND = """Each study holds a library of 60 cells, a biopsy with 95 % hepatocytes, a tumour without copy-number change and a centre
with its own chemistry; they count in all scores"""
TYPES_LEGEND = """Cell types of ours, medians over seeds: missed_as is the largest confusion over all seeds, missed_share the share of the
cells of the type that the most frequent wrong answer takes, novel_share the share of the cells of no known type that are given this one"""
ALBUMIN = "ALB"
WANTED = ("cells.h5ad", "cnv.tsv", "malignant.tsv", "niches.tsv", "neighbourhood.tsv", "growth_pattern.tsv")
SPOT_MIN_MEAN = 0.01  # types rarer than 1 % are flagged by the workflow, so they enter no correlation
MIN_CELLS = 10
GROWTH_MIN_MM = 2.0  # science: below 2 mm of interface no growth pattern
RESOLUTION = {"visium": "spot", "visium_hd": "bin", "xenium": "cell"}


def main() -> int:
    """Run all seeds; the exit status tells whether everything ran, not whether targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many simulated studies")
    parser.add_argument("--size", default="demo", help="size of each study")
    parser.add_argument("--work", type=Path, default=Path("build/truth"), help="folder for studies and results")
    parser.add_argument("--cores", type=int, default=2, help="cores for Snakemake")
    parser.add_argument("--cohorts", type=int, default=50, help="planted cohorts for the response engine")
    parser.add_argument("--reuse", action="store_true", help="keep the studies in the work folder, run what changed")
    parser.add_argument("--real", type=Path, help="folder with pdac_a/cells.h5ad, a real tumour with authors' labels")
    parser.add_argument("--null", type=int, default=500, help="null cohorts for the response engine")
    parser.add_argument("--calibration", type=int, default=2000, help="null cohorts per kind of label")
    args = parser.parse_args()
    started = time.monotonic()

    rows, types = [], []
    for seed in range(1, args.seeds + 1):
        folder = args.work.resolve() / f"seed{seed}"
        if not args.reuse:
            simulate_study(folder, size=args.size, seed=seed, hard_cases=True)
        run_workflow(folder, cores=args.cores, seed=seed)
        results = folder / "results"
        scores = score_study(folder / "truth", results, seed=seed)
        types.append(score_types(folder / "truth", results).assign(seed=seed))
        rows += [{"seed": seed, **row} for row in scores]
        print(f"seed {seed} of {args.seeds} scored, {(time.monotonic() - started) / 60:.1f} min", flush=True)
    table = pd.DataFrame(rows, columns=["seed", "score", *ANSWERS])
    write_table(table, args.work / "truth.tsv")
    write_table(pd.concat(types, ignore_index=True), args.work / "types.tsv")
    print(f"\nSIMULATED DATA. {args.seeds} studies of size {args.size}: median over seeds (range)\n{LEGEND}\n")
    if table["score"].str.startswith("hard").any():
        print(f"{HARD_LEGEND}\n")
    print(summary(table).to_string(index=False))
    print(f"\n{TYPES_LEGEND}\n")
    print(type_summary(pd.concat(types)).to_string(index=False, float_format="%.2f"))

    print("\nReal tumour (Moncada et al. 2020, PDAC-A), agreement with the authors' labels\n", flush=True)
    real_source = args.real / "pdac_a" / "cells.h5ad" if args.real else None
    if real_source is not None and real_source.exists():
        print(real.agreement(real_source, args.work.resolve() / "real", cores=args.cores, reuse=args.reuse))
    else:
        print(f"not measured: {real_source or 'no folder given'} (--real FOLDER, or make truth REAL=FOLDER)")

    print("\nResponse engine, patient-level cohorts\n", flush=True)
    response = [sys.executable, str(ROOT / "tests" / "truth" / "response.py")]
    status = subprocess.run(
        [*response, "--cohorts", str(args.cohorts), "--null", str(args.null)], check=False
    ).returncode
    print("\nNull cohorts by family and kind of label\n", flush=True)
    calibration = [sys.executable, str(ROOT / "tests" / "truth" / "calibration.py")]
    done = subprocess.run(
        [*calibration, "--null", str(args.calibration), "--cores", str(args.cores)], check=False
    ).returncode
    print(f"\n{(time.monotonic() - started) / 60:.1f} min in all")
    return max(status, done)


def run_workflow(folder: Path, *, cores: int, seed: int) -> None:
    """Run the workflow with the demo's config on one simulated study."""
    results = folder / "results"
    config = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text(encoding="utf-8")) or {}
    config |= {"study": str(folder / "study"), "results": str(results), "seed": seed}
    libraries = read_table(folder / "study" / "libraries.tsv")
    sections = libraries.loc[libraries["modality"].isin(keys.SPATIAL_MODALITIES), keys.LIBRARY]
    wanted = [results / "cohort" / name for name in WANTED]
    wanted += [results / "cohort" / "sections" / name / "spatial.h5ad" for name in sections]
    real.snakemake(folder, config, wanted, cores=cores)


def score_study(known: Path, results: Path, *, seed: int) -> list[dict]:
    """All scores of one study: the workflow's answer, the naive ones, and ours shuffled."""
    cells = read_cells(known)
    path = known / "hard_cases.tsv"
    cases = read_truth(path) if path.exists() else pd.DataFrame(columns=["case", keys.PATIENT, keys.LIBRARY])
    sections = read_truth(known / "sections.tsv")
    arms = read_truth(known / "cnv.tsv")
    unchanged = set(cells.loc[~cells[keys.PATIENT].isin(arms[keys.PATIENT]), keys.LIBRARY])
    ours = our_answers(results)
    places, abundance = section_truth(known, ours["zones"])
    spots = places["spot"]
    planted = sections.loc[sections["planted_niche"] == 1, keys.LIBRARY]
    controls = sections.loc[sections["negative_control"] == 1, [keys.LIBRARY, "modality"]]
    types = compartment_of()
    table = {"known_types": types, "min_cells": MIN_CELLS}

    single = counts_of(results, sorted(cells[keys.LIBRARY].unique()))
    tissue = counts_of(results, sorted(spots[keys.LIBRARY].unique()))
    answers = {
        "ours": ours,
        "argmax": argmax_answers(single, tissue, cells),
        "plain": plain_answers(single, tissue, cells, ours["cells"]),
        "shuffled": shuffled_answers(ours, seed=seed),
    }
    judges = {
        "qc": [lambda a: truth.score_qc(a, cells), lambda a: truth.score_doublets(a, cells)],
        "ambient": [lambda a: truth.score_ambient(a, cells)],
        "correction": [
            lambda a: truth.score_correction(a, cells),
            lambda a: truth.score_hard_correction(a, cells, cases),
        ],
        "cells": [
            lambda a: truth.score_annotation(a, cells, **table),
            lambda a: truth.score_malignant(a, cells, unchanged=unchanged),
            lambda a: truth.score_hard_cells(a, cells, cases, **table),
        ],
        "confidence": [lambda a: truth.score_calibration(a, cells)],
        "clusters": [
            lambda a: truth.score_clusters(a, cells),
            lambda a: truth.score_hard_clusters(a, cells, cases, min_cells=MIN_CELLS),
        ],
        "arms": [lambda a: truth.score_arms(a, arms)],
        "basal": [lambda a: truth.score_basal(a, cells)],
        "growth": [lambda a: truth.score_growth(a, sections, least_mm=GROWTH_MIN_MM)],
    }
    every = pd.concat(places.values(), ignore_index=True)
    judges["border"] = [lambda a: truth.score_border(a, every, sections)]
    for kind, of_kind in places.items():
        of_niche = of_kind[of_kind[keys.LIBRARY].isin(planted)]
        libraries = controls.loc[controls["modality"].map(RESOLUTION) == kind, keys.LIBRARY]
        of_sections = {
            "zones": partial(truth.score_zones, truth=of_kind, kind=kind),
            "niche": partial(truth.score_niche, truth=of_niche, kind=kind),
            "neighbourhood": partial(truth.score_negative_control, libraries=libraries, kind=kind),
        }
        if kind in abundance:
            common = {"truth": abundance[kind], "compartments": types, "min_mean": SPOT_MIN_MEAN}
            of_sections["abundance"] = partial(truth.score_abundance, **common, kind=kind)
        for part, judge in of_sections.items():
            judges.setdefault(part, []).append(where_answered(judge, set(of_kind[keys.LIBRARY])))
        if kind in abundance:
            judge = partial(truth.score_intervals, truth=abundance[kind], kind=kind)
            judges["abundance"].append(where_answered(judge, set(of_kind[keys.LIBRARY])))
    if "cell" in places:
        judges["labels"] = [partial(truth.score_cell_labels, truth=places["cell"], **table)]
    values: dict[str, dict[str, float]] = {}
    for part, of_part in judges.items():
        for judge in of_part:
            for label in ANSWERS:
                if part in answers[label]:
                    for name, value in judge(answers[label][part]).items():
                        values.setdefault(name, {})[label] = value
    answered = [name for name, scores in values.items() if np.isfinite(list(scores.values())).any()]
    if cases.empty:
        answered = [name for name in answered if not name.startswith("hard")]
    order = sorted(answered, key=lambda name: name.startswith("hard"))
    return [{"score": name, **values[name]} for name in order]


def where_answered(judge: Judge, libraries: set[str]) -> Judge:
    """A judge that says nothing of an answer without any of these libraries: naive answers know spots alone."""
    return lambda answer: judge(answer) if answer[keys.LIBRARY].isin(libraries).any() else {}


def section_truth(known: Path, answer: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Truth of spots, bins and cells of sections, and of the abundances of spots and bins, by what they resolve.

    Of each Visium HD section the bins of the size that the answer holds count.
    """
    places = {"spot": read_truth(known / "spots.tsv.gz")}
    abundance = {"spot": pd.read_parquet(known / "abundance.parquet")}
    if (known / "bins.tsv.gz").exists():
        bins = read_truth(known / "bins.tsv.gz")
        found = bins.merge(answer[[keys.LIBRARY, "barcode"]], on=[keys.LIBRARY, "barcode"])
        sizes = found[[keys.LIBRARY, "bin_um"]].drop_duplicates()
        places["bin"] = bins.merge(sizes, on=[keys.LIBRARY, "bin_um"])
        shares = pd.read_parquet(known / "bin_abundance.parquet")
        abundance["bin"] = shares.merge(places["bin"][[keys.LIBRARY, "barcode"]], on=[keys.LIBRARY, "barcode"])
    if (known / "section_cells.tsv.gz").exists():
        places["cell"] = read_truth(known / "section_cells.tsv.gz")
    answered = {kind: table for kind, table in places.items() if table[keys.LIBRARY].isin(answer[keys.LIBRARY]).any()}
    return answered, {kind: table for kind, table in abundance.items() if kind in answered}


def score_types(known: Path, results: Path) -> pd.DataFrame:
    """How well the workflow finds each cell type of one study."""
    cells = keyed(read_obs(results / "cohort" / "cells.h5ad"))
    return truth.type_table(cells, read_cells(known), known_types=compartment_of())


def argmax_answers(single: ad.AnnData, tissue: ad.AnnData, cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What the highest marker mean says, by the part of the scores that it answers."""
    named = with_patients(naive.argmax_cells(single), cells)
    return {"cells": named, "basal": naive.basal_fractions(single, named), "zones": naive.argmax_zones(tissue)}


def plain_answers(
    single: ad.AnnData, tissue: ad.AnnData, cells: pd.DataFrame, annotated: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """What plain scanpy says; the reference of its deconvolution are our annotated cells."""
    qc, named = naive.scanpy_cells(single)
    named = with_patients(named, cells)
    reference = single[single.obs_names.isin(annotated.index)]
    types = annotated.loc[reference.obs_names, "cell_type"].to_numpy()
    uncorrected = {"counts": gene_sums(single.X), "alb": gene_sums(single.X[:, single.var_names == ALBUMIN])}
    uncorrected |= {f"{name}_corrected": values for name, values in uncorrected.items()}
    return {
        "qc": qc,
        "correction": naive.identify(single).assign(**uncorrected),
        "cells": named,
        "clusters": named,
        "basal": naive.basal_fractions(single, named),
        "abundance": naive.plain_nnls(tissue, reference, types),
        "niche": naive.scanpy_niches(tissue),
    }


def shuffled_answers(ours: dict[str, pd.DataFrame], *, seed: int) -> dict[str, pd.DataFrame]:
    """Our answers without their knowledge."""

    def within(part: str, columns: list[str]) -> pd.DataFrame:
        return truth.shuffled(ours[part], columns=columns, within=[keys.LIBRARY], seed=seed)

    def overall(part: str, columns: list[str]) -> pd.DataFrame:
        return truth.shuffled(ours[part].assign(all=0), columns=columns, within=["all"], seed=seed)

    columns = ["compartment", "cell_type", "confidence", "cluster", "malignant", "cnv_score"]
    cells = within("cells", columns)
    zones = within("zones", ["signed_distance_um", "zone"])
    null = {
        "qc": within("qc", ["kept", "doublet_score", "called"]),
        "ambient": overall("ambient", ["contamination", "contamination_basis"]),
        "cells": cells,
        "confidence": cells,
        "clusters": cells,
        "arms": overall("arms", [keys.PATIENT]),
        "abundance": shuffled_spots(ours["abundance"], seed=seed),
        "zones": zones,
        "border": zones,
        "niche": within("niche", ["niche"]),
    }
    if "correction" in ours:
        null["correction"] = truth.removed_at_random(ours["correction"])
    if "labels" in ours:
        null["labels"] = within("labels", ["compartment", "cell_type"])
    if "growth" in ours:
        null["growth"] = overall("growth", ["growth_pattern"])
    if "basal" in ours:
        null["basal"] = overall("basal", ["fraction_basal"])
    return null


def our_answers(results: Path) -> dict[str, pd.DataFrame]:
    """The workflow's answers from its result files, known by library_id and barcode; parts without a file are left out."""
    qc = [read_table(path).assign(library_id=path.parent.name) for path in sorted(results.glob("libraries/*/qc.tsv"))]
    qc = bare(pd.concat(qc, ignore_index=True))
    sections = sorted((results / "cohort" / "sections").glob("*/spatial.h5ad"))
    spots = pd.concat([keyed(read_obs(path)) for path in sections])
    abundance = [
        pd.read_parquet(path.parent / "abundance.parquet").assign(library_id=path.parent.name) for path in sections
    ]
    arms = read_table(results / "cohort" / "cnv.tsv").rename(columns={"called": "kind"})
    cells = keyed(read_obs(results / "cohort" / "cells.h5ad"))
    answers = {
        "qc": qc.assign(called=(qc["reason"] == DOUBLET).astype(int)),
        "ambient": contaminations(results),
        "cells": cells,
        "confidence": cells,
        "clusters": cells,
        "arms": arms,
        "abundance": bare(pd.concat(abundance, ignore_index=True)),
        "zones": spots,
        "border": spots,
        "niche": spots,
        "neighbourhood": read_table(results / "cohort" / "neighbourhood.tsv"),
    }
    if "cell_type" in spots:
        answers["labels"] = spots.dropna(subset="cell_type")
    growth = results / "cohort" / "growth_pattern.tsv"
    if growth.exists():
        answers["growth"] = read_table(growth)
    whole = ad.read_h5ad(results / "cohort" / "cells.h5ad")
    if keys.CORRECTED in whole.layers:
        albumin = whole.var_names == ALBUMIN
        answers["correction"] = naive.identify(whole).assign(
            counts=gene_sums(whole.X),
            counts_corrected=gene_sums(whole.layers[keys.CORRECTED]),
            alb=gene_sums(whole.X[:, albumin]),
            alb_corrected=gene_sums(whole.layers[keys.CORRECTED][:, albumin]),
        )
    malignant = results / "cohort" / "malignant.tsv"
    if malignant.exists():
        answers["basal"] = read_table(malignant)
    return answers


def gene_sums(matrix: sparse.spmatrix) -> np.ndarray:
    """Sum over the genes of each cell."""
    return np.asarray(matrix.sum(axis=1), dtype=float).ravel()


def with_patients(answer: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Add the patient of each library."""
    patient = cells.drop_duplicates(keys.LIBRARY).set_index(keys.LIBRARY)[keys.PATIENT]
    return answer.assign(**{keys.PATIENT: answer[keys.LIBRARY].map(patient)})


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


def read_cells(known: Path) -> pd.DataFrame:
    """The truth of each cell, with patient and centre from the tables of the study beside it."""
    study = known.parent / "study"
    owner = read_table(study / "libraries.tsv").merge(read_table(study / "samples.tsv"), on="sample_id")
    owner = owner.merge(read_table(study / "patients.tsv"), on=keys.PATIENT)
    owner = owner[[keys.LIBRARY, keys.PATIENT, keys.CENTRE]]
    return read_truth(known / "cells.tsv.gz").merge(owner, on=keys.LIBRARY)


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


def type_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Medians over seeds of the scores of each type, the most frequent type first; and its largest confusion."""
    groups = table.groupby("cell_type", sort=False)
    numbers = ["n_cells", "precision", "recall", "f1", "missed_share", "novel_share"]
    result = groups[numbers].median()
    confused = table.groupby(["cell_type", "missed_as"])["missed_share"].sum().reset_index(level="missed_as")
    confused = confused.sort_values("missed_share", ascending=False, kind="stable")
    result.insert(4, "missed_as", confused.groupby("cell_type")["missed_as"].first())
    return result.astype({"n_cells": int}).sort_values("n_cells", ascending=False, kind="stable").reset_index()


def spread(values: pd.Series) -> str:
    """Median (smallest to largest), or a dash where the answer does not exist."""
    if values.empty:
        return "-"
    digits = 0 if values.abs().max() > 10 else 3
    low, middle, high = (f"{v:.{digits}f}" for v in (values.min(), values.median(), values.max()))
    return middle if len(values) == 1 else f"{middle} ({low}-{high})"


if __name__ == "__main__":
    sys.exit(main())
