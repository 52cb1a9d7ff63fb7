"""`mlxdistill review CONFIG|RUN`: a page on this machine where a person goes through rows worth a look."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlxdistill.cli.options import AsJson, Debug, RunFolder

if TYPE_CHECKING:
    from mlxdistill.config.models import Config
    from mlxdistill.rundir.layout import RunDir


class RowSet(StrEnum):
    POOL = "pool"
    VALID = "valid"
    TEST_INDIST = "test_indist"
    TEST_BALANCED = "test_balanced"


class Why(StrEnum):
    DISAGREEMENT = "disagreement"
    MARGIN = "margin"
    MISLABELLED = "mislabelled"
    MISTAKE = "mistake"
    ALL = "all"


def register(app: typer.Typer) -> None:
    app.command("review")(review)


def review(
    target: Annotated[Path, typer.Argument(metavar="CONFIG|RUN", help="The configuration, or the run folder.")],
    of_set: Annotated[
        RowSet,
        typer.Option("--set", help="Which rows. Labels of test and validation rows without gold become their gold."),
    ] = RowSet.POOL,
    why: Annotated[
        Why, typer.Option("--why", help="Only rows with this reason, besides some drawn at random.")
    ] = Why.ALL,
    most: Annotated[int, typer.Option("--n", metavar="N", min=1, max=10_000, help="How many rows.")] = 200,
    port: Annotated[
        int | None, typer.Option("--port", metavar="P", min=1, max=65_535, help="The port. Default: one that is free.")
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the link, and do not open a browser.")] = False,
    run_dir: RunFolder = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Go through rows worth a look in the browser: accept, change or doubt their labels. The next run uses them."""
    from mlxdistill.cli.console import print_json, print_lines, print_note
    from mlxdistill.experiments.review.serving import review_rows

    run, config, again = _opened(target, run_dir)

    def on_open(link: str, total: int, decided: int) -> None:
        print_note(f"{total:,} rows, {decided:,} of them decided; this link opens the page once: {link}")
        print_note("Ctrl-C ends the review; every decision is kept as soon as it is made")
        sys.stderr.flush()
        if not no_open and _has_screen():
            import webbrowser

            webbrowser.open(link)

    summary = review_rows(
        run,
        config,
        of_set.value,
        why.value,
        most,
        port,
        next_command=shlex.join(["mlxdistill", "run", *again]),
        again=shlex.join(["mlxdistill", "review", *again, *(["--set", of_set.value] if of_set != RowSet.POOL else [])]),
        on_open=on_open,
    )
    if as_json:
        print_json(summary)
    else:
        print_lines(["", *_lines(summary)])


def _opened(target: Path, run_dir: Path | None) -> tuple[RunDir, Config, list[str]]:
    """The run folder, its configuration, and how other commands are told of them."""
    from mlxdistill.config.load import load_config
    from mlxdistill.errors import DataError
    from mlxdistill.rundir.layout import RunDir

    if target.is_dir():
        run = RunDir(target.absolute())
        if not run.config.is_file():
            raise DataError("not a run folder", where=str(target), hint="give the folder that `mlxdistill run` printed")
        return run, load_config(run.config).config, [str(target / run.config.name), "--run-dir", str(target)]
    config = load_config(target).config
    folder = run_dir or Path("runs") / config.name
    if not folder.is_dir():
        hint = f"mlxdistill run {target}, then review it"
        raise DataError("there is no run of this configuration", where=str(folder), hint=hint)
    return RunDir(folder.absolute()), config, [str(target), *(["--run-dir", str(run_dir)] if run_dir else [])]


def _has_screen() -> bool:
    """Whether a browser would have a window to open; on Linux, one in the terminal is no help."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _lines(summary: Mapping[str, Any]) -> list[str]:
    """What was decided, and the command that uses it."""
    counts = ", ".join(f"{summary[name]:,} {name}" for name in ("accepted", "changed", "labelled", "unsure"))
    lines = [f"{summary['decided']:,} of {summary['total']:,} rows decided ({summary['now']:,} now): {counts}"]
    lines += summary["findings"]
    if summary["decided"]:
        lines.append(f"next     {summary['next']}")
    return lines
