"""What all figures share: fonts, colours, saving."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from livermet.files import replacing

DPI = 150
GREY = "#9a9a9a"
LIGHT = "#e6e6e6"
INK = "#222222"
ACCENT = "#b2182b"
MARK = {"fontsize": 7, "weight": "bold", "color": ACCENT}

COMPARTMENT_COLOURS = {
    "epithelial": "#c0392b",
    "liver_parenchyma": "#b5803a",
    "endothelial": "#16a085",
    "mesenchymal": "#8e44ad",
    "myeloid": "#e08a1e",
    "lymphoid": "#2e6fb7",
    "blood": "#7f1d1d",
    "pancreas_only": "#8a9a2b",
    "neural": "#5d6d7e",
    "unknown": "#bdbdbd",
}
ZONE_COLOURS = {
    "core": "#7a0c1e",
    "inner_rim": "#c8443c",
    "margin": "#f2b134",
    "peritumoral": "#7fb7d6",
    "distant": "#2c6a9c",
    "none": "#cfcfcf",
}
FIXED_COLOURS = COMPARTMENT_COLOURS | {
    "malignant_ductal": "#c0392b",
    "cholangiocyte": "#f1948a",
    "epithelial_uncertain": "#e6b0aa",
    "hepatocyte": "#b5803a",
    "unknown": "#bdbdbd",
    "malignant": "#c0392b",
    "normal": "#5b8db8",
    "ambiguous": "#e0b04c",
    "not_tested": "#bdbdbd",
}
# Twenty-eight hues that stay apart on white, in the spirit of the palettes of Glasbey et al. 2007.
_HUES = (
    "#1f77b4 #ff7f0e #2ca02c #9467bd #8c564b #e377c2 #17becf #bcbd22 #393b79 #637939 #8c6d31 #843c39 #7b4173 #3182bd "
    "#e6550d #31a354 #756bb1 #636363 #6baed6 #fd8d3c #74c476 #9e9ac8 #ad494a #a55194 #cedb9c #e7ba52 #5254a3 #d6616b"
)
CYCLE = tuple(_HUES.split())

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
mpl.rcParams.update(STYLE)


def new_figure(*, width: float, height: float) -> Figure:
    """An empty figure in the project's style with automatic layout; width and height in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def message_figure(text: str, *, width: float = 7.0, height: float = 1.6) -> Figure:
    """A figure that says in words why there is nothing to show."""
    figure = new_figure(width=width, height=height)
    figure.text(0.5, 0.5, text, ha="center", va="center", wrap=True, fontsize=9, color="#555555")
    return figure


def save_figure(figure: Figure, path: str | Path, *, simulated: bool, blind: bool = False) -> None:
    """Save a figure as PNG with the same bytes for the same figure.

    Simulated data are labelled as such in a corner. Figures of a blinded run that are drawn by permuted labels get
    a strip at the top that says so, which the drawing makes room for.
    """
    if blind:
        strip = 0.2 / figure.get_figheight()  # inches
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.set(rect=(0, 0, 1, 1 - strip))
        figure.text(0.5, 1 - strip / 2, "BLINDED: LABELS PERMUTED", ha="center", va="center", **MARK)
    if simulated:
        figure.text(0.998, 0.002, "SIMULATED DATA", ha="right", va="bottom", **MARK)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour per name: known compartments, types and calls keep theirs, the others follow in the order given."""
    names = list(dict.fromkeys(names))
    free = iter(CYCLE * (1 + len(names) // len(CYCLE)))
    return {name: FIXED_COLOURS.get(name) or next(free) for name in names}
