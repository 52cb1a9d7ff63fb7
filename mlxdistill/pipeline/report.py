"""report: one page that says what came out, and how far it can be trusted."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlxdistill.errors import ModelError
from mlxdistill.evaluation.evaluate import checked_metrics
from mlxdistill.evaluation.sentence import verdict_sentence
from mlxdistill.pipeline.redaction import open_redactor
from mlxdistill.pipeline.stage import Context, Result, Stage, no_needs
from mlxdistill.platform.models import find_gguf
from mlxdistill.report.data import FunnelStep, Mistake, ModelFile, ReportData, TrainPoint
from mlxdistill.report.page import write_report
from mlxdistill.rundir.files import file_sha256, read_json, read_jsonl
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Work, package_versions
from mlxdistill.tasks.rows import canonical_json, content_hash, read_rows

SETTINGS = {"teacher", "combine", "filter", "student", "train"}


def _inputs(context: Context) -> Mapping[str, Any]:
    labelled, filtered = context.manifest.figures("label"), context.manifest.figures("filter")
    return {
        "metrics": file_sha256(context.run.metrics),
        "predictions": file_sha256(context.run.predictions),
        **{name: file_sha256(path) for name, path in _experiments(context.run).items() if path.exists()},
        "report": context.config.report.model_dump(mode="json"),
        "redaction": context.config.data.redact_settings,
        "name": context.config.name,
        "settings": context.config.model_dump(mode="json", include=SETTINGS),
        "teachers": content_hash(canonical_json([labelled.get("teachers"), labelled.get("effects")])),
        "filters": content_hash(canonical_json([filtered.get("funnel"), filtered.get("filter_notes")])),
    }


def _work(context: Context) -> Result:
    run = context.run
    metrics, predictions = checked_metrics(run), tuple(read_jsonl(run.predictions))
    mistakes = _mistakes(context, predictions)
    data = ReportData(
        name=context.config.name,
        metrics=metrics,
        verdict_sentence=verdict_sentence(metrics),
        predictions=predictions,
        manifest={"stages": {name: stage for name, stage in context.manifest.stages.items() if name != "report"}},
        funnel=_funnel(context),
        filter_notes=tuple(context.manifest.figures("filter").get("filter_notes", ())),
        training=_curve(context.manifest.figures("train")),
        mistakes=tuple(mistakes),
        versions=package_versions(),
        config=context.config.model_dump(mode="json", include=SETTINGS),
        teacher_files={
            name: file
            for name, teacher in context.config.teachers.items()
            if (file := _model_file(teacher.model)) is not None
        },
        **{name: read_json(path) if path.exists() else None for name, path in _experiments(run).items()},
    )
    write_report(run, data)
    tested = sum(size["n"] for size in metrics["sets"].values())
    return Result((run.report,), Work(rows_in=tested, rows_out=len(mistakes)), {}, str(run.report))


def _experiments(run: RunDir) -> dict[str, Path]:
    """The results of experiments, which a report shows where they were made."""
    return {"prompts": run.prompts, "learning_curve": run.learning_curve, "sweep": run.sweep}


def _curve(figures: Mapping[str, Any]) -> tuple[TrainPoint, ...]:
    """Training losses, and validations wherever there were any."""
    history = figures.get("history", ())
    losses = dict(figures.get("losses") or ((event["step"], event["loss"]) for event in history))
    valid = {event["step"]: event["valid_loss"] for event in history}
    return tuple(TrainPoint(step, losses.get(step), valid.get(step)) for step in sorted({*losses, *valid}))


def _model_file(model: str | None) -> ModelFile | None:
    """A teacher's GGUF; None for recorded answers, and where the file is gone: its answers are in the store."""
    if model is None:
        return None
    try:
        path = find_gguf(model)
        parts = list(path.parent.glob(glob.escape(path.name).replace("-00001-of-", "-?????-of-")))
        return ModelFile(path.name, sum(part.stat().st_size for part in parts))
    except (ModelError, OSError):
        return None


def _funnel(context: Context) -> tuple[FunnelStep, ...]:
    return tuple(
        FunnelStep(
            step["filter"],
            step["kept"],
            sum(step["dropped"].values()),
            step["dropped"],
            step.get("examples", {}),
            {label: (counts["kept"], counts["dropped"]) for label, counts in step.get("classes", {}).items()},
            step.get("treated", {}),
        )
        for step in context.manifest.figures("filter").get("funnel", ())
    )


def _mistakes(context: Context, predictions: Sequence[Mapping[str, Any]]) -> list[Mistake]:
    """The student's mistakes, the surest first: a confident mistake says most about labels and data."""
    config, labels = context.config.report, context.task.names
    teacher = {(line["set"], line["id"]): line["prediction"] for line in predictions if line["system"] == "teacher"}
    texts = {}
    if config.show_text:
        there = {name: path for name, path in context.run.test_sets.items() if path.exists()}
        texts = {(name, row.id): row.text for name, path in there.items() for row in read_rows(path)}
    mistakes = []
    for line in predictions:
        key = (line["set"], line["id"])
        right = line["gold"] if line["gold"] is not None else teacher.get(key)
        if line["system"] != "student" or line["prediction"] == right or right is None:
            continue
        probabilities = line["probabilities"]
        sure = probabilities[labels.index(line["prediction"])] if probabilities and line["prediction"] else None
        mistakes.append(
            Mistake(line["id"], line["set"], line["gold"], line["prediction"], teacher.get(key), sure, texts.get(key))
        )
    mistakes.sort(key=lambda mistake: (-(mistake.student_probability or 0), mistake.set, mistake.id))
    shown = mistakes[: config.mistakes]
    return _redacted(context, shown) if config.show_text else shown


def _redacted(context: Context, mistakes: Sequence[Mistake]) -> list[Mistake]:
    """With texts as the student read them."""
    with open_redactor(context.config, context.reporter, context.run, when=("after",)) as redactor:
        if redactor is None:
            return list(mistakes)
        texts = redactor.redact_all([mistake.text or "" for mistake in mistakes])
        return [replace(mistake, text=new.text or None) for mistake, new in zip(mistakes, texts, strict=True)]


STAGE = Stage("report", no_needs, _inputs, _work)
