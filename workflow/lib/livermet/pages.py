"""What all pages share: templates that escape, numbers as people read them, and figures inside the page."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

MAX_FIGURE_WIDTH = 1500


@dataclass(frozen=True)
class Embedded:
    """A figure as a data URI, with its size in pixels, its caption and its text alternative."""

    uri: str
    width: int
    height: int
    caption: Markup
    alt: str


def embed(png: bytes, *, caption: Markup, alt: str, max_width: int = MAX_FIGURE_WIDTH) -> Embedded:
    """A PNG as a data URI, made smaller where that costs the reader nothing.

    Wider figures are scaled down, and colours reduced to 256: both halve what matplotlib writes, and neither shows.
    """
    image = Image.open(io.BytesIO(png))
    width, height = image.size
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
    if width > max_width:
        width, height = max_width, round(height * max_width / width)
        flat = flat.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    flat.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        buffer, format="PNG", optimize=True
    )
    data = min(buffer.getvalue(), png, key=len) if width == image.size[0] else buffer.getvalue()
    uri = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    return Embedded(uri=uri, width=width, height=height, caption=caption, alt=alt)


def is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_missing(value: Any) -> bool:
    return value is None or value == "" or value != value


def significant(value: Any) -> str:
    """A number as people read it: three significant digits, thousands apart."""
    if is_missing(value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15):
        return f"{int(value):,}".replace("-", "−")
    if abs(value) >= 100:
        return f"{value:,.0f}".replace("-", "−")
    return (f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}").replace("-", "−")


def _p(value: Any) -> str:
    """A p-value; a permutation p is never shown as zero."""
    if is_missing(value):
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _pct(value: Any) -> str:
    return "–" if is_missing(value) else f"{100 * value:.1f} %" if value < 0.1 else f"{100 * value:.0f} %"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("livermet", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"sig": significant, "p": _p, "pct": _pct, "words": lambda name: str(name).replace("_", " ")}
    environment.tests["missing"] = is_missing
    return environment


def template(name: str) -> jinja2.Template:
    return _environment().get_template(f"{name}.html.j2")
