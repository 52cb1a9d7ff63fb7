"""From a command's options to a run: the configuration, the run folder, and what is printed at the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlxdistill.cli.console import TerminalReporter, print_json, print_lines, print_scores
from mlxdistill.config.load import LoadedConfig, load_config
from mlxdistill.errors import UsageError
from mlxdistill.pipeline import STAGES, Options, Ran, run_stages
from mlxdistill.pipeline.ranks import help_rank_0
from mlxdistill.platform.ranks import join_ranks
from mlxdistill.rundir.files import os_errors, read_json
from mlxdistill.rundir.layout import RunDir
from mlxdistill.workers import stop_asked

ALL_STAGES = tuple(stage.name for stage in STAGES)


def own_folder(folder: Path) -> RunDir:
    """The folder, to work in. Raises UsageError where it holds what is not ours, MlxDistillError where it is closed."""
    names: list[str] = []
    with os_errors(folder), contextlib.suppress(FileNotFoundError):
        names = os.listdir(folder)
    run = RunDir(folder.absolute())
    if names and run.lock.name not in names:
        raise UsageError("this folder holds other files", where=str(folder), hint="name an empty or a new folder")
    return run


def open_run(config: Path, settings: list[str] | None, folder: Path | None) -> tuple[LoadedConfig, RunDir]:
    """The configuration with what `--set` changes, and its run folder: `folder`, or runs/<name>. Raises as `own_folder`
    and `load_config` do."""
    loaded = load_config(config, settings or ())
    return loaded, own_folder(folder or Path("runs") / loaded.config.name)


def run_command(
    config: Path,
    settings: list[str] | None,
    folder: Path | None,
    names: Sequence[str],
    options: Options,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Runs stages of a configuration and prints where they led."""
    loaded = load_config(config, settings or ())
    ranks = join_ranks(stop_asked)
    if ranks is not None and ranks.rank > 0:  # rank 0 alone has the run folder, and speaks to the user
        help_rank_0(loaded.config, names, ranks, TerminalReporter(quiet=True))
        return
    run = own_folder(folder or Path("runs") / loaded.config.name)
    with TerminalReporter(quiet=quiet).live() as reporter:
        ran = run_stages(loaded, run, names, STAGES, reporter, replace(options, ranks=ranks))
    metrics = read_json(run.metrics) if "eval" in names else None
    if as_json:
        print_json(summary(ran, metrics))
    elif metrics is not None:
        print_result(run, metrics)
    else:
        print_lines([str(run.path)])


def summary(ran: Ran, metrics: dict[str, Any] | None) -> dict[str, Any]:
    return {"run": str(ran.run.path), "done": ran.done, "skipped": ran.skipped, "metrics": metrics}


def print_result(run: RunDir, metrics: dict[str, Any]) -> None:
    """The table, the verdict, and where everything lies."""
    from mlxdistill.evaluation.sentence import verdict_sentence

    print_lines([""])
    print_scores(metrics)
    lines = ["", verdict_sentence(metrics), "", f"adapter  {run.adapters}"]
    if run.report.exists():
        lines.append(f"report   {run.report}")
    lines.append(f"next     mlxdistill predict {run.path} NEW_ROWS.jsonl")
    print_lines(lines)
