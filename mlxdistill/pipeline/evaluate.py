"""eval: teacher, student, the student before training and the naive baselines on both test sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlxdistill import __version__
from mlxdistill.data.redaction import Redactor
from mlxdistill.errors import DataError
from mlxdistill.evaluation.baselines import TrainingRow, baseline_answers
from mlxdistill.evaluation.evaluate import evaluate, write_evaluation
from mlxdistill.evaluation.records import SystemAnswers
from mlxdistill.pipeline.answers import teacher_answers, teacher_figures
from mlxdistill.pipeline.people_notes import people_notes
from mlxdistill.pipeline.redaction import open_redactor, redacted_rows
from mlxdistill.pipeline.stage import Context, Result, Stage, no_needs
from mlxdistill.pipeline.train import open_student, training_rows
from mlxdistill.pipeline.training_labels import people_inputs, with_people
from mlxdistill.pipeline.treatments import teaching
from mlxdistill.platform.cores import blas_threads
from mlxdistill.rundir.files import file_sha256
from mlxdistill.rundir.manifest import Work
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, read_rows

BASELINES_IN_PROCESS = ("majority", "tfidf_logreg")


def _inputs(context: Context) -> Mapping[str, Any]:
    run = context.run
    return {
        "training": context.inputs_of("train"),
        "adapter": file_sha256(run.adapters / "adapters.safetensors"),
        "sets": {name: file_sha256(path) for name, path in run.test_sets.items() if path.exists()},
        "evaluate": context.config.evaluate.model_dump(mode="json"),
        **people_inputs(run, tuple(run.test_sets)),
        "version": __version__,
    }


def _work(context: Context) -> Result:
    config, run = context.config, context.run
    sets = {name: read_rows(path) for name, path in run.test_sets.items() if path.exists()}
    if not any(sets.values()):
        raise DataError("there are no test rows", where=str(run.test_indist.parent), hint="set data.test")
    with LabelStore(run.labels) as store:
        sets = {name: with_people(store, rows, context.task.names) for name, rows in sets.items()}
        for note in people_notes(store, sets):
            context.reporter.note(note)
        systems = _teachers(context, store, sets)
        with open_redactor(config, context.reporter, run, when=("after",)) as redactor:
            training = _training(context, store, redactor)
            sets = {name: redacted_rows(redactor, rows) for name, rows in sets.items()}
    systems["student"] = _student(context, sets, trained=True)
    if "student_base" in config.evaluate.baselines:
        systems["student_base"] = _student(context, sets, trained=False)
    names = [name for name in config.evaluate.baselines if name in BASELINES_IN_PROCESS]
    systems |= baseline_answers(names, training, sets, context.task.names, config.evaluate.seed)
    evaluation = evaluate(sets, systems, context.task.names, config.evaluate)
    write_evaluation(run, evaluation)
    sizes = {name: len(rows) for name, rows in sets.items()}
    work = Work(
        rows_in=sum(sizes.values()),
        rows_out=sum(map(len, systems["student"].answers.values())),
        threads=blas_threads(),
        seed=config.evaluate.seed,
    )
    line = ", ".join(f"{count:,} rows of {name}" for name, count in sizes.items())
    return Result((run.metrics, run.predictions), work, {}, f"{len(systems)} systems on {line}")


def _teachers(context: Context, store: LabelStore, sets: Mapping[str, Sequence[Row]]) -> dict[str, SystemAnswers]:
    """`teacher` is what the student learned from; of several that were made into one, each is `teacher:<name>`."""
    systems = {}
    for name, figures in teacher_figures(context).items():
        answers = teacher_answers(context, store, [row for rows in sets.values() for row in rows], name)
        by_set = {of: {row.id: answers[row.id] for row in rows if row.id in answers} for of, rows in sets.items()}
        system = "teacher" if name is None else f"teacher:{name}"
        systems[system] = SystemAnswers(by_set, figures["rows_per_second"], figures["peak_memory_bytes"] or None)
    return systems


def _training(context: Context, store: LabelStore, redactor: Redactor | None) -> list[TrainingRow]:
    """What the student learned from, as it read it."""
    rows = training_rows(context, store)
    taught = teaching(context, store, rows)
    labels = ((row, taught.answers[row.id].label) for row in redacted_rows(redactor, rows))
    return [
        TrainingRow(row.text, label, row.gold, taught.weights.get(row.id, 1.0))
        for row, label in labels
        if label is not None
    ]


def _student(context: Context, sets: Mapping[str, Sequence[Row]], *, trained: bool) -> SystemAnswers:
    answers: dict[str, dict[str, Answer]] = {}
    with open_student(context.config, context.run, context.reporter, trained=trained) as student:
        for name, rows in sets.items():
            waves = student.predict(rows, context.reporter)
            answers[name] = {answer.row_id: answer for wave in waves for answer in wave}
    return SystemAnswers(answers, student.rows_per_second, student.peak_memory_bytes)


STAGE = Stage("eval", no_needs, _inputs, _work)
