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
from mlxdistill.data.redaction.emails import find_emails
from mlxdistill.errors import DataError, UsageError
from mlxdistill.pipeline.redaction import CountedChange, check_redaction, open_redactor, prepare_texts
from mlxdistill.pipeline.stage import Context, Need, Result, Stage
from mlxdistill.rundir.manifest import Work
from mlxdistill.tasks.rows import iter_rows

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
    _check_nothing_is_left(context, figures)
    apart = figures and "decontaminated" not in figures  # drawn by a version that kept exact duplicates together alone
    if apart and context.config.data.near_duplicates is not None and not context.options.new_splits:
        context.reporter.note("these splits may share near duplicates: they are older; --new-splits draws them anew")
    if context.options.strict and frozen == splits and figures.get("bad_lines"):
        raise DataError(figures["first_bad_lines"][0], hint="mend the line, or leave out --strict")
    redact = context.config.data.redact  # what is only counted, or goes later, changes no row, but wants counting
    counted = {} if redact in (None, "before") else {"redact": context.config.data.redact_settings}
    return {"splits": splits, "seed": context.config.data.seed, **counted}


def _check_nothing_is_left(context: Context, former: Mapping[str, Any]) -> None:
    """Raises UsageError where texts are to be redacted, and what was made of them as they were is still here."""
    run = context.run
    if context.config.data.redact != "before" or not former or former.get("redacted") == "before":
        return
    made = [path for path in (run.labels, run.synthetic, run.drafts, run.student, run.children) if path.exists()]
    if made:
        raise UsageError(
            f"data.redact is `before` now, and this folder has what was made of the texts as they were: "
            f"{', '.join(map(run.shown, made))}",
            where=str(run.path),
            hint="take another --run-dir, and delete this one with `mlxdistill runs rm`",
        )


def _work(context: Context) -> Result:
    config, reporter, strict = context.config, context.reporter, context.options.strict
    with open_redactor(config, reporter, context.run, when=("before", "after", "report")) as redactor:
        change = None if redactor is None else CountedChange(redactor, config.data.redact)
        if redactor is not None:
            prepare_texts(config, redactor, reporter)
        summary = ingest(config.data, context.task, context.run, reporter, strict=strict, change=change)
    if change is not None:
        reporter.note(change.note)
    context.manifest.freeze(FROZEN, splits_fingerprint(context.config.data, context.task))
    rows = context.run.pool.parent
    outputs = [rows / f"{name}.jsonl" for name in summary.sets]
    if config.data.redact == "before" and (named := sum(map(_count_names, outputs))):
        reporter.note(
            f"{named:,} ids are e-mail addresses, and ids stay as they are: take another column (data.fields.id)"
        )
    work = Work(
        rows_in=summary.rows_read + summary.rows_given,
        rows_out=sum(size.n for size in summary.sets.values()),
        seed=context.config.data.seed,
    )
    figures = asdict(summary) | {"redacted": config.data.redact}
    if change is not None:
        figures["personal_data"] = change.figures
    return Result(outputs, work, figures, _line(summary))


def _count_names(path: Path) -> int:
    """How many ids of rows are e-mail addresses."""
    return sum(1 for row in iter_rows(path) if any(find_emails(row.id)))


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
    yield Need(("data", "redact_with"), lambda: check_redaction(config))


STAGE = Stage("ingest", _needs, _inputs, _work, frozen=True)
