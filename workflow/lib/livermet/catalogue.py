"""The labels that are derived from the study tables: their kind, what they say, and the tissue that they go with.

It imports next to nothing, since the config is checked against it whenever the workflow is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BEFORE = ("T0_pre",)
RESECTION = ("T3_resection",)
# The order of RECIST 1.1, best first: the codes of recist_best.
RECIST = ("CR", "PR", "SD", "PD")


@dataclass(frozen=True)
class DerivedLabel:
    """One derived label.

    Attributes
    ----------
    kind
        "binary", "ordinal", "continuous" or "survival" (a time in days with an event).
    meaning
        What the value says, for people.
    timepoints
        Timepoints of the tissue that it may be compared in.
    untested
        Why it can't be the label of a comparison; "" where it can.
    """

    kind: str
    meaning: str
    timepoints: tuple[str, ...] = BEFORE
    untested: str = ""


_SELECTED = "who is operated on is decided after the response was seen, so it describes and is never compared"

LABELS = {
    "recist_best": DerivedLabel("ordinal", "best response by RECIST 1.1: 0 CR, 1 PR, 2 SD, 3 PD"),
    "disease_control": DerivedLabel("binary", "CR, PR or SD at the re-evaluation that the protocol asks for"),
    "objective_response": DerivedLabel("binary", "best response CR or PR"),
    "response_confirmed": DerivedLabel("binary", "a best response of CR or PR was confirmed by a later scan"),
    "sld_change": DerivedLabel("continuous", "log ratio of the sum of target diameters, re-evaluation to baseline"),
    "liver_sld_change": DerivedLabel("continuous", "the same for target lesions of the liver alone"),
    "biopsied_change": DerivedLabel("continuous", "the same for the lesion that was biopsied at T0"),
    "ca199_log2fc": DerivedLabel(
        "continuous", "log2 ratio of CA19-9, re-evaluation to baseline", (*BEFORE, *RESECTION)
    ),
    "ca199_resp50": DerivedLabel("binary", "CA19-9 fell by at least 50 %", (*BEFORE, *RESECTION)),
    "ca199_resp20": DerivedLabel("binary", "CA19-9 fell by at least 20 % (sensitivity)", (*BEFORE, *RESECTION)),
    "ca199_resp70": DerivedLabel("binary", "CA19-9 fell by at least 70 % (sensitivity)", (*BEFORE, *RESECTION)),
    "ca199_resp90": DerivedLabel("binary", "CA19-9 fell by at least 90 % (sensitivity)", (*BEFORE, *RESECTION)),
    "ca199_norm": DerivedLabel("binary", "CA19-9 fell below the upper limit of normal", (*BEFORE, *RESECTION)),
    "ca199_change": DerivedLabel("continuous", "change of CA19-9 in percent of baseline", (*BEFORE, *RESECTION)),
    "ca199_slope": DerivedLabel("continuous", "slope of log2 CA19-9 per 28 days of treatment", (*BEFORE, *RESECTION)),
    "ca199_nadir": DerivedLabel(
        "continuous",
        "log2 ratio of CA19-9, lowest value to baseline; the more draws, the lower, so it favours long courses",
        (*BEFORE, *RESECTION),
    ),
    "path_cap": DerivedLabel("ordinal", "tumour regression score of the resection, 0 to 3", RESECTION),
    "path_cap01": DerivedLabel("binary", "tumour regression score 0 or 1", RESECTION),
    "ypM0": DerivedLabel("binary", "no viable tumour in the resected metastases", RESECTION),
    "resected": DerivedLabel("binary", "local treatment of the liver was carried out", BEFORE, _SELECTED),
    "early_relapse6": DerivedLabel("binary", "relapse within six months of surgery", RESECTION),
    "pfs": DerivedLabel("survival", "days from enrolment to progression or death", BEFORE),
    "os": DerivedLabel("survival", "days from enrolment to death", BEFORE),
    "rfs": DerivedLabel("survival", "days from surgery to relapse or death", RESECTION),
    "os_surgery": DerivedLabel("survival", "days from surgery to death", RESECTION),
}


def label_timepoints(name: str, declared: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Timepoints of the tissue that a derived label, or one that the config declares, may be compared in."""
    return LABELS[name].timepoints if name in LABELS else tuple(declared[name].get("timepoints", BEFORE))
