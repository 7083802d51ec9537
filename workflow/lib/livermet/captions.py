"""Figure captions: the same texts that Snakemake's report shows, rendered for our own pages.

A caption is a reStructuredText file that may use ``{{ snakemake.params.<name> }}`` and
``{{ snakemake.wildcards.<name> }}``. Snakemake renders it with the params of the rule that drew the figure. Our pages
hold figures of many rules; there ``snakemake.params`` offers the sections of the config, after which rules name their
params.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
from markupsafe import Markup

_DOCUTILS = {"report_level": 2, "halt_level": 2, "file_insertion_enabled": False, "raw_enabled": False}


def read_captions(folder: str | Path) -> dict[str, str]:
    """All caption sources of a folder by name."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.rst"))}


def caption_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """What captions may use: the sections of the config, and every key that is unique among the sections."""
    leaves: dict[str, list[Any]] = {}
    for section in params.values():
        if isinstance(section, Mapping):
            for key, value in section.items():
                leaves.setdefault(key, []).append(value)
    return {key: values[0] for key, values in leaves.items() if len(values) == 1} | dict(params)


def render_caption(source: str, *, params: Mapping[str, Any], wildcards: Mapping[str, str], name: str) -> Markup:
    """Caption as an HTML fragment.

    Parameters
    ----------
    source
        The reStructuredText with Jinja expressions.
    params
        What ``snakemake.params`` offers: config sections and single values, by name.
    wildcards
        What ``snakemake.wildcards`` offers.
    name
        Name of the caption, for messages.

    Returns
    -------
    HTML without any address: a hyperlink is reduced to its text, since the pages refer to nothing outside.

    Raises
    ------
    ValueError
        If the caption uses a value that does not exist, or is not valid reStructuredText.
    """
    # Here, since the workflow imports this module to read captions, at each start.
    from docutils import nodes
    from docutils.core import publish_doctree, publish_from_doctree
    from docutils.utils import SystemMessage
    from docutils.writers import html5_polyglot

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    scope = SimpleNamespace(params=dict(params), wildcards=dict(wildcards), config=dict(params))
    try:
        text = environment.from_string(source).render(snakemake=scope)
        document = publish_doctree(text, settings_overrides=_DOCUTILS)
    except (jinja2.TemplateError, SystemMessage) as error:
        raise ValueError(f"caption workflow/report/{name}.rst: {error}; correct the caption") from error
    for link in list(document.findall(nodes.reference)):
        link.replace_self(nodes.inline("", "", *link.children))
    for target in list(document.findall(nodes.target)):
        target.parent.remove(target)
    writer = html5_polyglot.Writer()
    publish_from_doctree(document, writer=writer, settings_overrides=_DOCUTILS | {"output_encoding": "unicode"})
    return Markup(writer.parts["fragment"].strip())
