"""Names of genes as files give them: made unique, relieved of what R did to them, and looked at for their species."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from functools import cache

from livermet.markers import load_markers

# Targeted panels hold fewer markers than a whole transcriptome; another species holds next to none.
MIN_MARKER_SHARE = 0.1
# Fewer genes of a second species than this share are added by hand (a virus, a reporter), not a second genome.
MIN_GENOME_SHARE = 0.01

# Cell Ranger writes the genome before each id where a reference holds several: GRCh38_ENSG..., mm10___ENSMUSG...
_ENSEMBL = re.compile(r"(?:(\w+?)_+)?(ENS[A-Z]*G)")
_DIGITS = 11  # of an Ensembl id, before its version


@cache
def marker_genes() -> frozenset[str]:
    """All genes of the marker table."""
    return frozenset(gene for genes in load_markers()["genes"] for gene in genes)


def marker_share(names: Iterable[str]) -> float:
    """Share (0 to 1) of the genes of the marker table that are among the names."""
    return len(marker_genes().intersection(names)) / len(marker_genes())


def are_ensembl(names: Collection[str]) -> bool:
    """Whether most of the names are Ensembl ids of genes."""
    return _genomes(names).total() > len(names) / 2


def genomes(ids: Collection[str]) -> list[str]:
    """Genomes (or species, by the letters of their Ensembl ids) that the ids belong to, the most frequent first."""
    found = _genomes(ids)
    return [genome for genome, n in found.most_common() if n >= MIN_GENOME_SHARE * found.total()]


def _genomes(ids: Iterable[str]) -> Counter[str]:
    beginnings = Counter(name.partition(".")[0][:-_DIGITS] for name in ids)
    found: Counter[str] = Counter()
    for beginning, n in beginnings.items():
        if match := _ENSEMBL.fullmatch(beginning):
            found[f"{match[1] or ''} {match[2]}".strip()] += n
    return found


def restore_symbols(symbols: Iterable[str]) -> tuple[list[str], list[str]]:
    """Undo what R's ``make.names`` did to gene symbols (``MT.CO1``, ``HLA.A``).

    A dot is part of many genuine names (``AC002094.3``), so only symbols are restored that begin with ``MT.`` or
    ``HLA.``, or that are a marker gene once the dot is a hyphen (``NKX2.1``).

    Returns
    -------
    The symbols, and "old -> new" of each that was changed.
    """
    symbols = [str(s) for s in symbols]
    fixed = [
        hyphenated
        if "." in s and ((hyphenated := s.replace(".", "-")) in marker_genes() or s.startswith(("MT.", "HLA.")))
        else s
        for s in symbols
    ]
    return fixed, [f"{old} -> {new}" for old, new in zip(symbols, fixed, strict=True) if old != new]


def unique_symbols(symbols: list[str], ids: list[str]) -> list[str]:
    """Unique gene names: later duplicates of a symbol become ``SYMBOL-GENEID``, or ``SYMBOL-2`` without usable ids.

    A gene without symbol takes its id.
    """
    taken: set[str] = set()
    names = []
    for symbol, gene in zip(symbols, ids, strict=True):
        name = symbol or gene or "unnamed"
        if name in taken and gene and gene != name:
            name = f"{name}-{gene}"
        number, candidate = 2, name
        while candidate in taken:
            candidate = f"{name}-{number}"
            number += 1
        taken.add(candidate)
        names.append(candidate)
    return names
