"""Where spots and bins of a Visium slide lie: positions, micrometres per pixel and the image of Space Ranger."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from livermet import keys
from livermet.sources import SCALE_FILE, refuse_web_page

IN_TISSUE = "in_tissue"

# Visium slides (v1, v2 and CytAssist 6.5 and 11 mm): spots of 55 um on a hexagonal grid with 100 um between centres
# (10x Genomics, knowledge base 360035487572).
SPOT_PITCH_UM = 100.0
SPOT_DIAMETER_UM = 55.0
# What Space Ranger writes as ``spot_diameter_fullres`` spans a *theoretical spot of 65 um*, not one of 55 (its manual
# computes micrometres per pixel as 65 / spot_diameter_fullres). Real files agree: pitch / diameter is 1.538 = 100 / 65.
SCALE_FILE_SPOT_UM = 65.0
# Two rulers for the same picture may differ by rounding and registration, not by a fifth.
MAX_SCALE_DIFFERENCE = 0.2
# Positions of Space Ranger lie on the grid to within a pixel; in pitches.
MAX_OFF_GRID = 0.5
# The low-resolution image has at most 600 pixels a side; anything far larger is another picture, or damaged.
MAX_IMAGE_PIXELS = 5_000
# Pillow reports broken PNG chunks as SyntaxError, and leaves some faults to what unpacks them.
_IMAGE_FAULTS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)

_COLUMNS = ("barcode", IN_TISSUE, "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")


def read_positions(path: Path, *, hexagonal: bool = True) -> pd.DataFrame:
    """Positions of spots or bins of Space Ranger in any of its three files.

    Parameters
    ----------
    path
        The file.
    hexagonal
        Whether the array is that of spots, of which each is then checked to lie on its grid.

    Returns
    -------
    DataFrame indexed by barcode with in_tissue (0, 1), array_row, array_col, and x, y in pixels of the full-resolution
    image (x right, y down).

    Raises
    ------
    ValueError
        A column, a number or the end of the file is missing, a barcode is there twice, or a spot lies off the grid.
    """
    try:
        table = _read_table(path)
        missing = [name for name in _COLUMNS if name not in table]
        numbers = table[[name for name in _COLUMNS[1:] if name not in missing]].apply(pd.to_numeric, errors="coerce")
        names = table["barcode"].astype("string") if "barcode" not in missing else None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, pa.ArrowException) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: can't be read ({error}); copy it again from the Space Ranger output") from error
    if missing:
        raise ValueError(f"{path}: columns {', '.join(missing)} missing; copy it again from the Space Ranger output")
    broken = ~np.isfinite(numbers.to_numpy(dtype=float)).all(axis=1) | names.isna().to_numpy()
    if broken.any():
        raise ValueError(f"{path}: spot {int(np.argmax(broken)) + 1} has no number in each column; copy the file again")
    if names.duplicated().any():
        raise ValueError(f"{path}: barcode {names[names.duplicated()].iloc[0]} occurs more than once; copy it again")
    if not numbers[IN_TISSUE].isin([0, 1]).all():
        raise ValueError(f"{path}: in_tissue is neither 0 nor 1 for some spots; copy the file again")
    positions = pd.DataFrame(
        {
            IN_TISSUE: numbers[IN_TISSUE].astype(int),
            keys.ARRAY_ROW: numbers["array_row"].astype(int),
            keys.ARRAY_COL: numbers["array_col"].astype(int),
            "x": numbers["pxl_col_in_fullres"].astype(float),
            "y": numbers["pxl_row_in_fullres"].astype(float),
        }
    ).set_index(pd.Index(names.astype(str), name="barcode"))
    if hexagonal:
        _check_on_grid(positions, path)
    return positions


def _read_table(path: Path) -> pd.DataFrame:
    refuse_web_page(path)
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    text = path.read_text(encoding="utf-8-sig")
    if not text.endswith("\n"):
        raise ValueError(f"{path}: the last line has no end, so the file is truncated; copy it again")
    header = 0 if text.startswith("barcode") else None
    return pd.read_csv(path, header=header, names=None if header == 0 else list(_COLUMNS), encoding="utf-8-sig")


def _fit_grid(positions: pd.DataFrame) -> tuple[float, np.ndarray] | None:
    """Pitch of the hexagonal grid in pixels, and each spot's distance from where its row and column put it.

    Pixel positions are fitted by array row and column; neighbours are two columns, or one row and one column, apart.
    """
    design = np.column_stack([np.ones(len(positions)), positions[keys.ARRAY_ROW], positions[keys.ARRAY_COL]])
    pixels = positions[["x", "y"]].to_numpy(dtype=float)
    coefficients, _, rank, _ = np.linalg.lstsq(design, pixels, rcond=None)
    if rank < 3:
        return None
    row, col = coefficients[1:]
    pitch = np.median([np.linalg.norm(step) for step in (2 * col, row + col, row - col)])
    return float(pitch), np.linalg.norm(pixels - design @ coefficients, axis=1)


def grid_pitch(positions: pd.DataFrame) -> float | None:
    """Distance of neighbouring spots in pixels, measured from the hexagonal grid; None where spots don't span it."""
    grid = _fit_grid(positions)
    return None if grid is None else grid[0]


def _check_on_grid(positions: pd.DataFrame, path: Path) -> None:
    grid = _fit_grid(positions)
    if grid is None:
        return
    pitch, off = grid
    worst = int(np.argmax(off))
    if off[worst] > MAX_OFF_GRID * pitch:
        raise ValueError(
            f"{path}: spot {positions.index[worst]} lies {off[worst]:.0f} pixels from where its array row and column "
            f"put it (spots are {pitch:.0f} apart); copy the file again from the Space Ranger output"
        )


def micrometres_per_pixel(
    positions: pd.DataFrame, *, spot_diameter: float | None, pixel_um: float | None, name: str
) -> float:
    """Scale of a Visium section: as declared, else from the grid (100 um between spots), else from the spot diameter.

    The grid comes before ``spot_diameter_fullres`` because the latter stands for a theoretical spot of 65 um, while
    slides have spots of 55 um and both numbers are used in public code.

    Raises
    ------
    ValueError
        Two of the rulers contradict each other by more than 20 %, or none is there.
    """
    pitch = grid_pitch(positions)
    measured = SPOT_PITCH_UM / pitch if pitch else None
    by_spot = SCALE_FILE_SPOT_UM / spot_diameter if spot_diameter else None
    if measured is None and by_spot is None and pixel_um is None:
        raise ValueError(
            f"{name}: too few spots to measure the grid, and no {SCALE_FILE}; give pixel_um in libraries.tsv"
        )
    if measured is not None and by_spot is not None and differ(by_spot, measured):
        raise ValueError(
            f"{name}: {SCALE_FILE} says {by_spot:.3g} um per pixel (spot of {SCALE_FILE_SPOT_UM:g} um), the grid of "
            f"the positions {measured:.3g} (spots {SPOT_PITCH_UM:g} um apart); the files are not of one section"
        )
    ruler = measured if measured is not None else by_spot
    if pixel_um is not None:
        if ruler is not None and differ(pixel_um, ruler):
            raise ValueError(
                f"{name}: pixel_um is {pixel_um:g}, but the slide itself gives {ruler:.3g} um per pixel; positions "
                "count in pixels of the full-resolution image: correct pixel_um in libraries.tsv or leave it empty"
            )
        return pixel_um
    return ruler


def differ(value: float, reference: float) -> bool:
    """Whether two rulers for the same picture contradict each other."""
    return not abs(value / reference - 1) <= MAX_SCALE_DIFFERENCE


def tissue_image(
    path: Path,
    *,
    factors: Mapping[str, float],
    positions: pd.DataFrame,
    um_per_pixel: float,
    diameter_um: float,
    notes: list[str],
) -> dict[str, dict] | None:
    """The tissue image (uint8 RGB) with scale factors that fit coordinates in micrometres.

    An image that is damaged, or that the spots don't lie in, is noted and left out: counts and positions stand without
    it.
    """
    scale = factors["tissue_lowres_scalef"]
    try:
        with Image.open(path) as image:
            if max(image.size) > MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are no low-resolution image")
            outside = int(((positions[["x", "y"]] * scale) > image.size).any(axis=1).sum())
            if outside:
                raise ValueError(
                    f"{outside} of {len(positions)} spots lie outside it by tissue_lowres_scalef {scale:g}: not of one "
                    "section"
                )
            pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
    except _IMAGE_FAULTS as error:
        notes.append(f"{path}: image left out ({error}); the section goes on without it")
        return None
    scales = {"tissue_lowres_scalef": scale / um_per_pixel, "spot_diameter_fullres": diameter_um}
    return {"images": {"lowres": pixels}, "scalefactors": scales}
