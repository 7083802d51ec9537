"""Visium HD: square bins of one size, with positions and scale factors of their own.

The bins are read with the readers of Visium. spatialdata-io, which reads this format too, is not used by livermet
(:mod:`livermet.imaging` says why): it asks for the feature slice file of the whole run, of which nothing is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from livermet import keys
from livermet.readers import place_spots
from livermet.sources import POSITION_FILES, SCALE_FILE, Source, find_source, read_scale_factors
from livermet.visium import differ, read_positions

# uns["livermet"]: side of a bin in micrometres
BIN_UM = "bin_um"


def read_visium_hd(
    source: Source | str | Path, *, pixel_um: float | None, bin_um: int | None = None, first: int | None = None
) -> AnnData:
    """Read the bins of one size of a Visium HD section.

    Parameters
    ----------
    source
        The Space Ranger folder, its folder of one bin size, or what :func:`livermet.sources.find_source` found in it.
    pixel_um
        Micrometres per pixel of the full-resolution image; None if the scale factors tell.
    bin_um
        Which bins to take, where ``source`` is a folder that holds several sizes.
    first
        Read only the first bins, with about so many values, whether in the tissue or not, and no image.

    Returns
    -------
    As :func:`livermet.readers.read_visium`, with ``uns["bin_um"]``: side of a bin in micrometres, as the files say.
    """
    source = source if isinstance(source, Source) else find_source(source, modality="visium_hd", bin_um=bin_um)
    scale_file = source.file(SCALE_FILE)
    if scale_file is None:
        raise ValueError(f"{source.base}: {SCALE_FILE} missing in spatial/; copy it from the Space Ranger output")
    factors = read_scale_factors(scale_file)
    if "bin_size_um" not in factors:
        raise ValueError(
            f"{scale_file}: bin_size_um missing, so these are no bins of Visium HD; name the folder of one bin size "
            "(square_016um) of the Space Ranger output"
        )
    side = float(factors["bin_size_um"])
    um_per_pixel = _micrometres_per_pixel(factors, pixel_um=pixel_um, path=scale_file)
    positions = read_positions(source.file(*POSITION_FILES), hexagonal=False)
    adata = place_spots(
        source,
        positions=positions,
        factors=factors,
        um_per_pixel=um_per_pixel,
        diameter_um=side,
        unit="bins",
        first=first,
    )
    pitch = _grid_pitch(positions)
    if pitch is not None and differ(pitch * um_per_pixel, side):
        adata.uns["notes"].append(
            f"{source.base}: neighbouring bins lie {pitch * um_per_pixel:.3g} um apart, but {SCALE_FILE} says that a "
            f"bin is {side:g} um wide: positions and scale factors may be of two bin sizes"
        )
    adata.uns[BIN_UM] = side
    return adata


def check_bins(positions: np.ndarray, *, bin_um: float, name: str) -> None:
    """Refuse the bins of an h5ad file, which does not tell their size, if they are not those of the config.

    Parameters
    ----------
    positions
        Bins x 2, in micrometres.
    bin_um
        Side of a bin by the config.
    name
        The file, for messages.

    Raises
    ------
    ValueError
        The median distance of a bin to its nearest neighbour is another one.
    """
    from scipy.spatial import KDTree

    if len(positions) < 2:
        return
    apart = float(np.median(KDTree(positions).query(positions, k=2)[0][:, 1]))
    if differ(apart, bin_um):
        raise ValueError(
            f"{name}: neighbouring bins lie {apart:.3g} um apart by obsm['spatial'] and pixel_um, but spatial.bin_um "
            f"is {bin_um:g}; correct pixel_um in libraries.tsv, or give all sections of the study the same bins"
        )


def _micrometres_per_pixel(factors: Mapping[str, float], *, pixel_um: float | None, path: Path) -> float:
    """Scale of the full-resolution image: as declared, else as the scale factors say, in one of two ways.

    For bins, unlike spots, ``spot_diameter_fullres`` is the side of a bin in pixels.
    """
    said = factors.get("microns_per_pixel")
    by_bin = factors["bin_size_um"] / factors["spot_diameter_fullres"] if "spot_diameter_fullres" in factors else None
    if said is not None and by_bin is not None and differ(by_bin, said):
        raise ValueError(
            f"{path}: microns_per_pixel is {said:.3g}, but bin_size_um / spot_diameter_fullres is {by_bin:.3g}; copy "
            "it again from the Space Ranger output"
        )
    ruler = said if said is not None else by_bin
    if ruler is None and pixel_um is None:
        raise ValueError(f"{path}: neither microns_per_pixel nor spot_diameter_fullres; give pixel_um in libraries.tsv")
    if pixel_um is not None and ruler is not None and differ(pixel_um, ruler):
        raise ValueError(
            f"{path}: gives {ruler:.3g} um per pixel, but pixel_um is {pixel_um:g}; correct pixel_um in libraries.tsv "
            "or leave it empty"
        )
    return pixel_um if pixel_um is not None else ruler


def _grid_pitch(positions: pd.DataFrame) -> float | None:
    """Distance of neighbouring bins in pixels, fitted from array rows and columns; None where they don't span both."""
    design = np.column_stack([np.ones(len(positions)), positions[keys.ARRAY_ROW], positions[keys.ARRAY_COL]])
    steps, _, rank, _ = np.linalg.lstsq(design, positions[["x", "y"]].to_numpy(dtype=float), rcond=None)
    return float(np.linalg.norm(steps[1:], axis=1).mean()) if rank == 3 else None
