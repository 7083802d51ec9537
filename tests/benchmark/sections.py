"""Time and peak memory of the spatial steps on one section of segmented cells, by the number of cells.

    python tests/benchmark/sections.py --cells 20000 100000 300000

Simulated cells over a panel of about 300 genes, each size in a process of its own. Prints one line per size and step:
seconds, and the largest memory that the process has held so far. Memory of the first line is that of the section itself.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import yaml
from anndata import AnnData

from livermet import keys
from livermet.config import DEFAULT_CONFIG
from livermet.contacts import scope_contacts
from livermet.contents import section_contents
from livermet.deconvolve import profiles_of_patient, reference_profiles
from livermet.moran import section_genes
from livermet.neighbourhood import scope_cooccurrence, scope_neighbourhood
from livermet.niches import find_niches
from livermet.section import section_of
from livermet.simulate.cells import simulate_cells_section
from livermet.zones import ZONE_OPTIONS, map_section

ROW = {keys.LIBRARY: "S", keys.PATIENT: "P", keys.TIMEPOINT: "T0_pre", keys.TISSUE: "liver_met"}
REFERENCE_CELLS = 6000


def main() -> int:
    """Measure each size in a child process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[20_000, 100_000, 300_000])
    sizes = parser.parse_args().cells
    if len(sizes) == 1:
        measure(sizes[0])
        return 0
    print("cells\tstep\tseconds\tpeak_mb", flush=True)
    return max(subprocess.run([sys.executable, __file__, "--cells", str(n)], check=False).returncode for n in sizes)


def measure(n_cells: int) -> None:
    """Run and print the steps on one section."""
    config = yaml.safe_load(DEFAULT_CONFIG.read_text(encoding="utf-8"))
    spatial, neighbourhood, niches = config["spatial"], dict(config["neighbourhood"]), dict(config["niches"])
    profiles = reference()
    section = simulate_cells_section(n_cells=n_cells)
    section.uns[keys.META][keys.LIBRARY] = ROW[keys.LIBRARY]
    n_cells = section.n_obs
    report(n_cells, "section", 0.0)

    found = timed(
        n_cells,
        "labels",
        lambda: section_contents(
            section,
            profiles,
            n_genes_per_type=spatial["n_genes_per_type"],
            n_bootstrap=0,
            min_label_confidence=spatial["min_label_confidence"],
            deconvolution="regression",
            cell2location={},
            seed=1,
        ),
    )
    options = {name: spatial[name] for name in ZONE_OPTIONS}
    mapped = timed(
        n_cells,
        "zones",
        lambda: map_section(section, found.fractions, found.types, abundance_reason=found.reason, **options),
    )
    part = section_of(mapped, row=ROW)
    null = {"bin_um": neighbourhood["bin_um"], "seed": 1}
    draws = neighbourhood.pop("contact_permutations")
    niches.pop("earlier")
    timed(n_cells, "neighbourhood", lambda: scope_neighbourhood([part], **neighbourhood, seed=1))
    timed(n_cells, "co-occurrence", lambda: scope_cooccurrence([part], **neighbourhood, seed=1))
    timed(
        n_cells,
        "contacts",
        lambda: scope_contacts([part], n_permutations=draws, min_cells=neighbourhood["min_cells"], **null),
    )
    timed(n_cells, "niches", lambda: find_niches([part], counts={"S": lambda: mapped}, **niches, **null))
    invasion = config["invasion"]
    genes = {
        "n_genes": invasion["n_spatial_genes"],
        "min_expressed": invasion["min_expressed"],
        "min_observations": invasion["min_spots_genes"],
        **{"resolution": part.resolution, "min_spots": invasion["min_spots"], "min_cells": invasion["min_cells"]},
    }
    timed(n_cells, "spatial genes", lambda: section_genes(mapped.X, mapped.var_names, part.graph, part.zone, **genes))


def reference() -> AnnData:
    """Profiles of the cell types, from the true types of a small section."""
    cells = simulate_cells_section(n_cells=REFERENCE_CELLS, seed=2)
    cells.obs = pd.DataFrame(
        {keys.CELL_TYPE: cells.obs["cell_type"], keys.CELL_STATE: "", keys.PATIENT: "Q", keys.LIBRARY: "R"},
        index=cells.obs_names,
    )
    return profiles_of_patient(
        reference_profiles(cells, min_cells=20, min_malignant_cells=np.iinfo(int).max, split_states=[]), "P"
    )


def timed(n_cells: int, step: str, work: Callable[[], Any]) -> Any:
    """Result of the work; prints how long it took."""
    started = time.perf_counter()
    result = work()
    report(n_cells, step, time.perf_counter() - started)
    return result


def report(n_cells: int, step: str, seconds: float) -> None:
    """One line of the table."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{n_cells}\t{step}\t{seconds:.1f}\t{peak:.0f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
