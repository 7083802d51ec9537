"""Tables that can be read, but say what can't be, or what the protocol does not foresee: one rule is broken at a time."""

from __future__ import annotations

from corpus import Case
from damage import adds, both, cell, edits


def case(name, damage, effect, *words):
    """A case on the study that has every table of a trial."""
    return Case(name, damage, effect, words, study="trial")


CASES = [
    case("V01 lesion of nobody", adds("lesions", "P9 L1 0 1 20 measured liver 0"), "stops", "V01", "P9"),
    case("V01 two outcomes of one patient", adds("outcome", "P1 510 0 . . 900"), "stops", "V01", "already in row 2"),
    case("V01 one scan twice", adds("lesions", "P1 L1 62 1 21 measured liver 0"), "stops", "V01", "P1 + L1 + 62"),
    case("V01 section of blood", cell("samples", "S4", "tissue", "blood_pbmc"), "stops", "V01", "section of blood"),
    case("V02 largest metastasis", cell("patients", "P1", "largest_met_mm", "40"), "warns", "V02", "30 mm", "day 0"),
    case("V03 late synchronous", cell("patients", "P1", "dx_primary_day", "-300"), "stops", "V03", "270 days"),
    case("V03 early metachronous", cell("patients", "P2", "dx_primary_day", "-60"), "stops", "V03", "30 days"),
    case("V04 too many", cell("patients", "P1", "n_liver_mets", "6"), "deviates", "V04", "n_liver_mets", "is 4"),
    case("V04 exactly the limit", cell("patients", "P1", "n_liver_mets", "4"), "warns", "V04", "exactly the limit"),
    case(
        "V04 too large",
        both(cell("patients", "P1", "largest_met_mm", "58"), edits("lesions", "P1\tL1\t0\t1\t30", "P1\tL1\t0\t1\t58")),
        "deviates",
        *("V04", "58 mm", "50"),
    ),
    case(
        "V04 ablated too large",
        both(cell("patients", "P3", "largest_met_mm", "24"), edits("lesions", "P3\tL1\t0\t1\t18", "P3\tL1\t0\t1\t24")),
        "deviates",
        *("V04", "24 mm", "ablated", "20"),
    ),
    case("V04 beyond the liver", adds("lesions", "P1 L9 0 0 . present lung 0"), "deviates", "V04", "lung"),
    case("V05 unfit", cell("patients", "P1", "ecog", "2"), "deviates", "V05", "ecog", "limit"),
    case("V05 under age", cell("patients", "P1", "age", "16"), "stops", "V05", "16", "18 years"),
    case("V06 diagnosis after enrolment", cell("patients", "P1", "dx_livermet_day", "12"), "stops", "V06", "negative"),
    case("V06 stop before start", cell("treatment", "P2", "stop_day", "2"), "stops", "V06", "stops before it starts"),
    case("V06 operation before chemotherapy", cell("local_treatment", "P1", "day", "2"), "stops", "V06", "day 5"),
    case("V06 blood after death", adds("blood", "P2 300 crp 4 mg/L = labB ."), "stops", "V06", "300", "after death"),
    case("V06 scan after follow-up", adds("scans", "P3 700 CT 0 ."), "stops", "V06", "700", "last follow-up"),
    case("V06 after the data were closed", cell("outcome", "P1", "cutoff_day", "450"), "stops", "V06", "closed"),
    case("V06 relapse before surgery", cell("outcome", "P1", "relapse_day", "100"), "stops", "V06", "progression_day"),
    case("V06 death without day", cell("outcome", "P2", "last_followup_day", ""), "stops", "V06", "day of death"),
    case("V06 progression before enrolment", cell("outcome", "P2", "progression_day", "-4"), "stops", "V06", "-4"),
    case(
        "V06 re-evaluation before treatment", cell("samples", "S1", "timepoint", "T1_reeval"), "stops", "V06", "day 5"
    ),
    case(
        "V06 resection long before surgery", cell("samples", "S4", "day", "100"), "stops", "V06", "T3_resection", "150"
    ),
    case("V06 T0 after surgery", cell("samples", "S1", "day", "170"), "stops", "V06", "T0_pre", "day 150"),
    case("V06 relapse tissue before surgery", cell("samples", "S4", "timepoint", "T5_relapse"), "stops", "V06", "T5"),
    case(
        "V06 treated at enrolment", cell("treatment", "P2", "start_day", "-60"), "deviates", "V06", "before enrolment"
    ),
    case("V06 no day of closing", cell("outcome", "P1", "cutoff_day", ""), "warns", "V06", "cutoff_day", "is empty"),
    case("V07 too little chemotherapy", cell("treatment", "P1", "stop_day", "60"), "deviates", "V07", "55 days", "112"),
    case(
        "V07 none at all", edits("treatment", "P1\tmFOLFIRINOX\t5\t135", "P3\tGnP\t1\t6"), "deviates", "V07", "0 days"
    ),
    case("V08 late T0", cell("samples", "S1", "day", "20"), "deviates", "V08", "15 days", "counts as T1_reeval"),
    case("V08 T0 without day", cell("samples", "S1", "day", ""), "warns", "V08", "can't be checked"),
    case("V08 resection of nobody", cell("local_treatment", "P1", "patient_id", "P3"), "warns", "V08", "resection"),
    case("V09 score of a biopsy", cell("pathology", "S1", "cap_trs", "2"), "stops", "V09", "S1", "core_needle"),
    case("V10 growth patterns", cell("pathology", "S4", "hgp_pushing_pct", "20"), "stops", "V10", "120 %"),
    case("V10 one growth pattern", cell("pathology", "S4", "hgp_pushing_pct", ""), "warns", "V10", "only some"),
    case("V11 no bilirubin", edits("blood", "P1\t62\tbilirubin", "P1\t90\tbilirubin"), "warns", "V11", "no bilirubin"),
    case("V11 cholestasis", edits("blood", "bilirubin\t12", "bilirubin\t90"), "warns", "V11", "cholestasis"),
    case("V11 Lewis", edits("blood", "ca199\t1\tU/mL\t<", "ca199\t90\tU/mL\t="), "warns", "V11", "lewis_status"),
    case("V12 unit", edits("blood", "12\tumol/L", "12\tumol/dL"), "stops", "V12", "umol/dL", "bilirubin"),
    case("V12 albumin in another unit", edits("blood", "albumin\t38", "albumin\t3.8"), "stops", "V12", "g/dL"),
    case("V12 implausible", edits("blood", "812.5", "8125000"), "warns", "V12", "8.125e+06"),
    case("V13 assay", edits("blood", "200\tU/mL\t=\tlabA", "200\tU/mL\t=\tlabC"), "warns", "V13", "labC", "labA"),
    case(
        "V14 six targets",
        adds("lesions", *(f"P1 L{i} 0 1 20 measured organ{i} 0" for i in range(3, 7))),
        "stops",
        *("V14", "5"),
    ),
    case("V14 three in one organ", adds("lesions", "P1 L3 0 1 20 measured liver 0"), "stops", "V14", "liver"),
    case("V14 small target", edits("lesions", "P1\tL2\t0\t1\t20", "P1\tL2\t0\t1\t8"), "stops", "V14", "10 mm"),
    case("V14 measured without size", edits("lesions", "L2\t62\t1\t12", "L2\t62\t1\t"), "stops", "V14", "measured"),
    case("V14 no scan", edits("scans", "P3\t64", "P3\t90"), "warns", "V14", "no scan"),
    case("V15 reported otherwise", cell("response", "P1\t62", "recist", "SD"), "warns", "V15", "SD", "PR"),
    case(
        "V19 all withdrawn",
        both(*(cell("patients", f"P{i}", "consent_omics", "withdrawn") for i in (1, 2, 3))),
        "stops",
        *("V19", "no library is left"),
    ),
    case("V19 withdrawn", cell("patients", "P2", "consent_omics", "withdrawn"), "warns", "V19", "removed"),
    case("V20 no unit of positions", both(cell("libraries", "L4", "modality", "visium")), "stops", "V20", "pixel_um"),
    case("V20 pixel size", cell("libraries", "L3", "pixel_um", "3"), "stops", "V20", "0.1 to 2"),
]
