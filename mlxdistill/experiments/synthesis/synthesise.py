"""`mlxdistill synth`: rows that are there, drafts of new ones, and what came of them.

Rows are shown to the writer from training alone: what measures is neither shown nor, afterwards, resembled.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdistill.config.load import LoadedConfig
from mlxdistill.errors import ConfigError, DataError, Problem
from mlxdistill.experiments.synthesis.checks import Profile, profile_of
from mlxdistill.experiments.synthesis.journal import Journal, Verdict
from mlxdistill.experiments.synthesis.loop import Synthesis
from mlxdistill.experiments.synthesis.outcome import outcome_of
from mlxdistill.experiments.synthesis.teachers import Teachers, writer_of
from mlxdistill.experiments.synthesis.wanted import begin_job, end_job, last_job
from mlxdistill.pipeline import STAGES, Options, Reporter, run_stages, task_of
from mlxdistill.pipeline.budget import measuring_rows
from mlxdistill.pipeline.stage import Context
from mlxdistill.pipeline.synthetic import is_synthetic, synthetic_rows
from mlxdistill.pipeline.train import training_rows
from mlxdistill.pipeline.treatments import teaching
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.lock import locked
from mlxdistill.rundir.log import log_event
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.store import LabelStore
from mlxdistill.tasks.drafting import DraftForm, DraftPrompt, check_draft_template, draft_prompt
from mlxdistill.tasks.rows import Row, iter_rows, normalised, write_rows

STEP = "synth"
STAGES_BEFORE = ("ingest", "label", "filter")


def synthesise(loaded: LoadedConfig, run: RunDir, reporter: Reporter) -> dict[str, Any]:
    """Has rows written as `synth` says, and returns what is printed of it.

    Runs the stages up to `filter` first, where they have not run. Accepted rows are in rows/synthetic.jsonl, with the
    teachers' answers in the label store; the next run learns from them.

    Raises UsageError where no teacher is a model, ConfigError for a prompt that is none, and what the stages and the
    teachers raise. A stop loses what is in flight alone: the same call goes on.
    """
    config, task = loaded.config, task_of(loaded.config)
    writer_of(config)
    prompt = _prompt(loaded)
    run_stages(loaded, run, STAGES_BEFORE, STAGES, reporter, Options())
    with locked(run), LabelStore(run.labels) as store:
        context = Context(config, task, run, Options(), reporter, Manifest(run))
        taught = _taught(context, store)
        written = list(synthetic_rows(run))
        counts = {
            label: len(taught.by_label[label]) + sum(row.meta["intended"] == label for row in written)
            for label in task.names
        }
        journal = Journal(run.drafts)
        if (last := last_job(run)) is not None:
            settle_kept(journal, written, last.number)
        job = begin_job(run, config.synth, counts)
        reporter.begin(STEP)
        profiles = {
            label: profile_of(label, taught.by_label[label], taught.rows) for label in task.names if label in job.wanted
        }
        teachers = Teachers(context, store, prompt, _longest_bytes(profiles))

        def keep(rows: Sequence[Row]) -> None:
            if rows:
                teachers.adopt(rows)
                add_rows(run, rows)

        def texts() -> Iterator[str]:
            rows = itertools.chain(iter_rows(run.pool), synthetic_rows(run), measuring_rows(run))
            return (normalised(row.text) for row in rows)

        synthesis = Synthesis(
            job, config.synth, profiles, journal, teachers.write, teachers.judge, keep, texts, reporter
        )
        synthesis.run()
        outcome = outcome_of(job, journal, taught.by_label, list(synthetic_rows(run)))
        end_job(run, job, outcome)
    accepted = sum(each["accepted"] for each in outcome["classes"].values())
    drafts = sum(each["drafts"] for each in outcome["classes"].values())
    reporter.end(STEP, f"{accepted:,} of {drafts:,} drafts accepted, {outcome['rows']:,} synthetic rows in all")
    log_event(run, "synthesised", job=job.number, wanted=dict(job.wanted), accepted=accepted, drafts=drafts)
    return outcome


def clear(run: RunDir) -> int:
    """Removes all synthetic rows and drafts of a run, and returns how many rows there were. What the teachers answered
    about them stays in the label store."""
    with locked(run):
        count = sum(1 for _ in synthetic_rows(run))
        for path in (run.synthetic, run.drafts, run.synthesis):
            path.unlink(missing_ok=True)
        log_event(run, "synthetic_rows_removed", rows=count)
    return count


@dataclass(frozen=True, slots=True)
class _Taught:
    """Rows that teach, without synthetic ones: all of them, and those of each label, in the order of the pool."""

    rows: Sequence[Row]
    by_label: Mapping[str, Sequence[Row]]


def _taught(context: Context, store: LabelStore) -> _Taught:
    """Rows in doubt, which count less than others, are shown to nobody as an example."""
    rows = [row for row in training_rows(context, store) if not is_synthetic(row)]
    found = teaching(context, store, rows)
    certain = [row for row in rows if found.weights.get(row.id, 1.0) >= 1]
    if not certain:
        hint = "loosen `filter`, or give more rows"
        raise DataError("no row is left to write from", where=str(context.run.pool), hint=hint)
    by_label: dict[str, list[Row]] = {label: [] for label in context.task.names}
    for row in certain:
        label = found.answers[row.id].label
        assert label is not None
        by_label[label].append(row)
    return _Taught(certain, by_label)


def _prompt(loaded: LoadedConfig) -> DraftPrompt:
    config = loaded.config
    form, path = DraftForm(config.synth.format), config.synth.prompt
    if path is None:
        return draft_prompt(task_of(config), form)
    where = loaded.origin(("synth", "prompt"))
    try:
        template = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(where, f"cannot read the prompt {path}: {error}")]) from None
    if (fault := check_draft_template(template)) is not None:
        raise ConfigError([Problem(where, f"{path}: {fault}")])
    return draft_prompt(task_of(config), form, template)


def add_rows(run: RunDir, rows: Sequence[Row]) -> None:
    """Adds rows to rows/synthetic.jsonl, in an order that does not depend on when which was written."""
    write_rows(run.synthetic, sorted([*synthetic_rows(run), *rows], key=lambda row: row.id))


def settle_kept(journal: Journal, written: Sequence[Row], job: int) -> None:
    """Drafts whose rows are there have been accepted, also where a stop came before the verdict.

    Args:
        job: the number of the last one.
    """
    places = {row.id: (row.meta["intended"], tuple(row.meta["seeds"])) for row in written}
    found: dict[str, Verdict] = {}
    for key, draft in sorted(journal.drafts.items(), key=lambda item: item[0][1]):
        if key not in journal.verdicts and draft.text:
            row_id = draft.row().id
            if places.get(row_id) == (draft.label, draft.seeds):
                found.setdefault(row_id, Verdict(draft.label, draft.number, None, job))
    journal.add(found.values())


def _longest_bytes(profiles: Mapping[str, Profile]) -> int:
    texts = (row.text for profile in profiles.values() for row in profile.rows if len(row.text) <= profile.longest)
    return max((len(text.encode()) for text in texts), default=0)
