"""What a user sees while stages run, and at the end. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Column, Table
from rich.text import Text

from mlxdistill.cli.time_left import TimeLeft
from mlxdistill.cli.visible import visible
from mlxdistill.report.numbers import rate

NAME_WIDTH = 8
# How figures are written, the most telling first: where the terminal is narrow, the last are cut.
FIGURES: dict[str, Callable[[float], str]] = {
    "loss": lambda value: f"loss {value:.3f}",
    "valid_loss": lambda value: f"validation {value:.3f}",
    "rows_per_second": lambda value: f"{rate(value)} rows/s",
    "tokens_per_second": lambda value: f"{value:,.0f} tokens/s",
    "peak_memory_gb": lambda value: f"{value:.1f} GB",
}
WIDEST = 10_000


class TerminalReporter:
    """Implements `pipeline.Reporter`: one line a stage, and a progress bar where there is a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            expand=True,
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._time_left = TimeLeft()

    @contextlib.contextmanager
    def live(self) -> Iterator[TerminalReporter]:
        with self._bar:
            yield self

    def begin(self, stage: str) -> None:
        self._add_bar(f"{stage:<{NAME_WIDTH}}")

    def end(self, stage: str, summary: str) -> None:
        self._drop_bar()
        self._say(f"{stage:<{NAME_WIDTH}} {summary}")

    def skip(self, stage: str) -> None:
        self._say(f"{stage:<{NAME_WIDTH}} unchanged, skipped", style="dim")

    def advance(self, done: int, total: int, **figures: float) -> None:
        task = self._task if self._task is not None else self._add_bar("")
        left = self._time_left.update(done, total, time.monotonic())
        shown = "" if left is None else f"{clock(left)} left"
        self._bar.update(task, completed=done, total=total, figures=figures_line(figures), left=shown)

    def note(self, message: str) -> None:
        self._say(f"{'':<{NAME_WIDTH}} note: {message}", style="yellow")

    def _add_bar(self, name: str) -> TaskID:
        self._task = self._bar.add_task(name, total=None, figures="", left="")
        self._time_left = TimeLeft()
        return self._task

    def _drop_bar(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def _say(self, line: str, style: str = "") -> None:
        if not self._quiet:
            self._console.print(Text(visible(line), style=style), soft_wrap=True)


def figures_line(figures: Mapping[str, float]) -> str:
    """Named measurements in one line: those of `FIGURES` in its order, then any others."""
    known = [written(figures[name]) for name, written in FIGURES.items() if name in figures]
    others = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items() if name not in FIGURES]
    return "  ".join([*known, *others])


def clock(seconds: float) -> str:
    """Seconds as `0:07`, `12:05` or `3:07:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(visible(json.dumps(value, ensure_ascii=False, indent=2)) + "\n")


def print_scores(metrics: Mapping[str, Any]) -> None:
    """The table of systems and test sets, with 95 % intervals, on stdout; numbers read as they do in the report."""
    from mlxdistill.report.numbers import NO_BREAK_SPACE, size

    agreement = metrics["reference"] == "teacher"
    score = "agreement" if agreement else "accuracy"
    sets = list(metrics["sets"])
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("system")
    for name in sets:
        table.add_column(f"{name}\nn = {metrics['sets'][name]['n']}", justify="right", no_wrap=True)
    table.add_column("\nrows/s", justify="right", no_wrap=True)
    table.add_column("peak\nmemory", justify="right", no_wrap=True)
    for name, system in metrics["systems"].items():
        cells = [_score_cell(system["sets"].get(of), score, metrics["sets"][of]["n"]) for of in sets]
        memory = size(system.get("peak_memory_bytes")).replace(NO_BREAK_SPACE, " ")
        table.add_row(name, *cells, rate(system.get("rows_per_second")), memory)
    console = Console(highlight=False)
    console.print(table, soft_wrap=True, crop=False)
    console.print(f"{score}, with its 95 % interval", style="dim")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout, after an empty line. No cell is cut, however narrow the terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    sys.stdout.write("\n")
    sys.stdout.flush()
    console = Console(highlight=False)
    console.width = console.measure(table, options=console.options.update(max_width=WIDEST)).maximum
    console.print(table, soft_wrap=True, crop=False)


def print_note(line: str) -> None:
    """One line on stderr, also with --quiet."""
    sys.stderr.write(f"note: {visible(line)}\n")


def print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        sys.stdout.write(visible(line) + "\n")


def _score_cell(scores: Mapping[str, Any] | None, name: str, rows: int) -> str:
    from mlxdistill.report.numbers import MISSING, percent_interval, read_estimate
    from mlxdistill.statistics.written import decimal

    estimate = read_estimate((scores or {}).get(name))
    if not scores or estimate.value is None:
        return MISSING
    interval = percent_interval(estimate.low, estimate.high)
    suffix = "" if scores["answered"] == rows else f"of {scores['answered']}"
    return " ".join(filter(None, (decimal(100 * estimate.value), interval, suffix)))
