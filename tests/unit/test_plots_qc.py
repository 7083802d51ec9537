"""Figures of quality control: drawn for every outcome, and in words where there is nothing to draw."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from livermet import keys
from livermet.plots.qc import plot_library_qc, plot_metrics, plot_waterfall
from livermet.status import REASONS


def make_table(n, *, spatial=False, mito=True, kept=True, seed=0):
    rng = np.random.default_rng(seed)
    reason = np.where(rng.random(n) < 0.2, rng.choice(REASONS, size=n), "") if kept else np.full(n, "library_excluded")
    return pd.DataFrame(
        {
            "barcode": [f"C{i}" for i in range(n)],
            keys.TOTAL_COUNTS: rng.integers(100, 9000, n),
            keys.N_GENES: rng.integers(50, 3000, n),
            keys.PCT_MITO: rng.uniform(0, 60, n) if mito else np.full(n, np.nan),
            keys.DOUBLET_SCORE: np.full(n, np.nan) if spatial else rng.uniform(0.001, 0.5, n),
            "coarse_group": "all",
            "kept": (reason == "").astype(int),
            "reason": pd.Series(reason).replace("", np.nan),  # as it comes back from a file
        }
    )


def make_status(library, table, *, reason=""):
    return {
        "library_id": library,
        "modality": "scrna",
        "status": "excluded" if reason else "ok",
        "reason": reason,
        "n_in": len(table),
        "n_out": int(table["kept"].sum()),
        "removed": table["reason"].dropna().value_counts().to_dict(),
        "metrics": {"doublet_threshold": 0.4},
    }


def words(figure):
    figure.draw_without_rendering()
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.parametrize(
    ("options", "panels"),
    [
        ({}, 4),
        ({"spatial": True}, 3),
        ({"mito": False}, 3),
        ({"mito": False, "spatial": True}, 2),
        ({"kept": False}, 4),
    ],
)
def test_a_library_has_the_panels_it_has_data_for(options, panels):
    table = make_table(60, **options)
    figure = plot_library_qc(table, make_status("L1", table))
    assert len(figure.axes) == panels and f"L1: {table['kept'].sum()} of 60 barcodes kept" in words(figure)


def test_the_curve_of_all_droplets_stands_beside_the_called_cells():
    table = make_table(60)
    status = make_status("L1", table)
    assert "all droplets" not in words(plot_library_qc(table, status))
    status["metrics"]["calling"] = {"certain": 1200, "curve": [[1, 9000], [60, 500], [2000, 40]]}
    figure = plot_library_qc(table, status)
    assert "line: all droplets" in words(figure) and "cells from 1,200 on" in words(figure)
    assert figure.axes[0].get_xlim()[1] > 2000


def test_bars_add_up_to_what_was_read_and_exclusions_are_explained():
    tables = [make_table(50, seed=1), make_table(40, kept=False), make_table(0)]
    reasons = ["", "12 of 40 cells passed", "x.h5: is a web page"]
    statuses = [make_status(f"L{i}", t, reason=r) for i, (t, r) in enumerate(zip(tables, reasons, strict=True))]
    figure = plot_waterfall(statuses)
    widths = np.zeros(3)
    for patch in figure.axes[0].patches:
        widths[round(patch.get_y() + 0.4)] += patch.get_width()
    assert widths.tolist() == pytest.approx([100, 100, 0])
    assert "excluded: x.h5: is a web page" in words(figure) and "0 of 40" in words(figure)


def test_metrics_show_every_library_that_holds_barcodes():
    tables = {"A": make_table(50), "B": make_table(50, mito=False), "C": make_table(30, kept=False), "D": make_table(0)}
    figure = plot_metrics(tables)
    assert len(figure.axes) == 3 and "no MT- gene" in words(figure) and "C  (n = 0)" in words(figure)
    assert len(plot_metrics({"B": tables["B"]}).axes) == 2


def test_nothing_to_show_is_said():
    assert "No library in this scope" in words(plot_waterfall([]))
    assert "holds any barcode" in words(plot_metrics({"D": make_table(0)}))
    table = make_table(0)
    assert "L1 holds no barcode: why" in words(plot_library_qc(table, make_status("L1", table, reason="why")))
