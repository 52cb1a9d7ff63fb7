"""train: the student learns what the teacher answered and the filters let through."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlxdistill.config.data import DataConfig
from mlxdistill.config.models import TEACHERS_PROMPT, Config, StudentConfig
from mlxdistill.errors import DataError
from mlxdistill.filters.funnel import dropped_rows
from mlxdistill.pipeline.redaction import open_redactor, redacted_rationales, redacted_rows
from mlxdistill.pipeline.stage import Context, Need, Result, Stage, prompt_template, task_of
from mlxdistill.pipeline.synthetic import is_synthetic, synthetic_rows
from mlxdistill.pipeline.teacher_rationales import check_rationales, rationales
from mlxdistill.pipeline.training_labels import people_inputs
from mlxdistill.pipeline.training_log import training_log
from mlxdistill.pipeline.treatments import teaching
from mlxdistill.platform.cores import blas_threads
from mlxdistill.platform.models import model_fingerprint
from mlxdistill.report.numbers import NO_BREAK_SPACE, rate, size
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest, Work
from mlxdistill.store import LabelStore
from mlxdistill.student.adapter import check_fine_tune_type
from mlxdistill.student.base import check_folder, check_student
from mlxdistill.student.dataset import write_training_files
from mlxdistill.student.predictor import StudentPredictor
from mlxdistill.student.requests import PredictRequest, TrainRequest, TrainResult
from mlxdistill.student.trainer import train_student
from mlxdistill.tasks.classification import Prompt
from mlxdistill.tasks.protocols import Answer, Progress
from mlxdistill.tasks.rows import Row, content_hash, read_rows


def student_prompt(config: Config) -> Prompt:
    """The prompt the student learns with: its own, short one, or the (first) teacher's."""
    task, prompt = task_of(config), config.student.prompt
    if prompt == TEACHERS_PROMPT:
        teacher = next(iter(config.teachers.values()))
        return task.teacher_prompt(prompt_template(teacher.prompt, "teacher.prompt"))
    return task.student_prompt(prompt_template(prompt, "student.prompt"))


def labels_of(config: Config) -> tuple[tuple[str, str], ...]:
    task = task_of(config)
    return tuple(zip(task.names, task.verbalizers, strict=True))


def predict_request(config: Config, adapter: Path | None) -> PredictRequest:
    """The student with an adapter, or before training."""
    return PredictRequest(
        model=config.student.model,
        adapter=adapter,
        quantize=config.student.quantize,
        labels=labels_of(config),
        prompt=student_prompt(config),
        max_tokens=config.student.max_tokens,
    )


def open_student(config: Config, run: RunDir, progress: Progress, *, trained: bool = True) -> StudentPredictor:
    """The student of a finished run, or the same model before training, as a context manager."""
    return StudentPredictor(predict_request(config, run.adapters if trained else None), progress)


def _student_inputs(config: Config) -> dict[str, Any]:
    """What must be the same in training and in prediction."""
    return {
        "student": config.student.model_dump(mode="json", exclude={"prompt"}),
        "model": model_fingerprint(config.student.model),
        "prompt": student_prompt(config).fingerprint,
        "verbalizers": [list(label) for label in labels_of(config)],
        "redaction": _redaction(config.data),
    }


def _redaction(data: DataConfig) -> dict[str, Any] | None:
    """What texts become before the student sees them; None where they stay what they are."""
    if data.redact in (None, "report"):
        return None
    return {**data.redact_settings, **({"seed": data.seed} if data.redact_as == "stand_ins" else {})}


def _inputs(context: Context) -> Mapping[str, Any]:
    return {
        "labels": context.inputs_of("label"),
        "filter": context.inputs_of("filter"),
        **people_inputs(context.run),
        **_student_inputs(context.config),
        "train": context.config.train.model_dump(mode="json"),
    }


def check_finished(config: Config, run: RunDir) -> None:
    """Raises DataError where the run has no finished student, or one that was trained with other settings."""
    record = Manifest(run).stages.get("train", {})
    if not record.get("finished") or not (run.adapters / "adapters.safetensors").exists():
        raise DataError("this run has no finished student", where=str(run.path), hint="mlxdistill run CONFIG")
    if any(record["inputs"].get(name) != value for name, value in _student_inputs(config).items()):
        raise DataError(
            "the configuration has changed since this student was trained",
            where=str(run.config),
            hint="mlxdistill run CONFIG trains it anew",
        )


def training_rows(context: Context, store: LabelStore) -> list[Row]:
    """The rows of the pool, and those that a teacher wrote, that every filter let through; of them, those of
    `train.share`."""
    decisions = list(store.decisions())
    kept = {decision.row_id for decision in decisions} - dropped_rows(decisions)
    train = context.config.train
    if train.share < 1:
        by_chance = sorted(kept, key=lambda row_id: content_hash(f"{train.seed}:{row_id}"))
        kept = set(by_chance[: max(1, round(train.share * len(kept)))])
    return [row for row in [*read_rows(context.run.pool), *synthetic_rows(context.run)] if row.id in kept]


def train_request(config: Config, run: RunDir) -> TrainRequest:
    """What is asked of the student's process."""
    return TrainRequest(
        model=config.student.model,
        quantize=config.student.quantize,
        fine_tune_type=config.student.fine_tune_type,
        lora=config.student.lora,
        train=config.train,
        max_tokens=config.student.max_tokens,
        data=run.student_data,
        output=run.adapters,
        checkpoints=run.checkpoints,
        labels=labels_of(config),
        prompt=student_prompt(config),
        # A second round learns from the record of the first, and must leave it what it is.
        dynamics=run.dynamics if config.train.record_dynamics and config.filter.dynamics is None else None,
    )


def _work(context: Context) -> Result:
    config, run = context.config, context.run
    valid = [row for row in read_rows(run.valid) if row.meta.get("half") == "selection"]
    with LabelStore(run.labels) as store:
        rows = training_rows(context, store)
        taught = teaching(context, store, [*rows, *valid])
        with open_redactor(config, context.reporter, run, when=("after",)) as redactor:
            reasons = redacted_rationales(redactor, rationales(context, store, rows), rows)
            counts = write_training_files(
                run.student_data,
                context.task,
                student_prompt(config),
                redacted_rows(redactor, rows),
                redacted_rows(redactor, valid),
                taught.answers,
                reasons,
                taught.weights,
            )
    request = train_request(config, run)
    with training_log(run, context.options.report_to, request, context.reporter) as on_report:
        result = train_student(request, context.reporter, on_report, context.options.ranks)
    work = Work(
        rows_in=len(rows) + len(valid),
        rows_out=counts.training + counts.validation,
        threads=blas_threads(),
        seed=config.train.seed,
    )
    figures = {"rows_train": counts.training, "rows_valid": counts.validation, **dataclasses.asdict(result)}
    figures["losses"] = [[event.step, event.loss] for event in result.losses]  # all of them are in the log
    figures["rows_synthetic"] = sum(map(is_synthetic, rows))
    figures["label_counts"] = _label_counts(context, rows, taught.answers, result)
    if counts.rationales:
        figures["rationales"] = counts.rationales
    if context.options.ranks is not None:
        figures["ranks"] = context.options.ranks.size
    outputs = [run.adapters / "adapters.safetensors", run.adapters / "adapter_config.json"]
    outputs += [run.student_data / "train.jsonl", run.student_data / "valid.jsonl"]
    written = f" ({figures['rows_synthetic']:,} synthetic)" if figures["rows_synthetic"] else ""
    learned = f"{counts.training:,} rows{written}" + (
        f" and {counts.rationales:,} rationales" if counts.rationales else ""
    )
    return Result(outputs, work, figures, f"{learned}, {training_line(result)}")


def _label_counts(
    context: Context, rows: Sequence[Row], answers: Mapping[str, Answer], result: TrainResult
) -> dict[str, dict[str, int]]:
    """Of each label, the rows that teach it, those of them that a teacher wrote, and how many rows come in an epoch
    after `train.class_balance`."""
    taught = Counter(answers[row.id].label for row in rows)
    written = Counter(answers[row.id].label for row in rows if is_synthetic(row))
    return {
        name: {"rows": taught[name], "synthetic": written[name], "per_epoch": count}
        for name, count in zip(context.task.names, result.label_counts, strict=True)
    }


def training_line(result: TrainResult) -> str:
    """What came of a training, for the user."""
    parts = [f"{result.steps:,} steps", f"{rate(result.rows_per_second)} rows/s"]
    if result.best_valid_loss is not None:
        parts.append(f"best validation loss {result.best_valid_loss:.3f} at step {result.best_step:,}")
    planned = f" ({size(result.predicted_peak_bytes)} planned)" if result.predicted_peak_bytes else ""
    parts.append(f"peak memory {size(result.peak_memory_bytes)}{planned}".replace(NO_BREAK_SPACE, " "))
    if result.skipped_steps:
        parts.append(f"{result.skipped_steps:,} steps skipped (loss or gradient not finite)")
    return ", ".join(parts + ["stopped early"] * result.stopped_early)


def _needs(config: Config) -> Iterator[Need]:
    student = config.student
    if student.prompt not in (None, TEACHERS_PROMPT):
        yield Need(("student", "prompt"), lambda: prompt_template(student.prompt, "student.prompt"))
    yield Need(("student", "model"), lambda: _check_base(student))
    yield Need(("train", "rationale_weight"), lambda: check_rationales(config))


def _check_base(student: StudentConfig) -> None:
    check_student(student.model)
    check_fine_tune_type(student.fine_tune_type, check_folder(student.model)[1])


STAGE = Stage("train", _needs, _inputs, _work)
