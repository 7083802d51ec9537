"""Sections of the simulated study: which samples give them, on which platform, and their files and truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from livermet import keys
from livermet.simulate import cells as single
from livermet.simulate import clinical, expression, persons, tissue, write
from livermet.simulate.design import StudyDesign

SUFFIX = {"visium": "VIS", "visium_hd": "HD", "xenium": "XEN"}
CHEMISTRY = {"visium": "Visium V1", "visium_hd": "Visium HD v1", "xenium": "Xenium v1"}
HD_PIXEL_UM = 0.27
BLOCK_SPOTS = 1.6  # Visium spots of a piece of a resection over those of a biopsy
BLOCK_AREA = 2.0  # the same for the area of HD and Xenium sections
TAIL_FROM_UM = 100.0


@dataclass
class Truth:
    """What is true of the barcodes of all sections; lists of tables, one per library."""

    spots: list[pd.DataFrame] = field(default_factory=list)
    abundance: list[pd.DataFrame] = field(default_factory=list)
    bins: list[pd.DataFrame] = field(default_factory=list)
    bin_abundance: list[pd.DataFrame] = field(default_factory=list)
    cells: list[pd.DataFrame] = field(default_factory=list)


# ----------------------------------------------------------------------------------------------------------- planning


def section_samples(
    patients: pd.DataFrame, samples: pd.DataFrame, surgery: pd.Series, design: StudyDesign
) -> tuple[pd.DataFrame, pd.Series]:
    """Further samples, of resected patients, that give sections only; and the growth pattern of each sample.

    Lesions grow as is usual in their patient. Where three or more pieces of resections lack a pattern that way, some of
    them take it (lesions of one patient may differ), so that a study holds each pattern with enough border to tell it.

    Parameters
    ----------
    samples
        The samples with single-cell libraries.
    surgery
        Day of surgery by patient.

    Returns
    -------
    samples
        Rows of the further samples.
    growth
        Growth pattern by sample_id, of all samples.
    """
    usual = patients.set_index("patient_id")["hgp"]
    resected = patients[patients["resected"] == 1]
    own = samples.merge(resected[["patient_id"]], on="patient_id")
    own = own.loc[own["timepoint"] == "T3_resection", "sample_id"].tolist()[: design.n_resection_sections]
    others = resected.loc[resected["group"] == "t0_liver", "patient_id"].tolist()
    further = others[: max(0, design.n_resection_sections - len(own))]
    adjacent = resected["patient_id"].tolist()[: design.n_adjacent_sections]
    common = {"timepoint": "T3_resection", "region": "whole", "method": "surgical", "preservation": "fresh"}
    rows = [
        {"sample_id": f"{p}-T3", "patient_id": p, "tissue": "liver_met", "day": int(surgery[p]), "lesion_id": "L1"}
        for p in further
    ]
    rows += [
        {"sample_id": f"{p}-T3-ADJ", "patient_id": p, "tissue": "adjacent_liver", "day": int(surgery[p])}
        for p in adjacent
    ]
    more = pd.DataFrame([row | common for row in rows], columns=samples.columns)
    every = pd.concat([samples, more]) if len(more) else samples
    growth = every.set_index("sample_id")["patient_id"].map(usual)
    pieces = [*own, *(f"{p}-T3" for p in further)]
    for missing in [name for name in clinical.HGPS if name not in set(growth[pieces])]:
        repeated = [name for name in pieces if (growth[pieces] == growth[name]).sum() > 1]
        if len(pieces) >= len(clinical.HGPS) and repeated:
            growth[repeated[-1]] = missing
    return more, growth


def plan_sections(
    patients: pd.DataFrame,
    samples: pd.DataFrame,
    growth: pd.Series,
    design: StudyDesign,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """One row per section: what it is made of, before it is made.

    Parameters
    ----------
    samples
        All samples, those of :func:`section_samples` included.
    growth
        Growth pattern by sample.

    Returns
    -------
    DataFrame with library_id, sample_id, patient_id, modality, responder, shape ("core" or "block"), layout, hgp,
    negative_control, planted_niche, pixel_um, positions_header, pathologist (a drawn tumour is given), tail_share and
    tail_decay_um (single malignant cells beyond the border, 0 where there are none).
    """
    table = samples.merge(patients[["patient_id", "group", "responder"]], on="patient_id")
    metastases = table[table["tissue"] == "liver_met"]
    early = metastases[metastases["timepoint"] == "T0_pre"]
    pieces = metastases.loc[metastases["timepoint"] == "T3_resection", "sample_id"].tolist()
    pieces = pieces[: design.n_resection_sections]
    classes = {y: rng.permutation(early.loc[early["responder"] == y, "sample_id"]).tolist() for y in (0, 1)}
    n_early = design.n_sections - design.n_resection_sections
    n_non = min(len(classes[0]), n_early // 2)
    chosen = [(s, 0) for s in classes[0][:n_non]] + [(s, 1) for s in classes[1][: n_early - n_non]]
    if len(chosen) - n_non < 1:
        raise ValueError(
            "n_sections: no responder has a section, so none can be the negative control; give more sections"
        )
    rows = []
    for kind, (sample_id, responder) in enumerate(chosen):
        rank = kind if responder == 0 else kind - n_non
        # One section without liver, one with little, one negative control: each where its class has sections to spare.
        layout = (
            "little_liver" if responder == 0 and rank == 3 else "no_liver" if responder == 1 and rank == 2 else "border"
        )
        control = int(responder == 1 and rank == 0)
        niche = int(responder == 0 and layout != "no_liver")
        rows.append((sample_id, "visium", responder, "core", layout, control, niche))
    rows += [(sample_id, "visium", 1, "block", "border", 0, 0) for sample_id in pieces]
    rows = sorted(rows)
    adjacent = table.loc[table["tissue"] == "adjacent_liver", "sample_id"]
    rows += [(sample_id, "visium", 1, "block", "adjacent", 0, 0) for sample_id in adjacent]
    rows += _imaging(rows, metastases, design)
    plan = pd.DataFrame(
        rows,
        columns=["sample_id", "modality", "responder", "shape", "layout", "negative_control", "planted_niche"],
    )
    plan.insert(0, "library_id", plan["sample_id"] + "-" + plan["modality"].map(SUFFIX))
    plan.insert(2, "patient_id", plan["sample_id"].map(table.set_index("sample_id")["patient_id"]))
    bordered = plan["layout"].isin(["border", "little_liver"])
    plan.insert(7, "hgp", plan["sample_id"].map(growth).where(bordered))
    pixels = {"visium_hd": HD_PIXEL_UM, "xenium": write.XENIUM_PIXEL_UM}
    plan["pixel_um"] = [pixels[name] if name in pixels else float(rng.choice([0.5, 0.65])) for name in plan["modality"]]
    plan["positions_header"] = (np.arange(len(plan)) % 2 == 0).astype(int)
    drawn = bordered & (plan["modality"] != "visium_hd")
    turn = plan[drawn].groupby("modality").cumcount().reindex(plan.index)
    plan["pathologist"] = (turn % design.polygon_every == 0).astype(int)
    tail = bordered & (plan["hgp"] == "replacement")
    plan["tail_share"] = np.where(tail, design.tail_share, 0.0)
    plan["tail_decay_um"] = np.where(tail, design.tail_decay_um, 0.0)
    return plan


def _imaging(visium: list[tuple], metastases: pd.DataFrame, design: StudyDesign) -> list[tuple]:
    """HD and Xenium sections, on samples that have a Visium section and single cells.

    They go by turns to biopsies of non-responders (with the planted niche), to pieces of resections and to biopsies of
    responders; HD from the other end, so that the two platforms meet different samples. The first Xenium section
    of a resection is a negative control.
    """
    of_cells = set(metastases.drop_duplicates("patient_id")["sample_id"])
    open_ = [row for row in visium if row[0] in of_cells and row[4] == "border" and row[5] == 0]
    kinds = (
        [row for row in open_ if row[6] == 1],
        [row for row in open_ if row[3] == "block"],
        [row for row in open_ if row[3] == "core" and row[6] == 0],
    )
    rows: list[tuple] = []
    for row in _by_turns(kinds)[: design.n_xenium]:
        control = int(row[3] == "block" and not any(other[5] for other in rows))
        rows.append((row[0], "xenium", row[2], row[3], row[4], control, row[6]))
    turns = _by_turns((kinds[1][::-1], kinds[0][::-1], kinds[2][::-1]))
    return rows + [(row[0], "visium_hd", *row[2:]) for row in turns[: design.n_hd]]


def _by_turns(groups: tuple[list[tuple], ...]) -> list[tuple]:
    return [row for turn in zip_longest(*groups) for row in turn if row is not None]


def section_libraries(plan: pd.DataFrame, batch: pd.Series) -> list[dict[str, Any]]:
    """Rows of ``libraries.tsv``; batch: by patient."""
    rows = []
    for i, section in enumerate(plan.itertuples()):
        folder = f"raw/{section.library_id}"
        stated = section.modality == "visium" and i % 3 == 0
        rows.append(
            {
                "library_id": section.library_id,
                "sample_id": section.sample_id,
                "modality": section.modality,
                "batch": batch[section.patient_id],
                "path": folder,
                "raw_path": None,
                "chemistry": CHEMISTRY[section.modality],
                "expected_cells": None,
                "pixel_um": section.pixel_um if stated else None,
                "boundary_path": f"{folder}/annotation/tumour.geojson" if section.pathologist else None,
            }
        )
    return rows


# ------------------------------------------------------------------------------------------------------------ writing


def write_section(
    study: Path,
    row: Any,
    section: pd.Series,
    *,
    patient: pd.Series,
    cnv: pd.DataFrame,
    alleles: pd.Series,
    atlas: expression.Atlas,
    patients: pd.DataFrame,
    design: StudyDesign,
    truth: Truth,
) -> dict[str, float]:
    """Simulate and write one section, and add its truth per barcode to ``truth``.

    Parameters
    ----------
    study
        Folder of the study.
    row
        The library in ``libraries.tsv``.
    section
        Its row of :func:`plan_sections`.

    Returns
    -------
    interface_mm, area_mm2, n_barcodes, and n_tail (malignant cells outside the planted niche and more than
    ``TAIL_FROM_UM`` beyond the border, where single cells are seen).
    """
    rng = design.rng(f"section {row.library_id}")
    hgp = section["hgp"] if isinstance(section["hgp"], str) else "pushing"  # of no consequence without a border
    geometry = _geometry(section, hgp, design, rng)
    of_tissue = {
        "deviations": clinical.composition_deviations(patients, design).loc[patient["patient_id"]],
        "malignant_shares": clinical.malignant_shares(patient),
        "hgp": hgp,
        "planted_niche": bool(section["planted_niche"]),
        "negative_control": bool(section["negative_control"]),
    }
    rates = expression.library_rates(
        atlas, design, patient=patient, batch=row.batch, chemistry=row.chemistry, platform=row.modality
    )
    person = {
        "alleles": alleles,
        "sex": patient["sex"],
        "platform": row.modality,
        "library": row.library_id,
        "design": design,
    }
    folder = study / row.path
    facts = {
        "interface_mm": round(tissue.interface_mm(geometry), 3),
        "area_mm2": round(float((geometry.outline < 1).sum()) * tissue.GRID_UM**2 / 1e6, 3),
        "n_tail": np.nan,
    }
    if section["pathologist"]:
        # A stream of its own: the drawing moves nothing else.
        drawn = tissue.drawn_tumour(geometry, rng=design.rng(f"pathologist {row.library_id}"))
        unit = 1.0 if row.modality == "xenium" else section["pixel_um"]
        write.write_outline(drawn, study / row.boundary_path, unit_um=unit)
    if row.modality == "visium":
        table, shares = _write_visium(folder, row, section, geometry, of_tissue, rates, cnv, atlas, design, person, rng)
        truth.spots.append(table)
        truth.abundance.append(shares)
        return facts | {"n_barcodes": len(table)}
    cells = single.simulate_cell_map(atlas, design, geometry, **of_tissue, rng=rng)
    if row.modality == "xenium":
        table = _write_xenium(folder, row, geometry, cells, hgp, rates, cnv, atlas, design, rng)
        truth.cells.append(table)
        beyond = (
            (table["malignant"] == 1) & (table["signed_distance_um"] > TAIL_FROM_UM) & (table["planted_niche"] == 0)
        )
        return facts | {"n_barcodes": len(table), "n_tail": int(beyond.sum())}
    table, shares = _write_hd(folder, row, section, geometry, cells, hgp, rates, cnv, atlas, design, person, rng)
    truth.bins.append(table)
    truth.bin_abundance.append(shares)
    return facts | {"n_barcodes": len(table)}


def _geometry(section: pd.Series, hgp: str, design: StudyDesign, rng: np.random.Generator) -> tissue.Section:
    block = section["shape"] == "block"
    if section["modality"] == "visium":
        spots = design.n_spots * (BLOCK_SPOTS if block and section["layout"] == "border" else 1.0)
        area = spots * tissue.PITCH_UM * tissue.ROW_UM
    else:
        area = design.core_mm2 * 1e6 * (BLOCK_AREA if block else 1.0)
    return tissue.simulate_section(
        design, shape=section["shape"], layout=section["layout"], hgp=hgp, rng=rng, area_um2=area
    )


def _write_visium(
    folder: Path,
    row: Any,
    section: pd.Series,
    geometry: tissue.Section,
    of_tissue: dict[str, Any],
    rates: np.ndarray,
    cnv: pd.DataFrame,
    atlas: expression.Atlas,
    design: StudyDesign,
    person: dict[str, Any],
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    counts, truth, abundance = tissue.simulate_spots(
        atlas, design, geometry, rates=rates, cnv=cnv, **of_tissue, rng=rng
    )
    spots = geometry.spots.assign(barcode=rng.permutation(write.barcodes(len(geometry.spots), rng)))
    levels = persons.spot_levels(abundance, counts.shape[0])
    counts = persons.add_personal_counts(counts, atlas.genes, levels=levels, **person)
    inside = spots["in_tissue"] == 1
    order = np.argsort(spots.loc[inside, "barcode"].to_numpy())
    names = spots.loc[inside, "barcode"].to_numpy()
    write.write_10x_h5(
        counts[order],
        names[order].tolist(),
        persons.with_personal_genes(atlas.genes),
        folder / "filtered_feature_bc_matrix.h5",
        library_id=row.library_id,
        chemistry="Spatial 3' v1",
        software="spaceranger-2.1.0" if section["positions_header"] else "spaceranger-1.3.1",
    )
    image = tissue.draw_image(geometry, hgp=of_tissue["hgp"], longest_side=design.image_pixels, rng=rng)
    write.write_spatial(
        spots,
        image,
        folder / "spatial",
        pixel_um=section["pixel_um"],
        image_scale=design.image_pixels / max(geometry.size_um),
        header=bool(section["positions_header"]),
    )
    abundance.insert(0, "barcode", names[abundance.pop("spot").to_numpy()])
    return _named(truth, names, row), _named(abundance, None, row)


def _write_xenium(
    folder: Path,
    row: Any,
    geometry: tissue.Section,
    cells: single.CellMap,
    hgp: str,
    rates: np.ndarray,
    cnv: pd.DataFrame,
    atlas: expression.Atlas,
    design: StudyDesign,
    rng: np.random.Generator,
) -> pd.DataFrame:
    panel = single.choose_panel(atlas, design)
    counts, features = single.image_cells(atlas, design, cells, panel=panel, rates=rates, cnv=cnv, rng=rng)
    polygons = single.cell_polygons(cells, geometry, hgp=hgp, rng=rng)
    names = np.array(write.cell_ids(len(cells.xy), rng))
    kinds = features["feature_type"].to_numpy()
    sums = {
        name: np.asarray(counts[:, kinds == kind].sum(axis=1)).ravel()
        for kind, name in {
            "Gene Expression": "transcript_counts",
            **{kind: name for kind, (_, _, name) in single.CONTROLS.items()},
        }.items()
    }
    area = single.polygon_areas(polygons)
    table = pd.DataFrame({"cell_id": names, "x_centroid": cells.xy[:, 0], "y_centroid": cells.xy[:, 1], **sums}).assign(
        total_counts=np.sum(list(sums.values()), axis=0),
        cell_area=area,
        nucleus_area=area * rng.uniform(0.3, 0.55, len(area)),
    )
    write.write_xenium(table, polygons, counts, features, folder, library_id=row.library_id)
    return _named(cells.truth, names, row)


def _write_hd(
    folder: Path,
    row: Any,
    section: pd.Series,
    geometry: tissue.Section,
    cells: single.CellMap,
    hgp: str,
    rates: np.ndarray,
    cnv: pd.DataFrame,
    atlas: expression.Atlas,
    design: StudyDesign,
    person: dict[str, Any],
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    depth = single.cell_depth(atlas, cells.population, median=single.BIN_DEPTH, power=0.7, rng=rng)
    genes = np.arange(len(atlas.genes))
    of_cells = single.count_transcripts(atlas, design, cells, rates=rates, cnv=cnv, genes=genes, depth=depth, rng=rng)
    image = tissue.draw_image(geometry, hgp=hgp, longest_side=design.image_pixels, rng=rng)
    scale = design.image_pixels / max(geometry.size_um)
    small = single.bin_frame(geometry)
    weights = single.bin_weights(cells.xy, small)
    counts = single.bin_transcripts(of_cells, cells.xy, small, rng=rng)
    counts = sparse.diags(small["in_tissue"].to_numpy(dtype=np.int32), dtype=np.int32) @ counts
    levels = single.bin_abundance(atlas, cells, weights)[1]
    levels = levels.to_numpy() @ persons.LEVELS.loc[levels.columns].to_numpy()
    counts = persons.add_personal_counts(counts.tocsr(), atlas.genes, levels=levels, **person)
    truths, shares = [], []
    for bin_um in (single.BIN_UM, 2 * single.BIN_UM):
        bins = single.bin_frame(geometry, bin_um=bin_um)
        merge = single.merge_bins(small, bins, factor=bin_um // single.BIN_UM)
        bins["barcode"] = write.bin_barcodes(bins, bin_um=bin_um)
        here, of_bins = (merge @ counts).tocsr(), (merge @ weights).tocsr()
        seen = (bins["in_tissue"] == 1).to_numpy() & (np.asarray(here.sum(axis=1)).ravel() > 0)
        seen = np.flatnonzero(seen & (of_bins.getnnz(axis=1) > 0))
        bins.loc[np.setdiff1d(bins.index, seen), "in_tissue"] = 0
        kept, of_kept = bins.iloc[seen], of_bins[seen]
        place = folder / "binned_outputs" / f"square_{bin_um:03d}um"
        write.write_10x_h5(
            here[seen],
            kept["barcode"].tolist(),
            persons.with_personal_genes(atlas.genes),
            place / "filtered_feature_bc_matrix.h5",
            library_id=row.library_id,
            chemistry="Visium HD v1",
            software="spaceranger-3.1.1",
        )
        write.write_bin_spatial(
            bins, image, place / "spatial", bin_um=bin_um, pixel_um=section["pixel_um"], image_scale=scale
        )
        fractions, of_rna = single.bin_abundance(atlas, cells, of_kept)
        table = single.bin_truth(geometry, cells, kept, of_kept, fractions).assign(bin_um=bin_um)
        truths.append(_named(table, kept["barcode"].to_numpy(), row))
        shares.append(_named(_long(fractions, of_rna, kept["barcode"].to_numpy()), None, row))
    return pd.concat(truths, ignore_index=True), pd.concat(shares, ignore_index=True)


def _long(fractions: pd.DataFrame, of_rna: pd.DataFrame, names: np.ndarray) -> pd.DataFrame:
    """barcode, cell_type, abundance, rna_fraction of the types that a bin holds."""
    where = np.nonzero(fractions.to_numpy())
    values = {"abundance": fractions.to_numpy()[where], "rna_fraction": of_rna.to_numpy()[where]}
    return pd.DataFrame({"barcode": names[where[0]], "cell_type": fractions.columns.to_numpy()[where[1]], **values})


def _named(table: pd.DataFrame, names: np.ndarray | None, row: Any) -> pd.DataFrame:
    table = table.copy()
    if names is not None:
        table.insert(0, "barcode", names)
    table.insert(0, keys.LIBRARY, row.library_id)
    return table
