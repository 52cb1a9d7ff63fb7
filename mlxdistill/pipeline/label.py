"""label: the teacher answers every row of the pool, the validation rows and both test sets.

Without gold, the balanced test set can only be drawn now, by the teacher's answers; from then on it is frozen too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mlxdistill.config.models import Config
from mlxdistill.data.splits import draw_balanced
from mlxdistill.pipeline.stage import Context, Need, Result, Stage, prompt_template
from mlxdistill.rundir.files import write_jsonl
from mlxdistill.rundir.manifest import Work
from mlxdistill.store import LabelStore
from mlxdistill.tasks.logs import check_log
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import content_hash, read_rows, write_rows
from mlxdistill.teacher.label import answers_of, label_rows
from mlxdistill.teacher.labeller import LlamaLabeller, check_teacher, open_labeller
from mlxdistill.teacher.recorded import RecordedLabeller


def _open(context: Context) -> LlamaLabeller | RecordedLabeller:
    config = context.config
    template = prompt_template(config.teacher.prompt, "teacher.prompt")
    fields = config.data.fields
    return open_labeller(
        config.teacher,
        context.task,
        context.reporter,
        template,
        text_column=fields.text,
        id_column=fields.id,
        strict=context.options.strict,
    )


def _inputs(context: Context) -> Mapping[str, Any]:
    labeller = _open(context)
    return {
        "rows": context.inputs_of("ingest"),
        "teacher": labeller.fingerprint,
        "prompt": labeller.prompt_fingerprint,
        "labels": context.task.names,
    }


def _work(context: Context) -> Result:
    run, names = context.run, context.task.names
    rows = [row for path in (run.pool, run.valid, *run.test_sets.values()) if path.exists() for row in read_rows(path)]
    with LabelStore(run.labels) as store, _open(context) as labeller:
        summary = label_rows(labeller, names, rows, store, context.reporter)
        number = store.labeller(labeller.fingerprint, labeller.prompt_fingerprint, names)
        answers = answers_of(store, number, {row.id: content_hash(row.text) for row in rows})
    bad_lines = _bad_lines(context, labeller)
    outputs = _test_balanced(context, answers)
    seconds = sum(answer.seconds for answer in answers.values())
    peak_memory_bytes, settings = _measured(context, labeller)
    work = Work(
        rows_in=summary.rows,
        rows_out=summary.rows - summary.missing - summary.unparsable,
        threads=_threads(labeller, settings),
        seed=context.config.data.seed if outputs else None,
        settings=settings,
    )
    figures = {
        **bad_lines,
        "from_store": summary.from_store,
        "unparsable": summary.unparsable,
        "truncated": summary.truncated,
        "missing": summary.missing,
        "labeller": number,
        "rows_per_second": len(answers) / seconds if seconds else None,
        "teacher": labeller.fingerprint,
        "peak_memory_bytes": peak_memory_bytes,
    }
    parts = [f"{summary.new:,} rows labelled"]
    parts += [f"{summary.from_store:,} from the store"] if summary.from_store else []
    parts += [f"{figures[name]:,} {name}" for name in ("missing", "unparsable", "truncated") if figures[name]]
    if summary.truncated:
        context.reporter.note(f"{summary.truncated:,} rows did not fit in teacher.n_ctx and lost the end of their text")
    return Result(outputs, work, figures, ", ".join(parts))


def _measured(
    context: Context, labeller: LlamaLabeller | RecordedLabeller
) -> tuple[int | None, Mapping[str, int] | None]:
    """Peak memory and tuned settings; where every answer came from the store, those of the run that gave them."""
    if labeller.settings is not None:
        return labeller.peak_memory_bytes, labeller.settings
    before = context.manifest.figures("label")
    if before.get("teacher") != labeller.fingerprint:
        return None, None
    return before.get("peak_memory_bytes"), context.manifest.settings("label")


def _threads(labeller: LlamaLabeller | RecordedLabeller, settings: Mapping[str, int] | None) -> int | None:
    if isinstance(labeller, RecordedLabeller):
        return 1
    return None if settings is None else settings["threads"]


def _bad_lines(context: Context, labeller: LlamaLabeller | RecordedLabeller) -> dict[str, Any]:
    """What ingest says of the source's bad lines, of those of a recorded teacher's logs."""
    path = context.run.bad_log_lines
    if not isinstance(labeller, RecordedLabeller):
        path.unlink(missing_ok=True)
        return {}
    bad = labeller.bad_lines
    write_jsonl(path, bad.records)
    if bad.records:
        context.reporter.note(bad.note(context.run.shown(path)))
    return {"bad_lines": len(bad.records), "first_bad_lines": bad.first}


def _test_balanced(context: Context, answers: Mapping[str, Answer]) -> list[Path]:
    """Where there is no gold to draw it by, test_balanced, drawn by the teacher's answers once and for all.

    Its rows stay in the pool's file; the filters hold them out of training.
    """
    run, wanted = context.run, context.config.data.test.balanced
    if not isinstance(wanted, int) or context.manifest.figures("ingest")["has_gold"]:
        return []
    if not run.test_balanced.exists():
        pool = read_rows(run.pool)
        labels = {row.id: label for row in pool if row.id in answers and (label := answers[row.id].label) is not None}
        drawn = draw_balanced(pool, labels, wanted, context.config.data.seed, context.task.names)
        write_rows(run.test_balanced, list(drawn.test_balanced))
        for note in drawn.notes:
            context.reporter.note(note)
        count = len(drawn.test_balanced)
        context.reporter.note(f"test_balanced: {count:,} rows drawn by the teacher's answers, since there is no gold")
    return [run.test_balanced]


def _needs(config: Config) -> Iterator[Need]:
    teacher, fields = config.teacher, config.data.fields
    if teacher.prompt is not None:
        yield Need(("teacher", "prompt"), lambda: prompt_template(teacher.prompt, "teacher.prompt"))
    if (model := teacher.model) is not None:
        yield Need(("teacher", "model"), lambda: check_teacher(model, thinking=teacher.thinking))
    for log in teacher.log or ():
        yield Need(("teacher", "log"), partial(check_log, Path(log), text_column=fields.text, id_column=fields.id))


STAGE = Stage("label", _needs, _inputs, _work, is_kept=lambda run: run.labels.exists(), frozen=True)
