"""What `mlxdistill label --estimate` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from mlxdistill.cli.console import TerminalReporter, print_json, print_lines
from mlxdistill.cli.session import open_run
from mlxdistill.pipeline import Options
from mlxdistill.pipeline.estimate import estimate_labelling


def run_estimate(
    config: Path, settings: list[str] | None, folder: Path | None, options: Options, *, as_json: bool, quiet: bool
) -> None:
    """Estimates and prints; labels nothing and writes nothing."""
    loaded, run = open_run(config, settings, folder)
    with TerminalReporter(quiet=quiet).live() as reporter:
        estimate = estimate_labelling(loaded, run, options, reporter)
    if as_json:
        print_json(estimate)
    else:
        print_table(estimate)


def print_table(estimate: Mapping[str, Any]) -> None:
    """One column a teacher."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    teachers = estimate["teachers"]
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=len(teachers) > 1)
    table.add_column("")
    for name in teachers:
        table.add_column(name)
    columns = [dict(_lines(entry, estimate["machine"])) for entry in teachers.values()]
    for title in dict.fromkeys(title for column in columns for title in column):
        table.add_row(title, *(Text(column.get(title, "")) for column in columns))
    Console(highlight=False).print(table)
    if together := estimate["together"]:
        usual, fast, slow = _clock(together["seconds"])
        answers, tokens, memory = together["answers"], together["tokens"], _size(together["memory_bytes"])
        print_lines(["", f"together {answers:,} answers, {tokens:,} tokens, {usual} ({fast} to {slow})"])
        print_lines([f"one teacher is loaded at a time, so {memory} of memory suffice"])
    rows = estimate["rows"]
    of_pool = f"{rows['chosen']:,} of {rows['pool']:,} rows of the pool"
    others = f"{rows['validation_and_test']:,} validation and test rows"
    print_lines(["", f"{of_pool}, and {others}. Nothing was labelled."])


def _lines(entry: Mapping[str, Any], machine: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    answers = entry["answers"]
    yield "rows", f"{entry['rows']:,}"
    if "log" in entry:
        yield "found in the log", f"{entry['found_in_log']:,}"
        return
    yield "answers to give", f"{answers['asked']:,}"
    yield "in the store already", f"{answers['from_store']:,}"
    yield "copied from near duplicates", f"{entry['copied']:,}"
    if entry["tokens"] is None:
        yield "time and memory", "none: no model needs to be loaded"
        return
    tokens, seconds, memory = entry["tokens"], entry["seconds"], entry["memory_bytes"]
    yield "tokens all rows share", f"{tokens['prefix']:,}"
    yield "tokens a row", f"{tokens['per_row']:.1f}, counted on {tokens['sample_rows']:,} rows"
    if written := tokens["written_per_answer"]:
        yield "tokens written an answer", f"{written['value']:.0f} ({written['low']:.0f} to {written['high']:.0f})"
    yield "tokens in all", f"{tokens['total']:,}"
    if entry["truncated_share"]:
        yield "rows too long for n_ctx", f"{100 * entry['truncated_share']:.1f} %, which lose the end of their text"
    yield "time", _time(seconds)
    yield "memory", _memory(memory, machine)


def _time(seconds: Mapping[str, Any]) -> str:
    usual, fast, slow = _clock(seconds)
    if seconds["origin"] == "measured":
        return f"{usual}, as fast as this model was here before"
    return f"a guess: {usual} ({fast} to {slow}); this model has not been measured here"


def _clock(seconds: Mapping[str, float]) -> Iterator[str]:
    """The time expected, the least and the most."""
    return (str(timedelta(seconds=round(max(1.0, seconds[name])))) for name in ("value", "low", "high"))


def _size(count: int) -> str:
    from mlxdistill.report.numbers import NO_BREAK_SPACE, size

    return size(count).replace(NO_BREAK_SPACE, " ")


def _memory(memory: Mapping[str, int], machine: Mapping[str, Any]) -> str:
    limit, what = machine["working_set_bytes"], "Metal should use at most"
    if limit is None:
        limit, what = machine["memory_bytes"], "the machine has"
    line = (
        f"{_size(memory['total'])} (model {_size(memory['weights'])}, key-value memory {_size(memory['key_values'])})"
    )
    return f"{line}; {what} {_size(limit)}" + (": too much" if memory["total"] > limit else "")
