"""One whole run on a small simulated study, and what each later change reruns."""

import shutil
import subprocess
import sys

import pandas as pd
import pytest

from livermet.files import read_json, read_table
from workspace import Workspace, copy_project

BROKEN = "L-broken"
SCOPE_RULES = {
    "annotate_cells",
    "build_reference",
    "cohort_report",
    "collect_features",
    "collect_status",
    "combine_invasion",
    "compare_annotations",
    "differential_expression",
    "find_niches",
    "growth_pattern",
    "integrate_cells",
    "label_section",
    "library_page",
    "map_section",
    "measure_invasion",
    "plot_annotation",
    "plot_biomarkers",
    "plot_cells",
    "plot_differential",
    "plot_integration",
    "plot_interactions",
    "plot_invasion",
    "plot_malignant",
    "plot_prediction",
    "plot_qc",
    "plot_response",
    "plot_robustness",
    "plot_section",
    "plot_sections",
    "plot_survival",
    "predict_response",
    "record_run",
    "score_activity",
    "score_interactions",
    "summarise_malignant",
    "test_biomarkers",
    "test_response",
    "test_survival",
    "write_checklist",
}
# What a changed feature, or another question, reaches.
EVIDENCE = {
    "cohort_report",
    "plot_biomarkers",
    "plot_prediction",
    "plot_response",
    "plot_robustness",
    "plot_survival",
    "predict_response",
    "record_run",
    "test_biomarkers",
    "test_response",
    "test_survival",
    "write_checklist",
}


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """A simulated study with its truth, and one library whose file is cut off."""
    folder = tmp_path_factory.mktemp("study")
    command = [sys.executable, "-m", "livermet", "simulate", "--out", str(folder), "--size", "tiny", "--seed", "11"]
    subprocess.run(command, check=True)
    libraries = folder / "study/libraries.tsv"
    table = pd.read_csv(libraries, sep="\t", dtype=str, keep_default_na=False)
    row = table[table["modality"] == "scrna"].iloc[0].copy()
    source = next((folder / "study").glob("raw/*/filtered_feature_bc_matrix.h5"))
    broken = folder / "study/raw" / BROKEN / source.name
    broken.parent.mkdir()
    broken.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    row["library_id"], row["path"], row["raw_path"] = BROKEN, str(broken.relative_to(folder / "study")), ""
    pd.concat([table, row.to_frame().T]).to_csv(libraries, sep="\t", index=False)
    return folder


@pytest.fixture(scope="session")
def finished(study, home, tmp_path_factory):
    """The workspace after a whole run on two cores."""
    folder = tmp_path_factory.mktemp("run")
    clone = copy_project(home, folder / "clone")
    config = {
        "study": str(study / "study"),
        "results": "results",
        "response": {"primary_label": "objective_response"},
    }
    workspace = Workspace(folder / "work", clone, config)
    workspace.snakemake()
    return workspace


def test_all_that_people_open_is_there_and_says_simulated(finished):
    for name in ["index.html", "report.html"]:
        assert "SIMULATED" in finished.results("cohort", name).read_text()
    for name in ["cells.h5ad", "features.parquet", "associations.tsv", "niches.tsv", "interactions.tsv", "run.json"]:
        assert finished.results("cohort", name).stat().st_size > 0
    status = read_table(finished.results("cohort", "status.tsv")).set_index("library_id")
    for library, row in status.iterrows():
        assert "SIMULATED" in finished.results("cohort", "pages", f"{library}.html").read_text()
        if row["modality"] == "visium":
            assert finished.results("cohort", "sections", library, "spatial.h5ad").is_file()


def test_a_broken_library_is_excluded_with_its_reason_and_the_others_go_on(finished):
    status = read_table(finished.results("cohort", "status.tsv")).set_index("library_id")
    assert status.loc[BROKEN, "status"] == "excluded"
    assert "truncated" in status.loc[BROKEN, "reason"]
    assert (status.drop(BROKEN)["status"] == "ok").mean() > 0.8
    assert read_json(finished.results("libraries", BROKEN, "status.json"))["n_out"] == 0


def test_nothing_runs_twice(finished):
    assert finished.planned() == {}


def test_a_fresh_clone_over_old_results_runs_nothing(finished, home):
    clone = copy_project(home, finished.folder.parent / "fresh")
    assert Workspace(finished.folder, clone, finished.config).planned() == {}


def test_another_working_directory_is_refused_with_the_remedy(finished):
    config = finished.config | {"results": str(finished.results())}
    run = Workspace(finished.folder.parent / "elsewhere", finished.clone, config).snakemake("--dry-run", check=False)
    assert run.returncode != 0
    assert "Remedy" in run.stdout


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"report": {"title": "Another title"}}, {"cohort_report", "record_run", "write_checklist"}),
        (
            {"niches": {"k_max": 6}},
            {"find_niches", "label_section", "plot_section", "plot_sections", "score_interactions", "plot_interactions"}
            | {"collect_features", "library_page"}
            | EVIDENCE,
        ),
        (
            {"response": {"primary_label": "objective_response", "fdr": 0.2}},
            {"differential_expression", "plot_differential"} | EVIDENCE - {"predict_response", "plot_prediction"},
        ),
        ({"qc": {"min_genes": 110}}, SCOPE_RULES | {"qc_library"}),
    ],
)
def test_a_changed_parameter_reruns_exactly_its_rules(finished, changes, rules):
    assert set(finished.planned(**changes)) == rules


@pytest.mark.parametrize(
    ("module", "rules"),
    [
        ("neighbourhood.py", {"find_niches", "score_interactions", "collect_features", "test_response"}),
        ("report.py", {"cohort_report"}),
        ("readers.py", {"ingest_library"}),
    ],
)
def test_an_edited_module_reruns_exactly_what_reaches_it(finished, home, module, rules, tmp_path):
    clone = copy_project(home, tmp_path / "clone")
    path = clone / "workflow/lib/livermet" / module
    path.write_text(path.read_text() + "\n# edited\n")
    planned = Workspace(finished.folder, clone, finished.config).planned()
    assert rules <= set(planned)
    for rule in {"ingest_library", "qc_library", "integrate_cells", "annotate_cells", "map_section"} - rules:
        upstream_edited = "ingest_library" in rules
        assert (rule in planned) == upstream_edited


@pytest.fixture
def added_library(study):
    """The study with one more library, a copy of another one's files; taken out again afterwards."""
    libraries = study / "study/libraries.tsv"
    before = libraries.read_bytes()
    table = pd.read_csv(libraries, sep="\t", dtype=str, keep_default_na=False)
    row = table[table["path"].str.endswith("filtered_feature_bc_matrix.h5")].iloc[0].copy()
    copy = study / "study/raw/L-added" / "filtered_feature_bc_matrix.h5"
    copy.parent.mkdir()
    shutil.copyfile(study / "study" / row["path"], copy)
    row["library_id"], row["path"], row["raw_path"] = "L-added", str(copy.relative_to(study / "study")), ""
    pd.concat([table, row.to_frame().T]).to_csv(libraries, sep="\t", index=False)
    yield
    libraries.write_bytes(before)
    shutil.rmtree(copy.parent)


def test_an_added_library_runs_alone_with_its_scope(finished, added_library):
    planned = finished.planned()
    assert planned["ingest_library"] == 1
    assert planned["qc_library"] == 1
    assert planned["integrate_cells"] == 1


def test_a_table_and_a_parameter_may_change_at_once(finished, added_library):
    """Neither change hides the other: the new library is read, and all of them pass quality control again."""
    planned = finished.planned(qc={"min_genes": 110})
    assert planned["check_study"] == 1
    assert planned["ingest_library"] == 1
    assert planned["qc_library"] > 5


def test_switching_to_a_batch_computes_no_library_again(finished, study):
    table = pd.read_csv(study / "study/libraries.tsv", sep="\t", dtype=str)
    batch = table["batch"].iloc[0]
    planned = finished.planned(scope=batch)
    assert "integrate_cells" in planned
    assert not {"ingest_library", "qc_library"} & set(planned)


def test_errors_in_the_tables_stop_everything_whatever_was_checked_before(study, home, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(study / "study", folder, ignore=shutil.ignore_patterns("raw"))
    (folder / "raw").symlink_to(study / "study/raw")
    patients = (folder / "patients.tsv").read_text().splitlines()
    patients[1] = patients[1].replace("\t", "\t ", 1).replace(patients[1].split("\t")[1], "", 1)
    (folder / "patients.tsv").write_text("\n".join(patients) + "\n")
    config = {"study": str(folder), "results": "results", "roots": [str(study / "study")]}
    workspace = Workspace(tmp_path / "work", home, config)
    for _ in range(2):
        run = workspace.snakemake(check=False)
        assert run.returncode != 0
        assert "patients.tsv" in run.stdout and "centre" in run.stdout
        findings = read_table(workspace.results("study", "findings.tsv"))
        assert findings["severity"].tolist().count("error") == 1
        workspace.results("study", "findings.tsv").unlink()
        command = [sys.executable, "-m", "livermet", "check", "--config", "config.yaml"]
        assert subprocess.run(command, cwd=workspace.folder, check=False).returncode == 1


def test_truth_cores_and_place_change_no_byte(finished, study, home, tmp_path_factory):
    """The study without its truth folder, run elsewhere on one core, gives the same files."""
    shutil.rmtree(study / "truth")
    folder = tmp_path_factory.mktemp("again")
    again = Workspace(folder, copy_project(home, folder / "clone"), finished.config)
    again.snakemake("--cores", "1")
    compare = [sys.executable, "-m", "livermet", "compare", str(finished.results()), str(again.results())]
    run = subprocess.run(compare, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert run.returncode == 0, run.stdout
