"""What the report of a scope says of its sections: tables as people read them, from the tables of results."""

from __future__ import annotations

import pandas as pd

from livermet import keys

PERCENT = 100.0
RESOLUTIONS = {"spot": "spots", "bin": "bins", "cell": "cells"}


def _where(table: pd.DataFrame) -> pd.Series:
    return table["timepoint"].astype(str) + ", " + table["tissue"].astype(str) + ", " + table["modality"].astype(str)


def section_table(sections: pd.DataFrame, growth: pd.DataFrame) -> pd.DataFrame:
    """Border, zones and growth pattern of each section, from ``sections.tsv`` and ``growth_pattern.tsv``."""
    both = sections.merge(growth.drop(columns=["interface_mm", "reason"]), on=keys.LIBRARY, how="left")
    return pd.DataFrame(
        {
            "section": both[keys.LIBRARY],
            "patient": both[keys.PATIENT],
            "resolves": both["resolution"].map(RESOLUTIONS),
            "border from": both["border_source"].fillna(""),
            "border (mm)": both["interface_mm"].astype(float).round(2),
            "known to (um)": both["band_um"].astype(float).round(0),
            **{zone.replace("_", " "): both[f"n_{zone}"] for zone in keys.ZONES[:5]},
            "growth pattern": both["growth_pattern"].fillna(""),
            "pathologist": both["pathologist"].fillna(""),
            "drawn against expressed (um)": both["polygon_distance_um"].astype(float).round(0),
            "why no border": both["reason"].fillna(""),
        }
    )


def margin_sensitivity(sensitivity: pd.DataFrame, *, margin_um: float, top: int) -> pd.DataFrame:
    """How much the ratio of margin to core hangs on the half-width of the margin, from ``zone_sensitivity.tsv``.

    The ``top`` types with the largest median ratio at ``margin_um``, per resolution: medians over patients (sections of
    a patient averaged first) at each half-width, and of the patients with a value at ``margin_um`` and at another
    half-width those whose sign is the same throughout.
    """
    known = sensitivity[sensitivity["log2_ratio"].notna()]
    if known.empty:
        return pd.DataFrame()
    group = ["resolution", "cell_type", "patient_id", "margin_um"]
    wide = known.groupby(group)["log2_ratio"].mean().reset_index()
    wide = wide.pivot_table(index=group[:3], columns="margin_um", values="log2_ratio")
    if margin_um not in wide:
        return pd.DataFrame()
    several = wide[wide[margin_um].notna() & (wide.notna().sum(axis=1) >= 2)]
    same = (several.gt(0) | several.isna()).all(axis=1) | (several.le(0) | several.isna()).all(axis=1)
    pair = ["resolution", "cell_type"]
    table = wide.groupby(level=pair).median().round(2)
    table.columns = [f"log2 ratio at {width:g} um" for width in table.columns]
    table["patients"] = wide[margin_um].groupby(level=pair).count()
    if len(several):
        table["same sign throughout"] = same.groupby(level=pair).sum().reindex(table.index).fillna(0).astype(int)
    order = table[f"log2 ratio at {margin_um:g} um"].abs().sort_values(ascending=False, kind="stable").index
    return (
        table.loc[order]
        .groupby(level="resolution", sort=True)
        .head(top)
        .sort_index(level=0, sort_remaining=False)
        .reset_index()
    )


def invasion_tests(tests: pd.DataFrame) -> pd.DataFrame:
    """Programmes of malignant cells, margin against core over patients, from ``invasion_tests.tsv``."""
    table = tests.sort_values(["timepoint", "tissue", "modality", "p", "programme"], kind="stable")
    limits = [
        "" if pd.isna(low) else f"[{low:.2f}, {high:.2f}]"
        for low, high in zip(table["ci_low"], table["ci_high"], strict=True)
    ]
    return pd.DataFrame(
        {
            "where": _where(table),
            "programme": table["programme"],
            "patients": table["n"],
            "difference": table["effect"].astype(float).round(2),
            "95 % interval": limits,
            "p": table["p"],
            "q": table["q"],
            "smallest attainable p": table["smallest_attainable_p"],
            "refusal": table["refusal_code"].fillna("").astype(str),
            "why": table["refusal_reason"].fillna(""),
        }
    )


def invasion_tail(tail: pd.DataFrame) -> pd.DataFrame:
    """Malignant cells beyond the border of each section, from ``invasion_tail.tsv``."""

    def interval(name: str, low: str, high: str, scale: float) -> list[str]:
        rows = tail[[name, low, high]].astype(float) * scale
        return ["" if pd.isna(v) else f"{v:.0f} [{a:.0f}, {b:.0f}]" for v, a, b in rows.itertuples(index=False)]

    return pd.DataFrame(
        {
            "section": tail[keys.LIBRARY],
            "patient": tail[keys.PATIENT],
            "beyond the border (%)": interval("share_outside", "share_low", "share_high", PERCENT),
            "90 % within (um)": interval("d90_um", "d90_low", "d90_high", 1.0),
            "taken off as noise (%)": (PERCENT * tail["background"].astype(float)).round(2),
            "why not": tail["reason"].fillna(""),
        }
    )


def contact_summary(contacts: pd.DataFrame, *, top: int) -> pd.DataFrame:
    """Ordered pairs of types with the largest z of their distance, by section, from ``contacts.tsv``.

    Sections without border are left out: their null is the weaker one.
    """
    of_two = (contacts["type_a"] != contacts["type_b"]) & (contacts["null"] == "distance_bins")
    known = contacts[contacts["z_nearest"].notna() & of_two]
    order = known["z_nearest"].astype(float).abs().sort_values(ascending=False, kind="stable").index[:top]
    known = known.loc[order]
    return pd.DataFrame(
        {
            "section": known[keys.LIBRARY],
            "from": known["type_a"],
            "to the nearest": known["type_b"],
            "median (um)": known["median_nearest_um"].astype(float).round(1),
            "expected (um)": known["null_median_nearest_um"].astype(float).round(1),
            "z": known["z_nearest"].astype(float).round(1),
            "within 30 um (%)": (PERCENT * known["within_30um"].astype(float)).round(1),
            "expected (%)": (PERCENT * known["null_within_30um"].astype(float)).round(1),
        }
    )


def spatial_genes(genes: pd.DataFrame, *, top: int) -> pd.DataFrame:
    """The genes with the clearest pattern in whole sections, and within margin and core, from ``spatial_genes.tsv``."""
    best = genes[genes["rank"] <= top]
    best = best.sort_values(["timepoint", "tissue", "modality", "zone", "rank"], kind="stable")
    best = best.assign(where=_where(best))
    columns = ["where", "zone", "gene", "n_patients", "n_significant", "mean_i"]
    return best[columns].rename(
        columns={"n_patients": "patients", "n_significant": "of them significant", "mean_i": "mean Moran's I"}
    )


def niche_agreement(consensus: pd.DataFrame) -> pd.DataFrame:
    """How far the two definitions of niches agree in each section, from ``niche_consensus.tsv``."""
    return pd.DataFrame(
        {
            "section": consensus[keys.LIBRARY],
            "resolves": consensus["resolution"].map(RESOLUTIONS),
            "observations": consensus["n_spots"],
            "adjusted Rand index": consensus["ari"].astype(float).round(2),
        }
    )
