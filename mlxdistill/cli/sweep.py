"""`mlxdistill sweep CONFIG --vary KEY=VALUE,VALUE`: one change at a time, against the noise of the seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from mlxdistill.cli.options import AsJson, ConfigFile, Debug, Quiet, RunFolder, Settings


def register(app: typer.Typer) -> None:
    app.command("sweep")(sweep)


def sweep(
    config: ConfigFile,
    vary: Annotated[
        list[str],
        typer.Option(
            "--vary", metavar="KEY=VALUE,VALUE,...", help="A key of `student` or `train`, and its values. Repeatable."
        ),
    ],
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", help="Students of each setting, 2 at least.")] = 3,
    settings: Settings = None,
    run_dir: RunFolder = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Change one setting of the student at a time, and say which changes are more than noise."""
    from mlxdistill.cli.console import TerminalReporter, print_json, print_lines, print_table
    from mlxdistill.cli.session import open_run
    from mlxdistill.experiments.sweep import read_factor, sweep

    factors = [read_factor(text) for text in vary]
    loaded, run = open_run(config, settings, run_dir)
    with TerminalReporter(quiet=quiet).live() as reporter:
        outcome = sweep(loaded, settings or (), run, factors, seeds, reporter)
    if as_json:
        print_json(outcome)
        return
    for name in outcome["base"]["sets"]:
        columns = ("setting", "value", f"{outcome['metric']} on {name}", "seed sd", "difference", "p (Holm)", "")
        print_table(columns, list(_lines(outcome, name)))
    print_lines([f"means of {seeds} seeds; differences to the base in points, with 95 % intervals over rows and seeds"])


def _lines(outcome: Mapping[str, Any], name: str) -> Iterator[tuple[str, ...]]:
    from mlxdistill.report.numbers import p_value, points, points_interval
    from mlxdistill.statistics.written import decimal

    base = outcome["base"]["sets"][name]
    yield "base", "", decimal(100 * base["value"]), decimal(100 * base["seed_sd"]), "", "", ""
    for setting in outcome["settings"]:
        entry = setting["sets"][name]
        yield (
            setting["key"],
            f"{_written(setting['value'])} (base: {_written(setting['base_value'])})",
            decimal(100 * entry["value"]),
            decimal(100 * entry["seed_sd"]),
            f"{points(entry['difference'])} {points_interval(*(entry['ci'] or (None, None)))}".strip(),
            p_value(entry["p_holm"]),
            entry["verdict"],
        )


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
