"""`mlxdistill runs list|show|compare|rm`: everything that was ever run here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlxdistill.cli.options import AsJson, Debug
from mlxdistill.errors import DataError, UsageError

if TYPE_CHECKING:
    from mlxdistill.experiments.runs import RunFacts

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Look at runs, compare their students, delete them.", rich_markup_mode=None, no_args_is_help=True
    )
    group.command("list")(list_)
    group.command("show")(show)
    group.command("compare")(compare)
    group.command("rm")(remove)
    app.add_typer(group, name="runs")


def list_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the run folders lie.")] = Path("runs"),
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List runs and what came of them."""
    from dataclasses import asdict

    from mlxdistill.cli.console import print_json, print_lines, print_table
    from mlxdistill.experiments.runs import find_runs, run_facts

    found = [run_facts(run) for run in find_runs(folder)]
    if as_json:
        print_json({"runs": [asdict(facts) for facts in found]})
    elif not found:
        print_lines([f"no runs in {folder}"])
    else:
        sets = list(dict.fromkeys(name for facts in found for name in facts.scores))
        print_table(
            ("run", "started", "state", "student", "rows", *sets, "replace?", "disk"),
            [_line(facts, folder, sets) for facts in found],
        )


def show(run: RunArgument, as_json: AsJson = False, debug: Debug = False) -> None:
    """Print what each stage of a run did, and its scores."""
    from dataclasses import asdict

    from mlxdistill.cli.console import print_json, print_lines, print_scores, print_table
    from mlxdistill.evaluation.evaluate import checked_metrics
    from mlxdistill.evaluation.sentence import verdict_sentence
    from mlxdistill.experiments.runs import is_run, run_facts
    from mlxdistill.rundir.layout import RunDir
    from mlxdistill.rundir.manifest import Manifest

    folder = RunDir(run)
    if not is_run(folder):
        raise DataError("no run folder", where=str(run), hint="`mlxdistill runs list` names them")
    facts, stages = run_facts(folder), Manifest(folder).stages
    metrics = checked_metrics(folder) if facts.scores else None
    if as_json:
        print_json({**asdict(facts), "stages": stages, "metrics": metrics})
        return
    print_lines(
        [facts.path, *(f"teacher  {teacher}" for teacher in facts.teachers), f"student  {facts.student or '–'}"]
    )
    print_table(("stage", "started", "took", "rows in", "rows out"), list(_stage_lines(stages)))
    if metrics is not None:
        print_lines([""])
        print_scores(metrics)
        print_lines(["", verdict_sentence(metrics)])


def compare(
    run: RunArgument,
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="The run folder it is compared with.")],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say in what two runs differ, and whether one's student is better, on the test rows that both have."""
    from mlxdistill.cli.console import print_json, print_lines, print_table
    from mlxdistill.experiments.runs import compare_runs
    from mlxdistill.report.numbers import p_value, points, points_interval
    from mlxdistill.rundir.layout import RunDir

    found = compare_runs(RunDir(run), RunDir(other))
    if as_json:
        print_json(found)
        return
    settings = [(key, *map(_value, values)) for key, values in found["settings"].items()]
    if settings:
        print_table(("setting", found["a"], found["b"]), settings)
    else:
        print_lines(["the settings are the same"])
    rows = [
        (
            entry["set"],
            str(entry["n"]),
            f"{points(entry['difference'])} {points_interval(*(entry['ci'] or (None, None)))}".strip(),
            p_value(entry.get("p_holm")),
            entry.get("reason") or entry["verdict"],
        )
        for entry in found["comparisons"]
    ]
    print_table(("set", "rows", "difference", "p (Holm)", "student of the first against that of the second"), rows)
    print_lines([f"difference in {found['comparisons'][0]['metric']}, in points, with its 95 % interval"])


def remove(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    debug: Debug = False,
) -> None:
    """Delete run folders: rows, labels, students and reports."""
    from mlxdistill.cli.console import print_lines
    from mlxdistill.experiments.runs import is_run, remove_run, run_facts
    from mlxdistill.report.numbers import NO_BREAK_SPACE, size
    from mlxdistill.rundir.layout import RunDir

    folders = [RunDir(path) for path in dict.fromkeys(runs)]
    for folder in folders:
        if folder.path.is_symlink() or not is_run(folder):
            raise DataError("no run folder", where=str(folder.path), hint="`mlxdistill runs list` names them")
    total = size(sum(run_facts(folder).bytes for folder in folders)).replace(NO_BREAK_SPACE, " ")
    if not yes:
        try:
            names = ", ".join(str(folder.path) for folder in folders)
            agreed = typer.confirm(f"Delete {names} ({total}) with the labels in it?", err=True)
        except typer.Abort:
            agreed = False
            sys.stderr.write("\n")
        if not agreed:
            raise UsageError("nothing was deleted", hint="--yes deletes without asking")
    for folder in folders:
        remove_run(folder)
        print_lines([f"deleted {folder.path}"])


def _line(facts: RunFacts, folder: Path, sets: list[str]) -> tuple[str, ...]:
    from mlxdistill.report.numbers import MISSING, NO_BREAK_SPACE, percent_interval, read_estimate, size, whole
    from mlxdistill.statistics.written import decimal

    def score(name: str) -> str:
        estimate = read_estimate(facts.scores.get(name))
        if estimate.value is None:
            return MISSING
        return f"{decimal(100 * estimate.value)} {percent_interval(estimate.low, estimate.high)}".strip()

    return (
        str(Path(facts.path).relative_to(folder)),
        (facts.started or MISSING)[:16].replace("T", " "),
        "unreadable" if facts.damage else facts.state,
        Path(facts.student).name if facts.student else MISSING,
        whole(facts.rows),
        *map(score, sets),
        facts.verdict or MISSING,
        size(facts.bytes).replace(NO_BREAK_SPACE, " "),
    )


def _stage_lines(stages: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    from mlxdistill.report.numbers import NO_BREAK_SPACE, duration, whole

    for name, record in stages.items():
        took = duration(record["seconds"]).replace(NO_BREAK_SPACE, " ") if record["finished"] else "unfinished"
        started = record["started"][:16].replace("T", " ")
        yield name, started, took, whole(record["rows_in"]), whole(record["rows_out"])


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
