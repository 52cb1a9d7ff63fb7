"""label: the teacher answers every row of the pool, the validation rows and both test sets.

Without gold, the balanced test set can only be drawn now, by the teacher's answers; from then on it is frozen too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlxdistill.data.splits import draw_balanced
from mlxdistill.pipeline.stage import Context, Result, Stage, prompt_template
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import content_hash, read_rows, write_rows
from mlxdistill.teacher.label import answers_of, label_rows
from mlxdistill.teacher.labeller import LlamaLabeller, open_labeller
from mlxdistill.teacher.recorded import RecordedLabeller


def _open(context: Context) -> LlamaLabeller | RecordedLabeller:
    config = context.config
    template = prompt_template(config.teacher.prompt, "teacher.prompt")
    fields = config.data.fields
    return open_labeller(
        config.teacher, context.task, context.reporter, template, text_column=fields.text, id_column=fields.id
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
    outputs = _test_balanced(context, answers)
    seconds = sum(answer.seconds for answer in answers.values())
    figures = {
        "rows_in": summary.rows,
        "rows_out": summary.rows - summary.missing - summary.unparsable,
        "from_store": summary.from_store,
        "unparsable": summary.unparsable,
        "truncated": summary.truncated,
        "missing": summary.missing,
        "labeller": number,
        "rows_per_second": len(answers) / seconds if seconds else None,
        **_measured(context, labeller),
    }
    parts = [f"{summary.new:,} rows labelled"]
    parts += [f"{summary.from_store:,} from the store"] if summary.from_store else []
    parts += [f"{figures[name]:,} {name}" for name in ("missing", "unparsable", "truncated") if figures[name]]
    if summary.truncated:
        context.reporter.note(f"{summary.truncated:,} rows did not fit in teacher.n_ctx and lost the end of their text")
    return Result(outputs, figures, ", ".join(parts))


def _measured(context: Context, labeller: LlamaLabeller | RecordedLabeller) -> dict[str, Any]:
    """Peak memory and tuned settings; where every answer came from the store, those of the run that gave them."""
    if labeller.settings is not None:
        measured = {"peak_memory_bytes": labeller.peak_memory_bytes, "settings": labeller.settings}
    else:
        before = context.manifest.figures("label")
        known = before if before.get("teacher") == labeller.fingerprint else {}
        measured = {name: known.get(name) for name in ("peak_memory_bytes", "settings")}
    return {"teacher": labeller.fingerprint, **measured}


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


STAGE = Stage("label", _inputs, _work, is_kept=lambda run: run.labels.exists(), frozen=True)
