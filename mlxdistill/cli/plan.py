"""`mlxdistill plan CONFIG`: what training would take, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from mlxdistill.cli.options import AsJson, ConfigFile, Debug, Quiet, RunFolder, Settings, Strict

ORIGINS = {
    "filtered": "those that the filters let through",
    "pool": "all that would be labelled: filters have not run yet",
    "source": "all of the source that would be labelled: it was read for this alone",
}
PARTS = {
    "weights": "weights",
    "adapter": "adapter, and the best of it so far",
    "optimizer": "gradients, and the optimizer's moments",
    "activations": "activations of the largest batch",
    "logits": "logits",
    "process": "the program, its tokenizer and rows",
    "cache": "freed memory kept for later, as far as there is room",
}
MOMENTS = {
    "gradients": "while gradients are computed",
    "update": "while weights are updated",
    "validation": "while it is validated",
    "checkpoint": "while a checkpoint is written",
    "opening": "while the model is opened",
}


def register(app: typer.Typer) -> None:
    app.command("plan")(plan)


def plan(
    config: ConfigFile,
    settings: Settings = None,
    run_dir: RunFolder = None,
    strict: Strict = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what training the student would take: rows, tokens, steps, memory. Exits with 1 where it does not fit."""
    from mlxdistill.cli.console import TerminalReporter, print_json
    from mlxdistill.cli.session import open_run
    from mlxdistill.pipeline import Options
    from mlxdistill.pipeline.plan import plan_student

    loaded, run = open_run(config, settings, run_dir)
    with TerminalReporter(quiet=quiet).live() as reporter:
        found = plan_student(loaded, run, Options(strict), reporter)
    if as_json:
        print_json(found)
    else:
        print_plan(found)
    if not found["fits"]:
        raise typer.Exit(1)


def print_plan(found: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mlxdistill.cli.console import print_lines

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("")
    table.add_column("")
    for title, value in _lines(found):
        table.add_row(title, Text(value))
    Console(highlight=False).print(table)
    print_lines(["", verdict(found)])


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    tokens, memory = found["row_tokens"], found["memory_bytes"]
    yield "rows to learn from", f"{found['rows']:,}, {ORIGINS[found['rows_are']]}"
    yield "rows to validate on", f"{found['valid_rows']:,}"
    yield (
        "tokens a row",
        f"half up to {tokens['median']:,}, 90 % up to {tokens['p90']:,}, 99 % up to {tokens['p99']:,}, "
        f"the longest {tokens['longest']:,}",
    )
    if found["shared_tokens"]:
        yield "tokens all rows share", f"{found['shared_tokens']:,}, run once a batch"
    if found["truncated"]:
        yield "rows too long", f"{found['truncated']:,} rows lose the end of their text (student.max_tokens)"
    epochs = f"{found['epochs']} epoch{'' if found['epochs'] == 1 else 's'}"
    yield "steps", f"{found['steps']:,}, of {found['batch_size']} rows, in {epochs}"
    yield "tokens in all", f"{found['tokens']:,}, {100 * found['padding_efficiency']:.0f} % of what is computed"
    yield "memory at the peak", f"{_size(memory['peak'])}, {MOMENTS[found['most_taken_by']]}"
    for part, title in PARTS.items():
        yield f"  {part}", f"{_size(memory[part])}: {title}" if title != part else _size(memory[part])
    yield "working set", f"{_size(found['working_set_bytes'])}, which training should not exceed"
    largest = found["largest_batch"]
    yield "largest batch that fits", f"{largest} rows" if largest else "none"


def verdict(found: Mapping[str, Any]) -> str:
    """Whether it fits, and what to do where it does not, the cheapest first."""
    needed, room = _size(found["memory_bytes"]["needed"]), _size(found["working_set_bytes"])
    if found["fits"]:
        return f"fits: {needed} of {room}. Nothing was trained."
    mends = []
    if found["mends"]["batch_tokens"]:
        mends.append(f"--set train.batch_tokens={found['mends']['batch_tokens']} (the same steps, in parts)")
    if found["largest_batch"]:
        mends.append(f"--set train.batch_size={found['largest_batch']}")
    if found["mends"]["gradient_checkpointing"]:
        mends.append("--set train.gradient_checkpointing=true (slower)")
    mends = mends or ["--set student.quantize=4, a smaller student.max_tokens, or a smaller model"]
    return f"does not fit: {needed} are needed, and {room} are there. Try {', or '.join(mends)}."


def _size(count: int) -> str:
    from mlxdistill.report.numbers import NO_BREAK_SPACE, size

    return size(count).replace(NO_BREAK_SPACE, " ")
