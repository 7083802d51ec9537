"""The small command line for what is not a step of the workflow: ``python -m livermet COMMAND --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from livermet.config import DEFAULT_CONFIG, PROJECT, load_yaml, merge_config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status, 1 where the command found what it looks for, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m livermet", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    simulate = commands.add_parser("simulate", help="write a simulated study and its truth")
    simulate.add_argument("--out", required=True, type=Path, help="folder for study/ and truth/")
    simulate.add_argument("--size", default="demo", help="demo, or another named size")
    simulate.add_argument("--seed", default=1, type=int, help="same seed, same study")
    simulate.add_argument("--patients", type=int, help="number of patients")
    simulate.set_defaults(run=_simulate)

    check = commands.add_parser("check", help="list every problem of a study's config, tables and files")
    check.add_argument("--config", required=True, nargs="+", type=Path, help="config files, later over earlier ones")
    check.set_defaults(run=_check)

    power = commands.add_parser("power", help="what the study, as its tables stand, could and could not detect")
    power.add_argument("--config", required=True, nargs="+", type=Path, help="config files, later over earlier ones")
    power.add_argument("--plan", type=_positive, help="reckon with so many patients in all, in place of those enrolled")
    power.add_argument("--rate", type=_share, help="share of responders in place of that of the labels (0.33 without)")
    power.set_defaults(run=_power)

    dates = commands.add_parser("dates", help="turn the calendar dates of a trial's export into days from enrolment")
    dates.add_argument("--export", required=True, type=Path, help="folder of the exported tables")
    dates.add_argument("--key", required=True, type=Path, help="table of export_id, patient_id, enrol_date")
    dates.add_argument("--out", required=True, type=Path, help="folder for the study tables")
    dates.add_argument("--format", default="%Y-%m-%d", help="how dates are written, such as %%d.%%m.%%Y")
    dates.add_argument("--decimal", default=".", choices=[".", ","], help="decimal mark of the export")
    dates.add_argument("--keep", nargs="+", default=[], help="columns beyond the study tables' own, such as labels")
    dates.add_argument("--replace", action="store_true", help="write over tables that are there")
    dates.set_defaults(run=_dates)

    compare = commands.add_parser("compare", help="list the files that differ between two result folders")
    compare.add_argument("first", type=Path)
    compare.add_argument("second", type=Path)
    compare.set_defaults(run=_compare)

    benchmark = commands.add_parser("benchmark", help="time and peak memory of each rule")
    benchmark.add_argument("results", type=Path, help="a results folder")
    benchmark.set_defaults(run=_benchmark)

    reference = commands.add_parser("reference", help="write config/README.md anew from the schemas")
    reference.set_defaults(run=_reference)

    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except ValueError as error:
        print(f"livermet: {error}", file=sys.stderr)
        return 2


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _share(text: str) -> float:
    if not 0 < (number := float(text)) < 1:
        raise ValueError
    return number


# Each command imports what it needs: a check of tables should not wait for the imports of the simulator.


def _simulate(options: argparse.Namespace) -> int:
    from livermet.simulate import simulate_study

    overrides = {} if options.patients is None else {"n_patients": options.patients}
    simulate_study(options.out, size=options.size, seed=options.seed, **overrides)
    print(f"simulated study in {options.out / 'study'}, its truth in {options.out / 'truth'}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from livermet.blinding import blind_findings
    from livermet.check import check_study
    from livermet.files import write_table
    from livermet.findings import errors, findings_frame, format_findings
    from livermet.study import load_study

    config = merge_config(load_yaml(DEFAULT_CONFIG), *(load_yaml(path) for path in options.config))
    study = load_study(config, workdir=Path.cwd(), files=options.config)
    setup = [finding for finding in study.findings if finding not in study.data.findings]
    label = "" if study.has_errors else config["response"]["primary_label"]
    findings = check_study(
        study.data, setup=setup, trial=study.trial, declared=config["labels"], primary=label
    ).findings
    print(format_findings(findings))
    if config.get("blind") is True:
        findings = blind_findings(findings)
    if isinstance(config["results"], str):  # otherwise that is one of the findings
        path = Path(config["results"]) / "study" / "findings.tsv"
        write_table(findings_frame(findings), path)
        print(f"written to {path}")
    return 1 if errors(findings) else 0


def _power(options: argparse.Namespace) -> int:
    from livermet.findings import errors, format_findings
    from livermet.power_text import study_power
    from livermet.study import load_study

    config = merge_config(load_yaml(DEFAULT_CONFIG), *(load_yaml(path) for path in options.config))
    study = load_study(config, workdir=Path.cwd(), files=options.config)
    # Mistakes in the tables leave out rows; what can't be read of the config leaves no question to answer.
    setup = errors(finding for finding in study.findings if finding not in study.data.findings)
    if setup:
        print(format_findings(setup))
        return 1
    print(study_power(study, plan=options.plan, rate=options.rate))
    if study.has_errors:
        print("\nThe tables have errors, so numbers may change: python -m livermet check lists them.")
    return 0


def _dates(options: argparse.Namespace) -> int:
    from livermet.dates import convert_export
    from livermet.findings import errors, format_findings

    findings, written = convert_export(
        options.export,
        options.key,
        options.out,
        date_format=options.format,
        decimal=options.decimal,
        keep=options.keep,
        replace=options.replace,
    )
    print(format_findings(findings))
    if errors(findings):
        print("nothing was written")
        return 1
    print(f"written to {options.out}: " + ", ".join(f"{name} {n} rows" for name, n in written.items()))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from livermet.compare import compare_folders

    differences = compare_folders(options.first, options.second)
    for name, difference in differences:
        print(f"{difference}\t{name}")
    print(f"{len(differences)} files differ" if differences else "the results are the same")
    return 1 if differences else 0


def _benchmark(options: argparse.Namespace) -> int:
    from livermet.benchmarks import read_benchmarks, summarise_benchmarks

    print(summarise_benchmarks(read_benchmarks(options.results / "benchmarks")).to_string(index=False))
    return 0


def _reference(_: argparse.Namespace) -> int:
    from livermet.files import write_text
    from livermet.reference import render_reference

    page = PROJECT / "config" / "README.md"
    write_text(render_reference(page.read_text(encoding="utf-8"), load_yaml(DEFAULT_CONFIG)), page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
