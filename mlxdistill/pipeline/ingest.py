"""ingest: the user's rows become the pool, the validation rows and the two frozen test sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from mlxdistill.config.models import Config
from mlxdistill.data.ingest import IngestSummary, ingest, splits_fingerprint
from mlxdistill.data.readers import source_files
from mlxdistill.errors import DataError, UsageError
from mlxdistill.pipeline.stage import Context, Need, Result, Stage
from mlxdistill.rundir.manifest import Work

FROZEN = "splits"


def _inputs(context: Context) -> Mapping[str, Any]:
    splits = splits_fingerprint(context.config.data, context.task)
    frozen = context.manifest.frozen.get(FROZEN)
    if frozen is not None and frozen != splits and not context.options.new_splits:
        raise UsageError(
            "the rows or the settings of the splits have changed, and the test sets of this run are frozen",
            where=str(context.run.path),
            hint="--new-splits draws them anew (numbers before and after cannot be compared); or use another --run-dir",
        )
    figures = context.manifest.figures("ingest")
    if context.options.strict and frozen == splits and figures.get("bad_lines"):
        raise DataError(figures["first_bad_lines"][0], hint="mend the line, or leave out --strict")
    return {"splits": splits, "seed": context.config.data.seed}


def _work(context: Context) -> Result:
    summary = ingest(context.config.data, context.task, context.run, context.reporter, strict=context.options.strict)
    context.manifest.freeze(FROZEN, splits_fingerprint(context.config.data, context.task))
    rows = context.run.pool.parent
    outputs = [rows / f"{name}.jsonl" for name in summary.sets]
    work = Work(
        rows_in=summary.rows_read + summary.rows_given,
        rows_out=sum(size.n for size in summary.sets.values()),
        seed=context.config.data.seed,
    )
    return Result(outputs, work, asdict(summary), _line(summary))


def _line(summary: IngestSummary) -> str:
    sets = ", ".join(f"{size.n:,} {name}" for name, size in summary.sets.items())
    return f"{summary.rows_read:,} rows read: {sets}"


def _needs(config: Config) -> Iterator[Need]:
    data = config.data
    given: dict[tuple[str, ...], object] = {("data", "source"): data.source, ("data", "valid"): data.valid}
    given |= {("data", "test", name): getattr(data.test, name) for name in ("indist", "balanced")}
    for key, path in given.items():
        if isinstance(path, str):
            yield Need(key, partial(source_files, Path(path)))


STAGE = Stage("ingest", _needs, _inputs, _work, frozen=True)
