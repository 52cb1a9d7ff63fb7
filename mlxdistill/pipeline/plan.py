"""plan: what training the student would take, said before any weights are read. Trains nothing and writes nothing.

The rows are those that would be learned from, as far as that is known: after `filter` the rows that it let through with
their labels; before, the rows that would be labelled, or those of the source, each as if it had the label that is
written longest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mlxdistill.config.load import LoadedConfig
from mlxdistill.data.ingest import ingest
from mlxdistill.pipeline.budget import budget_in_force
from mlxdistill.pipeline.stage import Context, Options, Reporter, task_of
from mlxdistill.pipeline.teacher_rationales import rationales
from mlxdistill.pipeline.train import STAGE, student_prompt, train_request, training_rows
from mlxdistill.pipeline.treatments import teaching
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.statistics.resampling import generator
from mlxdistill.store import LabelStore
from mlxdistill.student.dataset import write_training_files
from mlxdistill.student.planning import plan_training
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, read_rows


def plan_student(loaded: LoadedConfig, run: RunDir, options: Options, reporter: Reporter) -> dict[str, Any]:
    """Rows, tokens, steps and memory of `train`.

    Raises ConfigError, DataError and ModelError as the stages up to training would.
    """
    context = Context(loaded.config, task_of(loaded.config), run, options, reporter, Manifest(run))
    for need in STAGE.needs(loaded.config):
        need.look()
    with tempfile.TemporaryDirectory(prefix="mlxdistill-plan-") as folder:
        origin = _write_rows(context, Path(folder))
        request = replace(train_request(loaded.config, run), data=Path(folder) / "data")
        plan = plan_training(request, reporter)
    figures = asdict(plan)
    memory = figures.pop("memory")
    batch_size, batch_tokens, moment = (memory.pop(name) for name in ("batch_size", "batch_tokens", "moment"))
    return {
        "rows_are": origin,
        **{name: figures[name] for name in ("rows", "valid_rows", "truncated", "shared_tokens")},
        "row_tokens": dict(zip(("median", "p90", "p99", "longest"), plan.lengths, strict=True)),
        "epochs": request.train.epochs,
        "rows_per_epoch": figures["rows_per_epoch"],
        "batch_size": batch_size,
        "batch_tokens": batch_tokens,
        **{name: figures[name] for name in ("steps", "tokens", "padding_efficiency")},
        "memory_bytes": {**memory, "needed": plan.memory.needed, "peak": plan.memory.peak},
        "most_taken_by": moment,
        "working_set_bytes": plan.working_set,
        "fits": plan.fits,
        "largest_batch": plan.largest_batch,
        "mends": {"batch_tokens": plan.batch_tokens, "gradient_checkpointing": plan.checkpointing},
    }


def _write_rows(context: Context, folder: Path) -> str:
    """Writes training files as `train` would; returns what their rows are."""
    run, prompt = context.run, student_prompt(context.config)
    if _is_finished(context, "filter") and run.labels.exists():
        valid = _selection(run)
        with LabelStore(run.labels) as store:
            rows = training_rows(context, store)
            taught = teaching(context, store, [*rows, *valid])
            reasons = rationales(context, store, rows)
        write_training_files(
            folder / "data", context.task, prompt, rows, valid, taught.answers, reasons, taught.weights
        )
        return "filtered"
    origin = "pool"
    if not (_is_finished(context, "ingest") and run.pool.exists()):
        run, origin = RunDir(folder / "run"), "source"
        ingest(context.config.data, context.task, run, context.reporter, strict=context.options.strict)
    rows, valid = _to_be_labelled(context, read_rows(run.pool)), _selection(run)
    write_training_files(folder / "data", context.task, prompt, rows, valid, _longest_answers(context, [*rows, *valid]))
    return origin


def _is_finished(context: Context, stage: str) -> bool:
    return bool(context.manifest.stages.get(stage, {}).get("finished"))


def _selection(run: RunDir) -> list[Row]:
    return [row for row in read_rows(run.valid) if row.meta.get("half") == "selection"]


def _to_be_labelled(context: Context, rows: Sequence[Row]) -> list[Row]:
    """As many of the pool as the budget in force has, by chance."""
    budget = budget_in_force(context)
    if budget is None or budget >= len(rows):
        return list(rows)
    drawn = generator(context.config.data.seed).permutation(len(rows))[:budget]
    return [rows[number] for number in sorted(drawn)]


def _longest_answers(context: Context, rows: Sequence[Row]) -> Mapping[str, Answer]:
    longest = max(context.task.names, key=lambda name: len(context.task.verbalizer(name)))
    return {row.id: Answer(row.id, longest) for row in rows}
