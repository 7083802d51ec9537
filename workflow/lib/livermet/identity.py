"""Whether a library is of the patient and the tissue that the tables say, from what only its counts can tell.

Quality control leaves the counts of a few genes per library (:func:`library_evidence`). The decision is taken over all
libraries of a scope (:func:`identity_findings`), so that a corrected entry of the tables repeats no quality control.

Sex (rule V17)
    XIST against the genes of the Y chromosome. In the five gliomas that infercnvpy carries (Tirosh et al. 2016), XIST
    is at 12 and 52 transcripts per million in women and at most 0.06 in men, RPS4Y1 at 17 to 45 in men and 0.0 in
    women, while DDX3Y reaches 0.8 in women, by reads of DDX3X. In a pancreatic tumour of a man (Moncada et al. 2020)
    six Y genes without RPS4Y1 sum up to 169 per million in cells and 71 in spots. ``SEX_RATE`` lies below these, and
    above the molecules of other libraries of the same flow cell, some 8 % in a quarter of the libraries (Farouni et al.
    2020, doi:10.1038/s41467-020-16522-z). Tumours of men often lose the Y chromosome, and tumours of women the inactive
    X: silence alone accuses nobody. Some tumours of men express XIST (Sadagopan et al. 2022,
    doi:10.1016/j.cels.2022.10.002), in the same cells as Y genes; in a mixture of two persons the cells differ.

Person (rule V17)
    Genes that many people lack, by a deletion or a haplotype that is not expressed. GSTM1 is absent in about half and
    GSTT1 in about a fifth of Europeans (Garte et al. 2001, Cancer Epidemiol Biomarkers Prev 10:1239), ERAP2 in those
    with two copies of haplotype B, whose frequency is 0.56 (Andres et al. 2010, doi:10.1371/journal.pgen.1001157).
    HLA-DRB4 stands on DR4, DR7 and DR9 haplotypes alone, HLA-DRB5 on DR15 and DR16; HLA-DRB4 is a proven mark of the
    donor that no tissue hides (doi:10.1186/2050-7771-2-17). A gene is judged against companions, which the same cells
    express: from cells to spots of the pancreatic tumour, GSTM1 changes 4.1-fold per count, and 1.2-fold beside GSTM2
    to GSTM4. Left out: UGT2B17, at 100 per million in the cells of that tumour and at 3 in its spots, since few ductal
    cells express it; HLA-DQA2, CHI3L2, PSPHP1 and ZNF37BP, which vary by degrees; HLA-DRB3, too much like HLA-DRB1.
    References that leave out alternative contigs hold neither GSTT1 nor HLA-DRB4.
    Levels that stray by a standard deviation of 0.9 (natural log) between libraries of one person gave 0.1 % false
    exclusions at most, of 1.2 gave 5 %; of libraries exchanged between two people of one sex, 5 million counts deep,
    seven in ten were excluded and a quarter got a warning. Without a second library of the patient nothing is seen.

Tissue (rule V18)
    Enzymes of acinar cells, which liver does not hold; REG1A and SPINK1 are left out, since tumours express them.
    Without any ductal cell a biopsy missed the metastasis. KRT8 and KRT18 do not count: hepatocytes express them.

Copies (rule V17)
    The same barcodes with the same counts and genes can't come from two runs.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import pdtr

from livermet import keys
from livermet.findings import Finding
from livermet.markers import load_markers

logger = logging.getLogger(__name__)

XIST = "XIST"
Y_GENES = ("RPS4Y1", "DDX3Y", "UTY", "KDM5D", "EIF1AY", "USP9Y", "ZFY")
# Companions of each gene; without any, it is judged against all counts.
NULL_GENES: dict[str, tuple[str, ...]] = {
    "GSTM1": ("GSTM2", "GSTM3", "GSTM4"),
    "GSTT1": (),
    "ERAP2": ("ERAP1", "LNPEP"),
    "HLA-DRB4": ("HLA-DRA", "HLA-DRB1"),
    "HLA-DRB5": ("HLA-DRA", "HLA-DRB1"),
}
PERSONAL = {XIST, *Y_GENES, *NULL_GENES}
ACINAR_GENES = (
    *("PRSS1", "PRSS2", "CPA1", "CPB1", "CELA2A", "CELA3A", "CELA3B"),
    *("CTRB1", "CTRB2", "CTRC", "CLPS", "PNLIP"),
)
HEPATOCYTE_KERATINS = ("KRT8", "KRT18")
COUNTED = tuple(
    dict.fromkeys((XIST, *Y_GENES, *NULL_GENES, *(c for group in NULL_GENES.values() for c in group), *ACINAR_GENES))
)

# Targeted panels measure shares of their own choice of genes, and imaging counts what is not there in every gene.
SEQUENCED = (*keys.CELL_MODALITIES, "visium", "visium_hd")
MIN_GENES = 2000
MIN_COUNTS = 10  # of a gene that is said to be expressed
MIN_COUNTS_OF_TWO = 2  # of each of two Y genes
ALPHA = 0.001  # of a gene that is said to be absent: chance (Poisson) of so few counts if it were expressed
SEX_RATE = 20e-6  # share of the counts from which XIST, or all Y genes together, are expressed
FAINT = 0.1  # share of its usual level below which a gene is absent; a true one strays from it some 3-fold
MIN_CARRIERS = 3  # libraries that express a gene, from which its usual level is known
MIN_DISCORDANT = 2  # genes in which two libraries of one person can't differ; one may be lost with a chromosome arm
MIXED_CELLS = 0.5  # observed per expected number of cells with XIST and Y counts, below which two persons were mixed
N_FINGERPRINT = 32
MIN_FINGERPRINT = 20  # barcodes that a fingerprint needs
SAME = 0.5  # share of common entries from which two fingerprints are of one file
ACINAR_WARNING = 0.5  # percent
DUCTAL_WARNING = 1.0  # percent
MIN_DUCTAL_MARKERS = 3  # markers that a library must measure before lacking them means anything

TABLE = "libraries.tsv"


def library_evidence(counts: AnnData, kept: np.ndarray, metrics: pd.DataFrame) -> dict[str, Any]:
    """What the counts of one library tell of its person and tissue, for ``status.json``.

    Parameters
    ----------
    counts
        All barcodes as read, with var ``symbol``; obs_names are ``{library}:{barcode}``.
    kept
        Which barcodes passed quality control; all but the fingerprint is of these.
    metrics
        ``total_counts`` and ``n_genes`` of all barcodes, in their order.

    Returns
    -------
    ``n_genes`` measured, ``n_kept`` barcodes, ``total`` counts, ``counts`` of those of ``COUNTED`` that were measured,
    ``n_ductal`` cells with at least two ductal markers (None where too few are measured), ``n_xist``, ``n_y`` and
    ``n_both`` (barcodes with counts of XIST, of any Y gene, of both), and ``fingerprint`` (the smallest digests of
    barcode, counts and genes; files that share barcodes share most of them, also when one was filtered).
    """
    symbols = counts.var[keys.SYMBOL].astype(str).str.upper().to_numpy()
    ductal = [g for g in load_markers().loc[keys.MALIGNANT_TYPE, "genes"] if g not in HEPATOCYTE_KERATINS]
    places = np.flatnonzero(np.isin(symbols, [*COUNTED, *ductal]))
    matrix, symbols = counts.X[:, places][kept].tocsc(), symbols[places]

    def positive(genes: Iterable[str]) -> np.ndarray:
        """Number of these genes that each barcode has counts of."""
        return np.asarray((matrix[:, np.isin(symbols, list(genes))] > 0).sum(axis=1)).ravel()

    sums = pd.Series(np.asarray(matrix.sum(axis=0)).ravel(), index=symbols).groupby(level=0).sum()
    xist, on_y = positive([XIST]) > 0, positive(Y_GENES) > 0
    enough = np.isin(symbols, ductal).sum() >= MIN_DUCTAL_MARKERS
    return {
        "n_genes": counts.n_vars,
        "n_kept": int(kept.sum()),
        "total": int(metrics[keys.TOTAL_COUNTS].to_numpy()[kept].sum()),
        "counts": {gene: int(sums[gene]) for gene in COUNTED if gene in sums.index},
        "n_ductal": int((positive(ductal) >= 2).sum()) if enough else None,
        "n_xist": int(xist.sum()),
        "n_y": int(on_y.sum()),
        "n_both": int((xist & on_y).sum()),
        "fingerprint": _fingerprint(counts.obs_names, metrics),
    }


def _fingerprint(names: pd.Index, metrics: pd.DataFrame) -> list[str]:
    if len(names) < MIN_FINGERPRINT:
        return []
    barcodes = (re.sub(r"-\d+$", "", str(name).split(":", 1)[-1]) for name in names)
    columns = (metrics[name].to_numpy() for name in (keys.TOTAL_COUNTS, keys.N_GENES))
    texts = (f"{barcode}:{total}:{n}" for barcode, total, n in zip(barcodes, *columns, strict=True))
    return sorted(hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in texts)[:N_FINGERPRINT]


# ------------------------------------------------------------------------------------------------------- the decision


@dataclass(frozen=True)
class _Library:
    """One library in the tables and in its counts."""

    name: str
    row: Mapping[str, Any]
    evidence: Mapping[str, Any]

    @property
    def told(self) -> bool:
        """Whether shares of its counts mean anything."""
        return self.row["modality"] in SEQUENCED and self.evidence["n_genes"] >= MIN_GENES

    def count(self, genes: Iterable[str]) -> int:
        return sum(self.evidence["counts"].get(gene, 0) for gene in genes)

    def percent(self, genes: Iterable[str]) -> float:
        return 100 * self.count(genes) / max(self.evidence["total"], 1)

    def per_million(self, genes: Iterable[str]) -> str:
        level = 1e4 * self.percent(genes)
        return f"{level:{',.0f' if level >= 10 else '.2g'}} per million"

    def state(self, genes: Sequence[str]) -> str:
        """ "on" or "off" of the genes of one sex chromosome, "" where it can't be told.

        Of several genes two must be seen, since reads of one may belong to its counterpart on the other chromosome.
        """
        counts = self.evidence["counts"]
        measured = [counts[gene] for gene in genes if gene in counts]
        if not self.told or not measured:
            return ""
        total, found = self.evidence["total"], sum(measured)
        seen = sum(n >= MIN_COUNTS_OF_TWO for n in measured)
        if found >= MIN_COUNTS and found >= SEX_RATE * total and seen >= min(2, len(measured)):
            return "on"
        return "off" if pdtr(found, SEX_RATE * total) < ALPHA else ""

    @property
    def xist(self) -> str:
        return self.state([XIST])

    @property
    def on_y(self) -> str:
        return self.state(Y_GENES)

    @property
    def sex(self) -> str:
        """Sex by the counts; "" where it can't be told, or both are expressed."""
        if self.on_y == "on" and self.xist != "on":
            return "M"
        return "F" if self.xist == "on" and self.on_y == "off" else ""


def identity_findings(
    statuses: Iterable[Mapping[str, Any]],
    rows: Iterable[Mapping[str, Any]],
    *,
    max_acinar_percent: Mapping[str, float],
) -> list[Finding]:
    """Libraries that are not what the tables say of them, by their counts.

    A library that one check excludes is not looked at by the next, in this order: copies, sex, person, tissue. Whatever
    can't be told (few counts, genes that were not measured, no sex in the tables) excludes nothing; libraries of which
    nothing can be told are named in one warning.

    Parameters
    ----------
    statuses
        ``status.json`` of the libraries that passed so far.
    rows
        These libraries in the study tables, with ``patient_id``, ``sex``, ``tissue``, ``modality`` and ``batch``.
    max_acinar_percent
        Percent of the counts of a liver metastasis from which acinar genes exclude, by library.

    Returns
    -------
    Exclusions and warnings, with the library as ``value``.
    """
    evidence = {status[keys.LIBRARY]: status["identity"] for status in statuses}
    libraries = [_Library(row[keys.LIBRARY], row, evidence[row[keys.LIBRARY]]) for row in rows]
    findings: list[Finding] = []

    def remaining() -> list[_Library]:
        gone = {finding.value for finding in findings if finding.severity == "exclusion"}
        return [library for library in libraries if library.name not in gone]

    findings += _copies(libraries)
    sexes: dict[str, list[str]] = {}
    for library in libraries:
        sexes.setdefault(library.row[keys.PATIENT], []).append(library.sex)
    findings += [finding for lib in remaining() for finding in _sex(lib, all_sexes=sexes[lib.row[keys.PATIENT]])]
    findings += _persons(remaining())
    findings += [f for lib in remaining() for f in _tissue(lib, max_acinar=max_acinar_percent[lib.name])]
    findings += _not_told(libraries)
    told = sum(bool(library.sex) for library in libraries)
    logger.info("%d libraries: sex told of %d; %d findings", len(libraries), told, len(findings))
    return findings


def _copies(libraries: Sequence[_Library]) -> Iterator[Finding]:
    """Libraries that hold the same barcodes as another; of copies within one patient the first one stays."""
    prints = [set(library.evidence["fingerprint"]) for library in libraries]
    for i, library in enumerate(libraries):
        for j, other in enumerate(libraries):
            if i == j or len(prints[i] & prints[j]) < SAME * N_FINGERPRINT:
                continue
            same_patient = library.row[keys.PATIENT] == other.row[keys.PATIENT]
            if same_patient and i < j:
                continue
            whose = "the same patient" if same_patient else f"patient {other.row[keys.PATIENT]}"
            yield _exclusion(
                library,
                "path",
                f"holds the same barcodes with the same counts as library {other.name} of {whose}: one file was given "
                "twice",
                "give each library its own files; take out the row that is wrong",
            )
            break


def _sex(library: _Library, *, all_sexes: Sequence[str]) -> Iterator[Finding]:
    """Declared sex against that of the counts; ``all_sexes`` are those of the patient's libraries by their counts."""
    declared, xist, on_y = library.row["sex"], library.xist, library.on_y
    if not declared:
        return
    remedy = "compare the labels of tube and file; correct sample_id or the sex in patients.tsv, or leave the sex empty"
    x_level, y_level = library.per_million([XIST]), library.per_million(Y_GENES)
    suspect = "it may be of another patient"
    if len(all_sexes) > 1 and set(all_sexes) == {library.sex}:
        suspect = (
            f"all {len(all_sexes)} libraries of the patient agree in this, so the sex in patients.tsv may be wrong"
        )
    if xist == on_y == "on":
        n, n_xist, n_y = (library.evidence[name] for name in ("n_kept", "n_xist", "n_y"))
        expected = n_xist * n_y / max(n, 1)
        both = f"XIST ({x_level}) and Y genes ({y_level}) are both expressed"
        if expected >= MIN_COUNTS and library.evidence["n_both"] < MIXED_CELLS * expected:
            message = (
                f"{both}, but seldom in the same cells ({library.evidence['n_both']}, {expected:.0f} expected): two "
                "persons were mixed"
            )
            yield _exclusion(library, "sex", message, "take the library out, or separate the persons by genotype")
        else:
            message = f"{both}: a mixture of two persons, a further X chromosome, or a tumour that activated XIST"
            yield _warning(library, "sex", message, remedy)
    elif declared == "M" and xist == "on":
        message = f"declared M, but XIST is expressed ({x_level})"
        if on_y == "off":
            message += f" and no Y gene is ({y_level}): {suspect}"
            yield _exclusion(library, "sex", message, remedy)
        else:
            yield _warning(library, "sex", f"{message}; whether Y genes are can't be told", remedy)
    elif declared == "F" and on_y == "on":
        message = f"declared F, but Y genes are expressed ({y_level}; XIST {x_level}): {suspect}"
        yield _exclusion(library, "sex", message, remedy)
    elif on_y == "off" and (declared == "M" or xist == "off"):
        genes, level = ("no Y gene", y_level) if declared == "M" else ("no XIST", x_level)
        lost = {"M": "the Y chromosome", "F": "the inactive X chromosome"}[declared]
        message = (
            f"declared {declared}, but {genes} is expressed ({level}): a tumour without {lost}, or another patient"
        )
        yield _warning(library, "sex", message, remedy)


def _alleles(libraries: Sequence[_Library]) -> dict[str, dict[str, bool]]:
    """Whether each library expresses each gene of ``NULL_GENES``, as far as it can be told.

    A gene is expressed at no less than twice ``FAINT`` of its usual level, and absent where its counts are fewer than
    ``FAINT`` of that level would give. The usual level is the median over the libraries of the same modality and tissue
    that express it. That a gene is absent counts only where another library of the batch expresses it: references
    differ in which genes they hold.
    """
    calls: dict[str, dict[str, bool]] = {library.name: {} for library in libraries}
    strata: dict[tuple[str, str], list[_Library]] = {}
    for library in libraries:
        if library.told:
            strata.setdefault((library.row["modality"], library.row["tissue"]), []).append(library)
    for members in strata.values():
        for gene, companions in NULL_GENES.items():
            measured = [lib for lib in members if {gene, *companions} <= lib.evidence["counts"].keys()]
            base = {lib.name: lib.count(companions) if companions else lib.evidence["total"] for lib in measured}
            found = {lib.name: lib.count([gene]) for lib in measured}
            levels = {name: n / base[name] for name, n in found.items() if n >= MIN_COUNTS and base[name]}
            carriers = [level for level in levels.values() if level >= FAINT * max(levels.values())]
            if len(carriers) < MIN_CARRIERS:
                continue
            usual = float(np.median(carriers))
            on = {name for name, level in levels.items() if level >= 2 * FAINT * usual}
            batches = {lib.row["batch"] for lib in measured if lib.name in on}
            for lib in measured:
                if lib.name in on:
                    calls[lib.name][gene] = True
                elif lib.row["batch"] in batches and pdtr(found[lib.name], FAINT * usual * base[lib.name]) < ALPHA:
                    calls[lib.name][gene] = False
    return calls


def _persons(libraries: Sequence[_Library]) -> Iterator[Finding]:
    """Libraries of one patient that are not of one person.

    The library that disagrees most, after the ones that it agrees with are taken off, is excluded until none disagrees;
    all of those that do so equally, since none can be told to be right.
    """
    calls = _alleles(libraries)
    patients: dict[str, list[_Library]] = {}
    for library in libraries:
        patients.setdefault(library.row[keys.PATIENT], []).append(library)
    remedy = "compare the labels of tubes and files; correct sample_id or patient_id, or take the wrong library out"
    for members in patients.values():
        differences = {(a.name, b.name): _differences(a, b, calls) for a, b in combinations(members, 2)}
        unlike = {pair for pair, (decisive, _, _) in differences.items() if decisive}
        alike = {pair for pair, (_, texts, agreeing) in differences.items() if not texts and agreeing >= MIN_DISCORDANT}
        left = {library.name: library for library in members}
        while current := [pair for pair in unlike if left.keys() >= set(pair)]:
            score = {
                name: sum(name in pair for pair in current)
                - sum(name in pair for pair in alike if left.keys() >= set(pair))
                for name in left
                if any(name in pair for pair in current)
            }
            worst = [name for name in left if score.get(name) == max(score.values())]
            for name in worst:
                pair = next(pair for pair in sorted(current) if name in pair)
                other = next(other for other in pair if other != name)
                unsure = f"; which of {' and '.join(worst)} is right can't be told" if len(worst) > 1 else ""
                texts = differences[pair][1]
                message = (
                    f"is not of the same person as library {other} of the same patient: {'; '.join(texts)}{unsure}"
                )
                yield _exclusion(left[name], "sample_id", message, remedy)
            for name in worst:
                del left[name]
        for (a, b), (decisive, texts, _) in differences.items():
            if texts and not decisive and {a, b} <= left.keys():
                for name, other in ((a, b), (b, a)):
                    message = (
                        f"differs from library {other} of the same patient in one gene that not everybody has: "
                        f"{texts[0]}; a lost chromosome arm, or another person"
                    )
                    yield _warning(left[name], "sample_id", message, remedy)


def _differences(a: _Library, b: _Library, calls: Mapping[str, Mapping[str, bool]]) -> tuple[bool, list[str], int]:
    """Whether two libraries can't be of one person, in what they differ, and in how many things they agree."""
    common = [gene for gene in NULL_GENES if gene in calls[a.name] and gene in calls[b.name]]
    genes = [gene for gene in common if calls[a.name][gene] != calls[b.name][gene]]
    texts = [
        f"{gene} is expressed in {(a if calls[a.name][gene] else b).name} and absent in "
        f"{(b if calls[a.name][gene] else a).name}"
        for gene in genes
    ]
    sexes = bool(a.sex and b.sex and a.sex != b.sex)
    if sexes:
        women, men = (a, b) if a.sex == "F" else (b, a)
        texts.insert(0, f"XIST is expressed in {women.name}, Y genes in {men.name}")
    agreeing = len(common) - len(genes) + int(bool(a.sex) and a.sex == b.sex)
    return sexes or len(genes) >= MIN_DISCORDANT, texts, agreeing


def _tissue(library: _Library, *, max_acinar: float) -> Iterator[Finding]:
    if library.row["tissue"] != "liver_met":
        return
    acinar = library.percent(ACINAR_GENES)
    if library.told and library.count(ACINAR_GENES) >= MIN_COUNTS and acinar >= min(ACINAR_WARNING, max_acinar):
        remedy = "compare tissue in samples.tsv with the pathology; for a biopsy of the primary, correct tissue"
        message = f"{acinar:.2g} % of the counts are of acinar genes, which liver does not express"
        if acinar >= max_acinar:
            message += f" (qc: max_acinar_percent {max_acinar:g}): it may be of the primary, or of another sample"
            yield _exclusion(library, "tissue", message, remedy, rule="V18")
            return
        message += ": pancreas on the way of the needle, or a sample of the primary"
        yield _warning(library, "tissue", message, remedy, rule="V18")
    n, ductal = library.evidence["n_kept"], library.evidence["n_ductal"]
    if library.row["modality"] in keys.CELL_MODALITIES and ductal is not None and 100 * ductal < DUCTAL_WARNING * n:
        message = (
            f"{ductal} of {n} cells show ductal markers: no tumour cells; a biopsy beside the metastasis, nothing left "
            "after treatment, or a swapped sample"
        )
        yield _warning(library, "tissue", message, "compare tissue in samples.tsv with the pathology", rule="V18")


def _not_told(libraries: Sequence[_Library]) -> Iterator[Finding]:
    """One warning that names the libraries whose gene sets can tell neither sex nor person."""
    names = [lib.name for lib in libraries if not lib.told or not PERSONAL & lib.evidence["counts"].keys()]
    if names:
        message = f"too few genes, or a panel: counts tell neither sex nor person of {', '.join(names)}"
        yield Finding("warning", TABLE, None, "modality", "", message, "compare the labels of tubes and files", "V17")


def _exclusion(library: _Library, column: str, message: str, remedy: str, *, rule: str = "V17") -> Finding:
    return Finding("exclusion", TABLE, None, column, library.name, message, remedy, rule)


def _warning(library: _Library, column: str, message: str, remedy: str, *, rule: str = "V17") -> Finding:
    return Finding("warning", TABLE, None, column, library.name, message, remedy, rule)
