"""`mlxdistill prompts CONFIG`: which prompt, temperature and kind of answer suit the teacher best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mlxdistill.cli.options import AsJson, ConfigFile, Debug, Quiet, RunFolder, Settings

HEADINGS = (
    "candidate",
    "accuracy",
    "balanced\naccuracy",
    "unparsable",
    "tokens\na row",
    "rows/s",
    "against\nthe best",
    "p",
    "verdict",
)


class AnswerKind(StrEnum):
    SCORE = "score"
    GENERATE = "generate"


def register(app: typer.Typer) -> None:
    app.command("prompts")(prompts)


def prompts(
    config: ConfigFile,
    prompt: Annotated[
        list[Path] | None,
        typer.Option("--prompt", metavar="FILE", help="A prompt to compare with the configured one. Repeatable."),
    ] = None,
    temperature: Annotated[
        list[float] | None,
        typer.Option("--temperature", metavar="NUMBER", min=0, help="A temperature of generated answers. Repeatable."),
    ] = None,
    answer: Annotated[
        list[AnswerKind] | None,
        typer.Option("--answer", metavar="score|generate", help="How the teacher answers. Repeatable."),
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", metavar="N", min=1, help="How many validation rows with gold. Default: all.")
    ] = None,
    settings: Settings = None,
    run_dir: RunFolder = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare prompts, temperatures and kinds of answer on validation rows with gold; test sets are not touched."""
    from mlxdistill.cli.console import TerminalReporter, print_json, print_lines
    from mlxdistill.cli.session import open_run
    from mlxdistill.experiments.candidates import Axes
    from mlxdistill.experiments.prompts import compare_prompts

    loaded, run = open_run(config, settings, run_dir)
    axes = Axes(tuple(prompt or ()), tuple(temperature or ()), tuple(each.value for each in answer or ()))
    with TerminalReporter(quiet=quiet).live() as reporter:
        outcome = compare_prompts(loaded, run, axes, rows, reporter)
    if as_json:
        print_json(outcome)
        return
    _print_table(outcome)
    print_lines(["", *_recommended(outcome), *outcome["caveats"]])


def _recommended(outcome: Mapping[str, Any]) -> Iterator[str]:
    """What to do with each teacher, and where that is a change, which keys to set."""
    entries = {entry["name"]: entry for entry in outcome["candidates"]}
    for each in outcome["recommendations"]:
        yield each["sentence"]
        own, new = entries[each["configured"]], entries[each["recommended"]]
        keys = {"prompt": "file", "answer": "answer", "temperature": "temperature"}
        changed = [f"{key}: {new[name]}" for key, name in keys.items() if new[name] not in (own[name], None)]
        if changed:
            yield f"  in the configuration, under {each['teacher']}: {', '.join(changed)}"


def _print_table(outcome: Mapping[str, Any]) -> None:
    """The candidates in the order they were named, with what the report shows of them, on stdout.

    As wide as it needs to be: a narrow terminal breaks the lines, and no number is cut.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mlxdistill.report.numbers import NO_BREAK_SPACE
    from mlxdistill.report.prompts import candidate_cells

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in HEADINGS:
        table.add_column(name, justify="left" if name in ("candidate", "verdict") else "right")
    for entry in outcome["candidates"]:
        lines = ((cell.text, cell.tag, cell.detail) for cell in candidate_cells(entry))
        texts = ("\n".join(filter(None, each)).replace(NO_BREAK_SPACE, " ") for each in lines)
        table.add_row(*map(Text, texts))
    console = Console(highlight=False)
    console.width = max(console.width, console.measure(table, options=console.options.update(max_width=1000)).maximum)
    console.print(table)
    console.print(
        f"{outcome['n']:,} validation rows with gold; 95 % intervals. The table's p compares with the best, which was"
        " found in the same rows, and is corrected for all pairs; the advice compares with the configured one alone.",
        style="dim",
    )
