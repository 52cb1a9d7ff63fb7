"""`mlxdistill predict RUN INPUT`: new rows through the finished student, as a stream."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from mlxdistill.cli.options import Debug, Quiet
from mlxdistill.errors import DataError

if TYPE_CHECKING:
    from mlxdistill.cli.console import TerminalReporter
    from mlxdistill.tasks.lines import BadLine
    from mlxdistill.tasks.protocols import Answer
    from mlxdistill.tasks.rows import Row

CHUNK_ROWS = 256


class Format(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"


def register(app: typer.Typer) -> None:
    app.command("predict")(predict)


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of a finished distillation.")],
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="Rows: .jsonl, .csv, .parquet, or - for JSONL on stdin.")
    ],
    output: Annotated[Path | None, typer.Option("--output", help="A file instead of stdout.")] = None,
    format: Annotated[Format | None, typer.Option("--format", help="Default: by --output's name, else jsonl.")] = None,
    text: Annotated[str | None, typer.Option("--text", help="The column of the text. Default: as in the run.")] = None,
    id: Annotated[
        str | None, typer.Option("--id", help="The column of the id. Default: as in the run, if it is there.")
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Label new rows with the finished student, with the probability of each label."""
    from mlxdistill.cli.console import TerminalReporter
    from mlxdistill.config.load import load_config
    from mlxdistill.data.new_rows import read_rows_to_label
    from mlxdistill.pipeline import task_of
    from mlxdistill.pipeline.train import open_student
    from mlxdistill.privacy.guard import install_guard
    from mlxdistill.rundir.files import atomic_file
    from mlxdistill.rundir.layout import RunDir

    install_guard()
    folder = RunDir(run.absolute())
    for needed in (folder.config, folder.adapters / "adapters.safetensors"):
        if not needed.exists():
            raise DataError(
                "not the folder of a finished run",
                where=str(needed),
                hint="give the folder that `mlxdistill run` printed",
            )
    config = load_config(folder.config, environment={}).config
    rows = read_rows_to_label(
        None if source == "-" else Path(source),
        text_column=text or config.data.fields.text,
        id_column=id or config.data.fields.id,
    )
    wanted = format or (Format.CSV if output is not None and output.suffix == ".csv" else Format.JSONL)
    names = task_of(config).names
    target = atomic_file(output, "w") if output else contextlib.nullcontext(sys.stdout)
    with (
        target as out,
        TerminalReporter(quiet=quiet).live() as reporter,
        open_student(config, folder, reporter) as student,
    ):
        write = _writer(wanted, out, names)
        done = 0
        for chunk in _chunks(_usable(rows, source, reporter)):
            for answers in student.predict(chunk, reporter):
                for answer in answers:
                    write(answer)
            done += len(chunk)
            out.flush()
        if not done:
            raise DataError("no rows in it", where=source, hint="give a file with at least one row")


def _usable(rows: Iterator[Row | BadLine], source: str, reporter: TerminalReporter) -> Iterator[Row]:
    """The rows that can be labelled; each of the others is said."""
    from mlxdistill.tasks.rows import Row

    for row in rows:
        if isinstance(row, Row):
            yield row
        else:
            reporter.note(f"{source}:{row.number} is left out: {row.reason}")


def _chunks(rows: Iterator[Row]) -> Iterator[tuple[Row, ...]]:
    while chunk := tuple(itertools.islice(rows, CHUNK_ROWS)):
        yield chunk


def _writer(format: Format, out: IO[str], names: tuple[str, ...]) -> Callable[[Answer], None]:
    if format is Format.CSV:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["id", "label", *(f"p({name})" for name in names)])
        return lambda answer: table.writerow([answer.row_id, answer.label, *(answer.probabilities or ())])

    def write(answer: Answer) -> None:
        probabilities = dict(zip(names, answer.probabilities or (), strict=True))
        record = {"id": answer.row_id, "label": answer.label, "probabilities": probabilities}
        out.write(json.dumps(record, ensure_ascii=False) + "\n")

    return write
