"""The page of one library: what a reader must know of it first, its metrics beside those of the others, its figures."""

from __future__ import annotations

import logging
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from livermet.captions import caption_params, render_caption
from livermet.deconvolve import rare_types
from livermet.keys import CELL_MODALITIES, RESOLVED_MODALITIES, unit_of
from livermet.pages import Embedded, embed, is_finite, significant, template

logger = logging.getLogger(__name__)

ALTERNATIVES = {"library_qc": "Quality of each cell or spot of", "section": "Panels of section"}
# What each metric of a library means, how it is written, and which values are the worrying ones.
METRICS = {
    "median_counts": ("Median counts", "counts per cell or spot", "number", "low"),
    "median_genes": ("Median genes", "genes detected per cell or spot", "number", "low"),
    "median_pct_mito": ("Median mitochondrial", "of the counts", "percent", "high"),
    "doublet_rate": ("Doublets called", "of the cells that were otherwise fine", "share", "high"),
    "detectable_doublets": ("Doublets detectable", "of made doublets of two kinds of cells", "share", "low"),
}


@dataclass(frozen=True)
class LibraryInputs:
    """All that the page of one library is made of.

    Attributes
    ----------
    scope, simulated
        Name of the scope, and whether the data were made by a program.
    row
        What the study tables say of the library: ids, modality, batch, timepoint, tissue and so on.
    status
        The library's ``status.json``, with status and reason as its scope decided.
    siblings
        The same of all libraries of the scope, for comparison.
    figures
        PNG bytes by name: ``library_qc``, and ``section`` for a section, in the order of the page.
    captions, params
        Caption sources by the same names, and the sections of the config that they use.
    types
        Name and number (cells) or summed fraction (sections) of each cell type found.
    order
        Ids of the scope's libraries in the order of the pages.
    warnings
        What the findings of the scope say of the library, beside an exclusion.
    section
        Of a section: terms and what is known (:func:`livermet.section_report.section_facts`).
    rare
        Types that are rare in a section of spots or bins, marked in the table of types.
    blinded
        Whether the run is blinded, which the page says like every other.
    """

    scope: str
    simulated: bool
    row: Mapping[str, Any]
    status: Mapping[str, Any]
    siblings: Sequence[Mapping[str, Any]]
    figures: Mapping[str, bytes]
    captions: Mapping[str, str]
    params: Mapping[str, Any]
    types: Mapping[str, float]
    order: Sequence[str]
    warnings: Sequence[str] = ()
    section: Sequence[tuple[str, str]] = ()
    rare: Sequence[str] = ()
    blinded: bool = False


def count_types(cell_types: Iterable[str]) -> dict[str, float]:
    """Cells of each type."""
    return dict(Counter(cell_types))


def total_abundances(abundance: pd.DataFrame) -> dict[str, float]:
    """Abundance of each type over a section, from the long table of abundances."""
    return abundance.groupby("cell_type", observed=True, sort=True)["abundance"].sum().to_dict()


def rare_abundances(abundance: pd.DataFrame, *, modality: str) -> list[str]:
    """Types that are rare in a section of spots or bins; none where single cells are told apart, which are counted."""
    if modality in RESOLVED_MODALITIES:
        return []
    return rare_types(abundance.groupby("cell_type", observed=True, sort=True)["abundance"].mean())


def library_page(inputs: LibraryInputs) -> str:
    """HTML of the page of one library."""
    library = inputs.row["library_id"]
    order = list(inputs.order)
    at = order.index(library)
    status = inputs.status
    removed = [(reason, int(n)) for reason, n in status["removed"].items() if n]
    contents = [
        ("alerts", "Alerts"),
        *([("section", "Where")] if inputs.section else []),
        ("metrics", "Key metrics"),
        ("removed", "What was removed"),
        ("figures", "Figures"),
        ("types", "Types found"),
    ]
    html = template("library").render(
        page_title=f"Library {library}",
        scope=inputs.scope,
        simulated=inputs.simulated,
        blinded=inputs.blinded,
        descriptive=False,
        contents=contents,
        library=library,
        row=inputs.row,
        status=status,
        unit=unit_of(status["modality"]),
        counted=status["modality"] in CELL_MODALITIES,
        section=inputs.section,
        notes=status["notes"],
        alerts=library_alerts(status, inputs.siblings, warnings=inputs.warnings),
        metrics=_metrics(status, inputs.siblings),
        ambient_source=status["metrics"].get("ambient_source", "none"),
        contamination=contamination_words(status["metrics"].get("contamination")),
        doublets=doublet_words(status["metrics"], chemistry=str(inputs.row.get("chemistry") or "")),
        waterfall=_waterfall(int(status["n_in"]), removed, int(status["n_out"])),
        figures=_figures(inputs),
        types=_types(inputs.types, spatial=status["modality"] not in CELL_MODALITIES, rare=inputs.rare),
        previous=order[at - 1] if at else "",
        following=order[at + 1] if at + 1 < len(order) else "",
        position=at + 1,
        total=len(order),
    )
    logger.info("page of library %s: %.2f MB", library, len(html.encode()) / 1e6)
    return html


def library_alerts(
    status: Mapping[str, Any], siblings: Sequence[Mapping[str, Any]], *, warnings: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """What a reader must know of a library first: exclusion, warnings of the scope, unusual metrics.

    Returns
    -------
    (tone, text) pairs, tone being "bad", "warn" or "ok". A metric is flagged if it lies more than three scaled median
    absolute deviations beyond the median of the scope's passed libraries of the same modality, on its worrying side;
    fewer than five such libraries are no yardstick.
    """
    unit = unit_of(status["modality"])
    n_in, n_out = int(status["n_in"]), int(status["n_out"])
    alerts = []
    if status["status"] != "ok":
        alerts.append(("bad", f"This library is {status['status']}: {status['reason']}. No result uses it."))
    elif n_in and n_out / n_in < 0.5:
        alerts.append(("warn", f"Only {n_out:,} of {n_in:,} {unit} ({100 * n_out / n_in:.0f} %) were kept."))
    alerts += [("warn", f"{text[0].upper()}{text[1:]}.") for text in warnings]
    calling = status["metrics"].get("calling")
    if calling:
        alerts.append(
            ("warn", f"{calling_words(calling)} A matrix of called cells, given as path, would be taken as it is.")
        )
    if status["status"] == "ok":
        for name, (title, _, form, worry) in METRICS.items():
            value, others = status["metrics"].get(name), _sibling_values(name, status["modality"], siblings)
            if not is_finite(value) or len(others) < 5:
                continue
            middle = statistics.median(others)
            spread = 1.4826 * statistics.median(abs(other - middle) for other in others)
            distance = (value - middle) if worry == "high" else (middle - value)
            if spread > 0 and distance > 3 * spread:
                beside = f"the median of {len(others)} libraries is {_written(middle, form)}"
                alerts.append(("warn", f"{title}: {_written(value, form)}; {beside}."))
        if status["modality"] in CELL_MODALITIES and status["metrics"].get("ambient_source", "none") == "none":
            alerts.append(
                ("warn", "No ambient profile could be estimated: a little of an abundant gene may be ambient RNA.")
            )
    return alerts or [("ok", f"Nothing unusual: {n_out:,} of {n_in:,} {unit} were kept.")]


def _figures(inputs: LibraryInputs) -> list[Embedded]:
    library = inputs.row["library_id"]
    offered, wildcards = caption_params(inputs.params), {"scope": inputs.scope, "library": library}
    return [
        embed(
            png,
            caption=render_caption(inputs.captions[name], params=offered, wildcards=wildcards, name=name),
            alt=f"{ALTERNATIVES[name]} {library}, described in the caption below",
        )
        for name, png in inputs.figures.items()
    ]


def _metrics(status: Mapping[str, Any], siblings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Key metrics beside those of the other libraries of the same modality."""
    rows = []
    for name, (title, unit, form, _) in METRICS.items():
        value = status["metrics"].get(name)
        if not is_finite(value):
            continue
        others = _sibling_values(name, status["modality"], siblings)
        low, high = min([*others, value]), max([*others, value])
        span = (high - low) or 1.0
        rows.append(
            {
                "title": title,
                "unit": unit,
                "here_text": _written(value, form),
                "n": len(others),
                "median_text": _written(statistics.median(others), form) if others else "–",
                "dots": [round(4 + 192 * (other - low) / span, 1) for other in sorted(others)],
                "at": round(4 + 192 * (value - low) / span, 1),
            }
        )
    return rows


def _written(value: float, form: str) -> str:
    """A metric as people read it."""
    if form == "number":
        return significant(value)
    return f"{value if form == 'percent' else 100 * value:.1f} %"


def _sibling_values(name: str, modality: str, siblings: Sequence[Mapping[str, Any]]) -> list[float]:
    passed = [s for s in siblings if s["modality"] == modality and s["status"] == "ok"]
    return [float(s["metrics"][name]) for s in passed if is_finite(s["metrics"].get(name))]


def contamination_words(found: Mapping[str, Any] | None) -> str:
    """What is known of the ambient share of the counts, in a sentence; "" for sections, where it is not asked."""
    if found is None:
        return ""
    if found["basis"] == "none":
        return f"Ambient share of the counts: not known ({found['reason']})."
    percent = {name: f"{100 * found[name]:.1f}" for name in ("fraction", "low", "high")}
    if found["basis"] == "estimate":
        return (
            f"Ambient share of the counts: {percent['fraction']} % (95 % interval {percent['low']} to "
            f"{percent['high']} %), by {found['gene']} in cells that are no hepatocytes."
        )
    return (
        f"Ambient share of the counts: at most {percent['fraction']} % (95 % limit {percent['high']} %), by "
        f"{found['gene']} in cells that are no hepatocytes; raw droplets would tell it better."
    )


def calling_words(calling: Mapping[str, Any]) -> str:
    """How cells were called from all droplets, in two sentences."""
    smaller = calling["n_called"] - calling["n_certain"]
    return (
        f"Cells were called here, from {calling['n_droplets']:,} droplets (EmptyDrops, false discovery rate "
        f"{calling['fdr']:g}): {calling['n_certain']:,} with {calling['certain']:,} counts or more, and {smaller:,} of "
        f"{calling['n_tested']:,} smaller ones that are unlike ambient RNA. Of the fullest empty droplets "
        f"{100 * calling['misfit']:.0f} % seem unlike it at p <= 0.05, where 5 % should; of the smallest droplets "
        f"called for their size {100 * calling['ambient_like']:.0f} % can't be told from it."
    )


def doublet_words(metrics: Mapping[str, Any], *, chemistry: str) -> str:
    """Which rate of doublets was expected and why, and how many can be found, in sentences; "" for sections."""
    if "doublets_per_1000" not in metrics:
        return ""
    basis = {
        "config": "as the config says",
        "chemistry": f"by the chemistry {chemistry}" if chemistry else "by the chemistry",
        "default": "since the chemistry is not known",
    }[metrics["doublets_per_1000_basis"]]
    words = (
        f"Doublets expected: {100 * metrics['expected_doublet_rate']:.1f} % of the cells "
        f"({100 * metrics['doublets_per_1000']:g} % per 1,000 recovered cells, {basis})."
    )
    found = metrics["detectable_doublets"]
    if found is None:
        return words
    return (
        f"{words} Of doublets made of two kinds of cells {100 * found:.0f} % reach the threshold; those of one kind "
        "can't be told from single cells."
    )


def _waterfall(n_in: int, removed: Sequence[tuple[str, int]], n_out: int) -> list[dict[str, Any]]:
    """Steps from read to kept, each with its bar's start and length in percent of what was read."""
    left, rows = n_in, [{"name": "read", "n": n_in, "start": 0.0, "width": 100.0 if n_in else 0.0, "lost": False}]
    for reason, n in removed:
        left -= n
        rows.append({"name": reason, "n": n, "start": 100 * left / n_in, "width": 100 * n / n_in, "lost": True})
    rows.append({"name": "kept", "n": n_out, "start": 0.0, "width": 100 * n_out / n_in if n_in else 0.0, "lost": False})
    return rows


def _types(types: Mapping[str, float], *, spatial: bool, rare: Sequence[str]) -> list[dict[str, Any]]:
    total = sum(types.values()) or 1.0
    order = sorted(types.items(), key=lambda item: (-item[1], item[0]))
    return [
        {
            "name": name,
            "n": None if spatial else int(n),
            "share": n / total,
            "width": 100 * n / total,
            "rare": name in rare,
        }
        for name, n in order
        if n > 0
    ]
