"""What the page of a section says of it, in words: its border, zones, growth pattern, and what its genes can't tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from livermet import keys
from livermet.deconvolve import RARE_SHARE
from livermet.pages import is_finite, significant

UNITS = {"spot": "spots", "bin": "bins", "cell": "cells"}
PERCENT = 100.0
PATTERNS = ("desmoplastic", "replacement", "pushing")


def section_facts(
    summary: Mapping[str, Any],
    growth: Mapping[str, Any],
    confusable: Sequence[Mapping[str, Any]],
    *,
    n_genes: int,
    rare: Sequence[str] = (),
    polygon_notes: Sequence[str] = (),
) -> list[tuple[str, str]]:
    """Terms and what is known, in the order of the page.

    Parameters
    ----------
    summary
        The section's row of ``sections.tsv``.
    growth
        Its row of ``growth_pattern.tsv``.
    confusable
        Pairs of types that the panel does not tell apart (:class:`livermet.panel.Labels`); empty for spots and bins.
    n_genes
        Genes that cells were labelled by; 0 for spots and bins.
    rare
        Types that are rare in a section of spots or bins (:func:`livermet.deconvolve.rare_types`).
    polygon_notes
        How the classes of the pathologist's file were used, and what was repaired or left out
        (:class:`livermet.polygon.Outline`).
    """
    unit = UNITS[str(summary["resolution"])]
    facts = [("border", _border(summary)), ("zones", _zones(summary, unit)), ("growth pattern", _growth(growth))]
    if _text(growth["growth_pattern"]):
        facts.append(("along the border", _evidence(growth)))
    if polygon_notes:
        facts.insert(1, ("pathologist's polygon", "; ".join(polygon_notes)))
    if n_genes:
        facts.append(("cell types", _panel(confusable, n_genes)))
    if rare:
        share = f"below {PERCENT * RARE_SHARE:g} % of the section"
        facts.append(("rare here", f"{', '.join(rare)}: {share}; their map is not to be read"))
    return facts


def _border(summary: Mapping[str, Any]) -> str:
    if not _text(summary["border_source"]):
        return f"none: {_text(summary['reason'])}"
    text = f"{float(summary['interface_mm']):.1f} mm of tumour-liver border"
    if summary["border_source"] == "polygon":
        text += ", as the pathologist drew it"
        if is_finite(summary["polygon_distance_um"]):
            text += f"; expression puts it {significant(summary['polygon_distance_um'])} um away (median)"
        if is_finite(summary["polygon_same_side"]):
            text += f" and has {100 * float(summary['polygon_same_side']):.0f} % of the section on the same side"
        return text
    return f"{text}, from expression; its place is known to about {significant(summary['band_um'])} um"


def _text(value: Any) -> str:
    """Text of a table, where an empty field may be a missing number."""
    return value if isinstance(value, str) else ""


def _zones(summary: Mapping[str, Any], unit: str) -> str:
    numbers = [(name, int(summary[f"n_{name}"])) for name in keys.ZONES[:5]]
    if not any(n for _, n in numbers):
        reason = _text(summary["border_source"]) and _text(summary["reason"])
        return f"none: {reason}" if reason else "none"
    return ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in numbers) + f" {unit}"


def _growth(growth: Mapping[str, Any]) -> str:
    pathologist = _text(growth["pathologist"]) and f"; the pathologist reads {growth['pathologist']}"
    if not _text(growth["growth_pattern"]):
        return f"not stated: {_text(growth['reason']) or 'no border'}{pathologist}"
    shares = ", ".join(f"{name} {float(growth[f'{name}_pct']):.0f} %" for name in PATTERNS)
    return f"{growth['growth_pattern']} ({shares} of the interface){pathologist}; auxiliary to a pathologist's reading"


def _evidence(growth: Mapping[str, Any]) -> str:
    """What the growth pattern rests on, and the roughness of the border, which stands beside it."""
    told = {
        "mixing_um": "malignant cells and hepatocytes stand together over {:.0f} um",
        "rim": "fibroblasts {:+.0%} in the rim against the tissue around",
        "roughness": "roughness {:.2f} (1 is a smooth line; it does not enter the pattern)",
    }
    known = [text.format(float(growth[name])) for name, text in told.items() if is_finite(growth[name])]
    return f"on average {', '.join(known)}" if known else "not known"


def _panel(confusable: Sequence[Mapping[str, Any]], n_genes: int) -> str:
    text = f"labelled by {n_genes} genes that panel and reference share"
    if not confusable:
        return f"{text}; these tell all types of the reference apart in a cell of median depth"
    pairs = sorted({tuple(sorted((row["cell_type"], row["confused_with"]))) for row in confusable})
    return f"{text}; in a cell of median depth they do not tell apart {', '.join(' and '.join(p) for p in pairs)}"
