"""The pathologist's outline of the tumour: GeoJSON as QuPath writes it, in micrometres of the section."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from livermet import keys
from livermet.privacy import identifier_in, mask

if TYPE_CHECKING:
    from anndata import AnnData
    from shapely.geometry.base import BaseGeometry

# Names of classes are cut into words where they have anything but letters; a word of these kinds names tissue.
TUMOUR_WORD = re.compile(r".*(tumou?r|metasta).*|mets?")
LIVER_WORD = re.compile(r"livers?")
# With one of these words, or glued to one, a name tells where something lies by the tumour, and is not the tumour. To
# take the tumour for something else ends in a message; to take something else for the tumour would go unseen.
DENIALS = (
    *("peri", "extra", "para", "juxta", "no", "not", "non", "without", "free", "outside", "beyond"),
    *("adjacent", "near", "next", "close", "beside", "around", "surrounding"),
)
# One of these before "liver" says that it is not the liver, or not only; "near liver" and "adjacent to liver" too.
NOT_LIVER = re.compile(
    r"(?:^| )(?:no|not|non|outside|beyond|near|beside|around|(?:adjacent|next|close) to)(?: the)? liver"
)
AREAS = ("Polygon", "MultiPolygon")
UNITS = {"um": "um", "µm": "um", "μm": "um", "px": "px"}
# Modalities whose pathologists draw on the full-resolution image, in its pixels; elsewhere micrometres are expected.
PIXEL_MODALITIES = ("visium", "visium_hd")


@dataclass(frozen=True)
class Outline:
    """Tumour, and liver where it was drawn (else None), in the unit "um", "px" or "" (not told by the file).

    ``notes`` tells what was repaired or left out, ``classes`` which classes of the file were taken as tumour, as liver,
    and which were ignored.
    """

    tumour: BaseGeometry
    liver: BaseGeometry | None
    unit: str
    notes: tuple[str, ...]
    classes: str = ""


def read_outline(path: str | Path) -> Outline:
    """Read the pathologist's polygons.

    Features (Polygon, MultiPolygon) are tumour or liver by the words of their classification (:func:`class_kind`); in a
    file without any classification all are tumour. A member "unit" of the file, or a property
    "unit" of its features, says "um" or "px". Polygons that cross themselves are repaired (shapely ``make_valid``).

    Raises
    ------
    ValueError
        The file is no GeoJSON of polygons, or holds no tumour.
    """
    import shapely

    path = Path(path)
    content = _parsed(path)
    features = content if isinstance(content, list) else content.get("features")
    if not isinstance(features, list):
        raise ValueError(
            f"{path}: is no GeoJSON FeatureCollection (no list of features); export the annotations from QuPath as one"
        )
    parts: dict[str, list[BaseGeometry]] = {"tumour": [], "liver": []}
    notes, units = [], {} if isinstance(content, list) or "unit" not in content else {str(content["unit"]): "the file"}
    names = [_class_name(feature) for feature in features]
    for number, (feature, name) in enumerate(zip(features, names, strict=True), start=1):
        kind = class_kind(name) if any(names) else "tumour"
        if not kind:
            continue
        place = f"feature {number}" + (f" ({_shown(name)})" if name else "")
        geometry = feature.get("geometry") if isinstance(feature, Mapping) else None
        found = geometry.get("type") if isinstance(geometry, Mapping) else None
        if found not in AREAS:
            notes.append(f"{path.name}: {place} is no area ({found or 'no geometry'}): left out")
            continue
        shape, note = _area(geometry, f"{path}: {place}")
        notes += [f"{path.name}: {place} {note}"] if note else []
        parts[kind].append(shape)
        unit = _properties(feature).get("unit")
        if unit is not None:
            units.setdefault(str(unit), place)
    if not parts["tumour"]:
        seen = ", ".join(sorted({_shown(name) for name in names if name})) or "none"
        raise ValueError(
            f"{path}: no tumour polygon (classes of its {len(features)} features: {seen}); draw the tumour as a "
            "polygon and give it a class with Tumor or Metastasis in its name, such as QuPath's Tumor; names such as "
            "Peritumoral or Adjacent to tumor are not the tumour"
        )
    for unit, place in units.items():
        if unit not in UNITS:
            raise ValueError(f"{path}: {place}: unit {unit!r}; expected um (micrometres) or px (pixels)")
    if len({UNITS[unit] for unit in units}) > 1:
        raise ValueError(f"{path}: features in micrometres beside features in pixels; write the file in one unit")
    return Outline(
        tumour=shapely.union_all(parts["tumour"]),
        liver=shapely.union_all(parts["liver"]) if parts["liver"] else None,
        unit=UNITS[next(iter(units))] if units else "",
        notes=tuple(notes),
        classes=f"{path.name}: {_uses(names)}",
    )


def place_outline(
    outline: Outline, coordinates: np.ndarray, *, modality: str, um_per_pixel: float | None, name: str
) -> Outline:
    """An outline in micrometres of its section.

    Parameters
    ----------
    coordinates
        Spots or cells x 2, micrometres, for the check that the outline lies on the section.
    modality
        Of the library: on Visium slides a file that does not tell its unit counts in pixels of the full-resolution
        image, elsewhere in micrometres.
    um_per_pixel
        Scale of the image; None where it is not known.
    name
        Name of the file, for messages.

    Raises
    ------
    ValueError
        The scale is not known, or the tumour lies outside of the section altogether.
    """
    from shapely import affinity

    unit = outline.unit or ("px" if modality in PIXEL_MODALITIES else "um")
    scale = 1.0
    if unit == "px":
        if not um_per_pixel:
            raise ValueError(
                f"{name}: its coordinates are pixels, and the size of a pixel of this section is not known; give "
                'pixel_um in libraries.tsv, or write the polygon in micrometres with "unit": "um" in the file'
            )
        scale = um_per_pixel
    shapes = [
        None if shape is None else affinity.scale(shape, scale, scale, origin=(0, 0))
        for shape in (outline.tumour, outline.liver)
    ]
    if len(coordinates):
        low, high = coordinates.min(axis=0), coordinates.max(axis=0)
        left, top, right, bottom = shapes[0].bounds
        if left > high[0] or right < low[0] or top > high[1] or bottom < low[1]:
            raise ValueError(
                f"{name}: the tumour polygon lies outside of the section: polygon x {left:.0f} to {right:.0f}, y "
                f"{top:.0f} to {bottom:.0f} um; section x {low[0]:.0f} to {high[0]:.0f}, y {low[1]:.0f} to "
                f"{high[1]:.0f} um (coordinates of the file taken as {unit}, {scale:g} um each); correct "
                'boundary_path, or say which unit the file has ("unit": "um" or "px"), or leave boundary_path empty'
            )
    return Outline(shapes[0], shapes[1], "um", outline.notes, outline.classes)


def section_outline(section: AnnData, row: Mapping[str, Any]) -> Outline | None:
    """The outline that libraries.tsv names for a section, in its micrometres; None where it names none.

    The scale of the image is the one that the section carries (``uns["livermet"]["um_per_pixel"]``), else pixel_um.

    Parameters
    ----------
    section
        ``obsm["spatial"]`` in micrometres.
    row
        The library in the study tables: library_id, modality, pixel_um, boundary_path.
    """
    if not row["boundary_path"]:
        return None
    path = Path(row["boundary_path"])
    try:
        return place_outline(
            read_outline(path),
            np.asarray(section.obsm[keys.SPATIAL], dtype=np.float64),
            modality=row["modality"],
            um_per_pixel=section.uns[keys.META].get(keys.UM_PER_PIXEL) or row["pixel_um"],
            name=str(path),
        )
    except ValueError as error:
        words = str(error).replace(str(path), path.name)
        raise ValueError(f"libraries.tsv, library {row['library_id']}, boundary_path: {words}") from error


def _parsed(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are among them
        raise ValueError(f"{path}: is no valid JSON ({error}); export the annotations from QuPath again") from error
    if not isinstance(content, (dict, list)):
        raise ValueError(f"{path}: is no GeoJSON (a {type(content).__name__}); a FeatureCollection is expected")
    return content


def _finite(text: str) -> float:
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def _properties(feature: Any) -> Mapping[str, Any]:
    properties = feature.get("properties") if isinstance(feature, Mapping) else None
    return properties if isinstance(properties, Mapping) else {}


def _class_name(feature: Any) -> str:
    """Classification of a feature as QuPath writes it: an object with a name (before version 0.4 a text), or ""."""
    classification = _properties(feature).get("classification")
    if isinstance(classification, Mapping):
        classification = classification.get("name") or " ".join(map(str, classification.get("names") or ()))
    return classification if isinstance(classification, str) else ""


def class_kind(name: str) -> str:
    """ "tumour", "liver" or "" (neither) by the name of a class, in whatever case and with whatever separators.

    Tumour: a word that holds tumor, tumour or metasta, or is met, in a name without any of ``DENIALS``. Otherwise
    liver: the word liver, unless denied itself. "Tumor-adjacent liver" is liver, "Peri_tumor" neither.
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[\W\d_]+", " ", name).lower().split()
    glued = re.compile(rf"({'|'.join(DENIALS)})(tumou?r|metasta)")
    denied = any(word in DENIALS or glued.match(word) for word in words)
    if not denied and any(TUMOUR_WORD.fullmatch(word) for word in words):
        return "tumour"
    liver = any(LIVER_WORD.fullmatch(word) for word in words)
    return "liver" if liver and not NOT_LIVER.search(" ".join(words)) else ""


def _uses(names: Sequence[str]) -> str:
    """Which classes of a file were taken as tumour, which as liver and which were ignored, with their numbers."""
    if not any(names):
        return f"no feature has a class: {len(names)} taken as tumour"
    numbers = Counter(name if name else "without class" for name in names)
    told = []
    for kind, words in (("tumour", "taken as tumour"), ("liver", "taken as liver"), ("", "ignored")):
        used = [f"{_shown(name)} ({n})" for name, n in sorted(numbers.items()) if class_kind(name) == kind]
        told.append(f"{words}: {', '.join(used) or 'none'}")
    return f"classes {'; '.join(told)}"


def _shown(name: str) -> str:
    return mask(name) if identifier_in(name) else name


def _area(geometry: Mapping[str, Any], place: str) -> tuple[BaseGeometry, str]:
    """A polygon of the file, repaired where needed, and a note of it."""
    import shapely
    from shapely.geometry import shape as from_geojson

    expected = "a polygon needs rings of at least four positions [x, y], the last like the first"
    try:
        polygon = shapely.force_2d(from_geojson(dict(geometry)))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, shapely.errors.ShapelyError) as error:
        raise ValueError(f"{place}: coordinates can't be read ({error}); {expected}; export it again") from error
    if polygon.is_empty:
        raise ValueError(f"{place}: has no coordinates; {expected}; export it again")
    note = ""
    if not polygon.is_valid:
        reason = shapely.is_valid_reason(polygon).partition("[")[0].lower()
        polygon = shapely.make_valid(polygon)
        areas = [part for part in shapely.get_parts(polygon) if part.geom_type in AREAS]
        polygon, note = shapely.union_all(areas), f"was not valid ({reason}) and was repaired"
    if polygon.area <= 0:
        raise ValueError(f"{place}: encloses no area; {expected}; draw it again")
    return polygon, note
