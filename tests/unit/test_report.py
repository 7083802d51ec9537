"""The pages: nothing hostile passes, nothing is loaded from elsewhere, nothing is missing without a reason."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from livermet.captions import caption_params, read_captions, render_caption
from livermet.config import DEFAULT_CONFIG, load_yaml
from livermet.library_report import library_alerts, library_page
from livermet.pages import embed
from livermet.report import CONTENTS, MAX_ROWS, MAX_THUMBNAIL_WIDTH, cohort_page, index_files, index_page
from livermet.report_data import association_order, interaction_summary, neighbourhood_summary

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from report_inputs import PARAMS, demo_inputs, empty_inputs, fake_png, library_inputs

HOSTILE = "<script>alert(1)</script>\"&'"
CAPTIONS = Path(__file__).resolve().parents[2] / "workflow" / "report"


@pytest.fixture(scope="module")
def inputs():
    return demo_inputs()


@pytest.fixture(scope="module")
def page(inputs):
    return cohort_page(inputs)


def with_table(inputs, name, table):
    return replace(inputs, tables={**inputs.tables, name: table})


def text_of(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def section_of(html, name):
    return html.split(f'<section id="{name}">')[1].split("</section>")[0]


def assert_offline(html):
    assert "http://" not in html
    assert "https://" not in html
    assert not re.search(r'(src|href|action)="//', html)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', html))
    assert all(not re.match(r"[a-z]+:", link) for link in re.findall(r'href="([^"]*)"', html))
    assert "url(" not in html
    assert "@import" not in html
    assert "content=\"default-src 'none'; img-src data:;" in html


def test_pages_load_nothing_from_elsewhere(inputs, page):
    assert_offline(page)
    assert_offline(library_page(library_inputs(inputs, "L01_scrna", figure=inputs.figures["umap"])))
    assert_offline(index_page(title="t", scope="cohort", simulated=False, files=index_files([])))


def test_every_section_is_there_and_in_the_navigation(page):
    for key, name in CONTENTS:
        assert f'<section id="{key}">' in page
        assert f'<a href="#{key}">{name}</a>' in page


def test_an_empty_study_gets_reasons_instead_of_panels():
    page = cohort_page(empty_inputs())
    for key, _ in CONTENTS:
        assert f'<section id="{key}">' in page
    for key in "flow labels findings data libraries qc cells composition malignancy expression sections niches neighbourhood interactions response".split():
        assert 'class="empty"' in section_of(page, key), key
    assert "<img" not in page


def test_hostile_text_is_escaped_everywhere(inputs):
    tables = dict(inputs.tables)
    for name, columns in {
        "patients": ["centre", "cohort"],
        "status": ["reason", "batch"],
        "labels": ["reason", "source"],
        "recist": ["reason", "rows", "target", "reported"],
        "findings": ["message", "remedy", "column", "table", "value", "rule"],
        "scope_findings": ["message", "value"],
        "deviations": ["rules"],
        "features_left_out": ["reason"],
        "associations": ["feature", "refusal_reason", "adjusted_for"],
        "interactions": ["sender", "ligand"],
        "neighbourhood": ["type_a"],
        "niches": ["name", "cell_type"],
        "response_filtered": ["reason"],
        "annotation": ["cell_type", "sister", "reference_label"],
        "annotation_comparison": ["source", "reason"],
        "overrides": ["target", "from", "note"],
        "malignant": ["patient_id", "reason"],
        "differential": ["gene", "cell_type"],
        "differential_tests": ["reason"],
    }.items():
        tables[name] = tables[name].assign(**dict.fromkeys(columns, HOSTILE))
    tables["features"] = tables["features"].assign(feature=HOSTILE)
    verdict = {**inputs.verdict, "headline": HOSTILE, "sentences": [HOSTILE], "limits": [HOSTILE]}
    run = {**inputs.run, "versions": {HOSTILE: HOSTILE}}
    params = {**inputs.params, "qc": {**inputs.params["qc"], "free": HOSTILE}}
    clean = cohort_page(inputs).count("<script")
    page = cohort_page(
        replace(inputs, tables=tables, verdict=verdict, run=run, params=params, title=HOSTILE, scope=HOSTILE)
    )
    assert page.count("<script") == clean == 1
    assert "alert(1)" in page
    assert HOSTILE not in page
    assert not re.search(r'="[^"]*<script', page)


def test_hostile_text_is_escaped_on_a_library_page(inputs):
    given = library_inputs(inputs, "L06_scrna", figure=inputs.figures["umap"])
    status = {**given.status, "reason": HOSTILE, "removed": {HOSTILE: 3}, "notes": [HOSTILE]}
    page = library_page(replace(given, row={**given.row, "patient_id": HOSTILE}, status=status, types={HOSTILE: 1.0}))
    assert page.count("<script") == 1
    assert HOSTILE not in page


def test_simulated_data_are_called_so_and_real_data_are_not(inputs, page):
    assert "SIMULATED DATA" in page
    assert "<title>SIMULATED" in page
    real = replace(inputs, simulated=False)
    assert "SIMULATED" not in cohort_page(real)
    assert "SIMULATED" in library_page(library_inputs(inputs, "L01_scrna", figure=inputs.figures["umap"]))
    assert "SIMULATED" not in library_page(library_inputs(real, "L01_scrna", figure=inputs.figures["umap"]))


def test_refused_rows_show_the_reason_and_no_number(page, inputs):
    refused = (inputs.tables["associations"]["status"] == "refused").sum()
    rows = [row for row in section_of(page, "response").split("<tr") if 'class="refused"' in row]
    assert len(rows) == refused > 0
    for row in rows:
        assert "2 patients in the arm progression, 3 are needed" in row
        assert "<svg" not in row
        assert "hedges" not in row


def test_the_matrix_has_one_row_per_patient(page, inputs):
    patients = re.findall(r'id="patient-([^"]+)"', page)
    assert sorted(patients) == sorted(inputs.tables["patients"]["patient_id"])


def test_equal_inputs_give_equal_bytes(inputs, page):
    shuffled = {
        name: table.iloc[::-1]
        for name, table in inputs.tables.items()
        if name in ("patients", "libraries", "samples", "labels", "recist")
    }
    assert cohort_page(inputs) == page
    assert cohort_page(replace(inputs, tables={**inputs.tables, **shuffled})) == page


def test_what_differs_between_machines_does_not_enter_the_page(inputs, page):
    run = {**inputs.run, "time": "2031-01-01T00:00:00", "machine": {"system": "Plan9"}, "commit": "abc", "threads": {}}
    assert cohort_page(replace(inputs, run=run)) == page
    assert "/home/someone" not in page


def test_findings_show_rule_place_value_and_remedy_and_when_they_were_made(inputs, page):
    section = section_of(page, "findings")
    row = next(row for row in section.split("<tr>") if "6 liver metastases" in row)
    for words in ("deviation", "V04", "limits of the cohort", "tables", "patients.tsv", ">3<", "n_liver_mets", ">6<", "nothing to do"):  # fmt: skip
        assert words in row, words
    assert "after QC" in next(row for row in section.split("<tr>") if "L12_scrna" in row)
    assert re.search(r"<b>3</b> <span[^>]*>deviation", section)
    assert "2 patients depart from the protocol, and stay in the analysis" in section
    assert "P02: V04, V07" in section
    alone = with_table(inputs, "deviations", inputs.tables["deviations"].head(1))
    assert "1 patient departs from the protocol, and stays in the analysis" in section_of(
        cohort_page(alone), "findings"
    )


def test_more_findings_than_the_page_holds_are_said_to_be_left_out(inputs):
    many = pd.concat([inputs.tables["findings"].tail(1)] * (MAX_ROWS + 5))
    section = section_of(cohort_page(with_table(inputs, "findings", many)), "findings")
    assert f"The first {MAX_ROWS} of {len(many) + 2}" in section
    assert section.count("<tr>") == MAX_ROWS + 1


def test_the_flow_is_drawn_and_told_for_those_who_do_not_see_it(page):
    section = section_of(page, "flow")
    for name, n in (("cells", 17), ("sections", 9)):
        figure = section.split(f'<figure id="flow-{name}">')[1].split("</figure>")[0]
        assert re.search(rf'<svg class="chart"[^>]*role="img" aria-label="Patients with {name}: 24 enrolled;', figure)
        drawn = re.findall(r'<text class="head"[^>]*>(\d+)</text>', figure)
        told = re.findall(r"<li>(\d+) (?!left)", figure)
        assert drawn == told
        assert drawn[0] == "24"
        assert drawn[-1] == str(n)
        assert "<li>1 left before, withdrew consent</li>" in figure
        assert "<li>2 left before, primary only at T0 pre: P05, P14</li>" in figure
    assert (
        "Of 24 patients who were enrolled, 18 gave liver met at T0 pre; analysed: 17 by cells, 9 by sections" in section
    )


def test_each_label_says_how_many_of_the_analysed_have_it(page):
    table = section_of(page, "flow").split('<table class="lines">')[1]
    rows = {re.sub(r"<.*", "", row.split('<th scope="row">')[1]).strip(): row for row in table.split("<tr")[2:]}
    assert next(iter(rows)) == "disease control"
    assert "primary" in rows["disease control"]
    assert {"os", "pathologist", "path cap"} <= set(rows)
    assert re.search(r'<td class="num">15</td><td>.*yes: \d+, no: \d+', rows["disease control"])
    assert "event: " in rows["os"]
    assert {name for name, row in rows.items() if row.startswith(' class="off"')} == {
        *("path cap", "path cap01", "ypM0", "resected", "early relapse6", "rfs", "os surgery")
    }


def test_disagreements_come_first_and_each_patient_can_be_opened(page, inputs):
    section = section_of(page, "labels")
    assert section.index("Reported and computed response differ") < section.index("<h3>Every label</h3>")
    assert "2 evaluations of 2 patients were reported otherwise" in section
    for patient in inputs.tables["patients"]["patient_id"]:
        assert f'<a href="#labels-{patient}">' in section
        assert section.count(f'<table id="labels-{patient}">') == 1
    opened = section.split("<summary>P03 ")[1].split("</details>")[0]
    assert "no evaluation after the start of treatment on day 5" in opened
    assert "No evaluation by RECIST 1.1." in opened
    agreeing = inputs.tables["recist"].assign(agrees="yes")
    assert "response differ" not in section_of(cohort_page(with_table(inputs, "recist", agreeing)), "labels")


def test_the_labels_of_the_whole_trial_stay_below_400_kilobytes():
    assert len(section_of(cohort_page(demo_inputs(n_patients=64)), "labels").encode()) < 400e3


@pytest.mark.parametrize("n", [1, 3])
def test_a_study_that_has_just_begun_has_a_report(n):
    page = cohort_page(demo_inputs(n_patients=n, n_sections=n))
    assert f"Of {n} patient{'s' * (n > 1)} who were enrolled" in page
    assert "1 patients" not in "".join(section_of(page, name) for name in ("flow", "labels", "findings"))


def test_a_batch_scope_says_that_it_describes(inputs, page):
    sentence = "Response is tested in the cohort scope only"
    assert sentence in cohort_page(replace(inputs, scope="B02"))
    assert sentence not in page


def test_a_cohort_of_sixty_sections_stays_below_ten_megabytes(page):
    rng = np.random.default_rng(5)
    figure = embed(fake_png(rng, "x", width=9, height=4.5), caption="", alt="x")
    panel = embed(fake_png(rng, "x", width=12, height=8), caption="", alt="x", max_width=MAX_THUMBNAIL_WIDTH)
    assert len(page) + 17 * len(figure.uri) + 60 * len(panel.uri) < 10e6


def test_interactions_are_summarised_over_patients():
    table = demo_inputs(2).tables["interactions"]
    one = table[(table["patient_id"] == "P01") & (table["status"] == "scored")]
    summary, statuses = interaction_summary(pd.concat([table, one]), top=5)
    assert len(summary) == 5
    assert summary["patients"].is_monotonic_decreasing
    assert summary["patients"].max() <= 24
    assert sum(statuses.values()) == len(table) + len(one)


def test_sections_of_a_patient_count_once_in_the_neighbourhood_and_those_without_border_do_not():
    rows = [
        ("L1", "P1", "a", "b", 9.0, "distance_bins"),
        ("L2", "P1", "a", "b", 11.0, "distance_bins"),
        ("L3", "P2", "a", "b", 0.0, "distance_bins"),
        ("L4", "P3", "a", "b", np.nan, "too_few_spots"),
        ("L5", "P4", "a", "b", 30.0, "sides"),
    ]
    table = pd.DataFrame(rows, columns=["library_id", "patient_id", "type_a", "type_b", "z", "null"])
    cells = table.assign(resolution="cell", z=table["z"] - 20)
    table = pd.concat([table.assign(resolution="spot"), cells]).assign(timepoint="T0_pre", tissue="liver_met")
    summary = neighbourhood_summary(table[table["resolution"] == "spot"], top=10)
    assert summary["patients"].tolist() == [2]
    assert summary["median_z"].tolist() == [5.0]
    assert sorted(neighbourhood_summary(table, top=10)["median_z"]) == [-15.0, 5.0]


def test_confirmatory_rows_come_first_and_are_never_cut(inputs):
    table = association_order(inputs.tables["associations"], limit=1)
    assert len(table) == 3
    assert set(table["role"]) == {"confirmatory"}


def test_an_outlying_library_raises_an_alert(inputs):
    given = library_inputs(inputs, "L01_scrna", figure=inputs.figures["umap"])
    assert [tone for tone, _ in library_alerts(given.status, given.siblings)] == ["ok"]
    low = {**given.status, "metrics": {**given.status["metrics"], "median_counts": 90.0}}
    assert any(tone == "warn" and "Median counts" in text for tone, text in library_alerts(low, given.siblings))
    assert [tone for tone, _ in library_alerts(low, given.siblings[:3])] == ["ok"]


def test_an_excluded_library_has_a_page_with_its_reason(inputs):
    page = library_page(library_inputs(inputs, "L06_scrna", figure=inputs.figures["umap"]))
    assert "fewer than qc.min_cells" in section_of(page, "alerts")
    assert 'class="empty"' in section_of(page, "figures")
    assert 'href="L05_visium.html"' in page
    assert 'href="L07_scrna.html"' in page


def test_the_waterfall_adds_up(inputs):
    given = library_inputs(inputs, "L01_scrna", figure=inputs.figures["umap"])
    rows = re.findall(
        r'<th scope="row">(?:− )?([a-z ]+)</th><td class="num">([\d,]+)', section_of(library_page(given), "removed")
    )
    numbers = {name: int(n.replace(",", "")) for name, n in rows}
    assert numbers["read"] == numbers["kept"] + numbers["low counts"] + numbers["high mito"]


def test_a_figure_keeps_its_shape_and_loses_weight():
    png = fake_png(np.random.default_rng(3), "wide", width=14, height=7)
    figure = embed(png, caption="", alt="x", max_width=700)
    assert (figure.width, figure.height) == (700, 350)
    assert len(figure.uri) < len(png)


def test_the_index_refuses_absolute_paths():
    with pytest.raises(ValueError, match="not relative"):
        index_page(title="t", scope="cohort", simulated=False, files={"a": [("/etc/passwd", "")]})


def test_captions_are_escaped_and_carry_no_address():
    source = "Cut at {{ snakemake.params.qc.min_counts }} <b> & see https://example.org or `here <https://a.org>`_."
    html = render_caption(source, params=PARAMS, wildcards={}, name="x")
    assert "Cut at 200 &lt;b&gt; &amp; see" in html
    assert "href" not in html
    assert "here" in html


def test_a_caption_that_asks_for_what_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"qc_metrics\.rst.*nothing"):
        render_caption("{{ snakemake.params.nothing }}", params=PARAMS, wildcards={}, name="qc_metrics")


def test_keys_that_two_sections_share_are_not_offered_alone():
    offered = caption_params({"a": {"x": 1, "y": 2}, "b": {"x": 3}, "seed": 4})
    assert offered == {"y": 2, "a": {"x": 1, "y": 2}, "b": {"x": 3}, "seed": 4}


def test_every_figure_caption_can_be_rendered_from_the_config_alone():
    captions = read_captions(CAPTIONS)
    assert {"library_qc", "umap", "associations"} <= set(captions)
    profiles = {"bin_um": 100, "min_spots": 3, "n_types": 16}
    params = caption_params(load_yaml(DEFAULT_CONFIG)) | {"profiles": profiles, "lines": {"min_spots": 3, "top": 12}}
    for name in set(captions) - {"cohort_report", "library_page", "workflow"}:
        html = render_caption(captions[name], params=params, wildcards={"scope": "cohort", "library": "L1"}, name=name)
        assert html.startswith("<"), name
