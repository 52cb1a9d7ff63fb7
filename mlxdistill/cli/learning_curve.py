"""`mlxdistill learning-curve CONFIG`: what more labels would bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mlxdistill.cli.options import AsJson, ConfigFile, Debug, Quiet, RunFolder, Settings
from mlxdistill.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command("learning-curve")(learning_curve)


def learning_curve(
    config: ConfigFile,
    shares: Annotated[
        str | None,
        typer.Option("--shares", metavar="P,P,...", help="Percentages of the labels. Default: 5,10,25,50,75,100."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", min=1, help="Students of each share.")] = 3,
    settings: Settings = None,
    run_dir: RunFolder = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train on parts of the labels, and say what twice as many would bring and whether to stop labelling."""
    from mlxdistill.cli.console import TerminalReporter, print_json, print_lines, print_table
    from mlxdistill.cli.session import open_run
    from mlxdistill.experiments.learning_curve import SHARES, learning_curve

    percentages = SHARES if shares is None else _percentages(shares)
    loaded, run = open_run(config, settings, run_dir)
    with TerminalReporter(quiet=quiet).live() as reporter:
        outcome = learning_curve(loaded, settings or (), run, percentages, seeds, reporter)
    if as_json:
        print_json(outcome)
        return
    for name, curve in outcome["sets"].items():
        rows = [
            (f"{point['share']} %", f"{point['rows']:,}", _shown(point["student"]), _shown(point["tfidf_logreg"]))
            for point in curve["points"]
        ]
        print_table(("labels", "rows", f"student on {name}, n = {curve['n']}", "tfidf_logreg"), rows)
    of = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    print_lines([f"{outcome['metric']}, {of}, with its 95 % interval", "", outcome["sentence"]])


def _percentages(text: str) -> tuple[int, ...]:
    parts = [part.strip().removesuffix("%").strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(
            f"{text!r} is no list of percentages", where="--shares", hint="for example --shares 10,25,50,100"
        )
    return tuple(map(int, parts))


def _shown(estimate: Mapping[str, Any]) -> str:
    from mlxdistill.report.numbers import percent_interval
    from mlxdistill.statistics.written import decimal

    return f"{decimal(100 * estimate['value'])} {percent_interval(*(estimate['ci'] or (None, None)))}".strip()
