"""`mlxdistill predict RUN INPUT`: new rows through the finished student, as a stream."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from mlxdistill.cli.options import Debug, Quiet
from mlxdistill.errors import DataError, Interrupted

if TYPE_CHECKING:
    from mlxdistill.cli.console import TerminalReporter
    from mlxdistill.config.models import Config
    from mlxdistill.pipeline.rationale import Explainer
    from mlxdistill.rundir.layout import RunDir
    from mlxdistill.student.predictor import StudentPredictor
    from mlxdistill.tasks.lines import BadLine
    from mlxdistill.tasks.protocols import Answer
    from mlxdistill.tasks.rows import Row

CHUNK_ROWS = 256
PAUSE_SECONDS = 0.2  # rows on standard input are answered when no other follows for so long


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
    rationale: Annotated[
        bool, typer.Option("--rationale", help="Let a student that has learned rationales say why, too.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an error, and what was done with --output, as one JSON object.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Label new rows with the finished student, with the probability of each label."""
    from mlxdistill.cli.console import TerminalReporter, print_json, print_note
    from mlxdistill.data.new_rows import read_rows_to_label
    from mlxdistill.pipeline.rationale import Explainer
    from mlxdistill.rundir.files import atomic_file

    folder, config = _finished(run)
    explainer = Explainer(config, folder) if rationale else None
    rows = read_rows_to_label(
        None if source == "-" else Path(source),
        text_column=text or config.data.fields.text,
        id_column=id or config.data.fields.id,
    )
    wanted = format or (Format.CSV if output is not None and output.suffix == ".csv" else Format.JSONL)
    target = atomic_file(output, "w") if output else contextlib.nullcontext(sys.stdout)
    reporter = TerminalReporter(quiet=quiet)
    left_out: list[int] = []
    try:
        with target as out, reporter.live():
            chunks = _usable(_chunks(rows, streamed=source == "-"), source, reporter, left_out)
            write = _writer(wanted, out, tuple(config.task.labels), rationale)
            done = _label(config, folder, chunks, write, out, reporter, explainer)
            if not done.rows:
                hint = f"{len(left_out):,} rows are left out; give a file with at least one that has a text"
                raise DataError("no rows that can be labelled", where=source, hint=hint)
    except (KeyboardInterrupt, Interrupted) as error:
        kept = f"{output} is not written" if output else "the rows printed so far are whole"
        raise Interrupted("interrupted", hint=f"{kept}; the same command starts from the first row again") from error
    if left_out or done.truncated:
        print_note(f"{len(left_out):,} rows left out, {done.truncated:,} rows truncated (student.max_tokens)")
    if done.redacted:
        print_note(f"personal data was taken out of {done.redacted:,} rows before the student read them")
    if done.unfinished:
        print_note(f"{done.unfinished:,} rationales are cut off where the teacher's had to end (teacher.max_tokens)")
    if as_json and output:
        print_json(
            {"output": str(output), "rows": done.rows, "left_out": len(left_out), "truncated": done.truncated}
            | ({"unfinished": done.unfinished} if rationale else {})
            | ({"redacted": done.redacted} if done.redacted else {})
        )


@dataclass(frozen=True, slots=True)
class _Done:
    """Rows that were labelled, how many of them were truncated, how many rationales have no end, and of how many rows
    personal data was taken out."""

    rows: int
    truncated: int
    unfinished: int
    redacted: int


def _finished(run: Path) -> tuple[RunDir, Config]:
    """The folder and the configuration of a finished distillation."""
    from mlxdistill.config.load import load_config
    from mlxdistill.pipeline.train import check_finished
    from mlxdistill.rundir.layout import RunDir

    folder = RunDir(run.absolute())
    if not os.path.isfile(folder.config):
        hint = "give the folder that `mlxdistill run` printed"
        raise DataError("not the folder of a finished run", where=str(folder.config), hint=hint)
    config = load_config(folder.config, environment={}).config
    check_finished(config, folder)
    return folder, config


def _label(
    config: Config,
    run: RunDir,
    chunks: Iterator[list[Row]],
    write: Callable[[Answer, str | None], None],
    out: IO[str],
    reporter: TerminalReporter,
    explainer: Explainer | None,
) -> _Done:
    """Writes every row's answer, and its rationale where there is an explainer."""
    from mlxdistill.pipeline.redaction import open_redactor, redacted_rows
    from mlxdistill.pipeline.train import open_student

    labelled = redacted = 0
    with (
        open_redactor(config, reporter, None, when=("before", "after")) as redactor,
        open_student(config, run, reporter) as student,
    ):
        for given in chunks:
            chunk = redacted_rows(redactor, given)
            labelled += len(chunk)
            redacted += sum(row.text != seen.text for row, seen in zip(given, chunk, strict=True))
            for answer, reason in _answers(student, chunk, reporter, explainer):
                write(answer, reason)
            out.flush()
        return _Done(labelled, student.truncated, student.unfinished if explainer else 0, redacted)


def _answers(
    student: StudentPredictor, chunk: list[Row], reporter: TerminalReporter, explainer: Explainer | None
) -> Iterator[tuple[Answer, str | None]]:
    """Each row's answer, and the student's rationale where it is asked for one."""
    answers = itertools.chain.from_iterable(student.predict(chunk, reporter))
    if explainer is None:
        return ((answer, None) for answer in answers)
    return zip(list(answers), explainer.explain(student, chunk), strict=True)


def _chunks(rows: Iterator[Row | BadLine], *, streamed: bool) -> Iterator[tuple[Row | BadLine, ...]]:
    """Of `CHUNK_ROWS`; smaller where the rows of a stream come slowly. A stream is read from now on."""
    from mlxdistill.data.new_rows import batches_in_time
    from mlxdistill.workers import stop_asked

    if streamed:
        return batches_in_time(rows, CHUNK_ROWS, PAUSE_SECONDS, stop_asked)
    return iter(lambda: tuple(itertools.islice(rows, CHUNK_ROWS)), ())


def _usable(
    chunks: Iterator[tuple[Row | BadLine, ...]], source: str, reporter: TerminalReporter, left_out: list[int]
) -> Iterator[list[Row]]:
    """The rows that can be labelled; each of the others is said, and its number is put on the list."""
    from mlxdistill.tasks.rows import Row

    for chunk in chunks:
        usable = [row for row in chunk if isinstance(row, Row)]
        for row in chunk:
            if not isinstance(row, Row):
                left_out.append(row.number)
                reporter.note(f"{source}:{row.number} is left out: {row.reason}")
        if usable:
            yield usable


def _writer(
    format: Format, out: IO[str], names: tuple[str, ...], rationale: bool
) -> Callable[[Answer, str | None], None]:
    if format is Format.CSV:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["id", "label", *(f"p({name})" for name in names), *["rationale"] * rationale])
        return lambda answer, reason: table.writerow(
            [answer.row_id, answer.label, *(answer.probabilities or ()), *[reason] * rationale]
        )

    def write(answer: Answer, reason: str | None) -> None:
        probabilities = dict(zip(names, answer.probabilities or (), strict=True))
        record = {"id": answer.row_id, "label": answer.label, "probabilities": probabilities}
        if rationale:
            record["rationale"] = reason
        out.write(json.dumps(record, ensure_ascii=False) + "\n")

    return write
