"""`mlxdistill prompts`: every candidate answers the same validation rows with gold, and is compared with the others.

Test sets are never read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mlxdistill.config.load import LoadedConfig
from mlxdistill.config.models import Config
from mlxdistill.errors import DataError
from mlxdistill.evaluation.metrics import balanced_accuracy, confusion_matrix
from mlxdistill.evaluation.records import Record
from mlxdistill.evaluation.samples import make_sample
from mlxdistill.evaluation.scores import Counted, Resampling, accuracy_interval
from mlxdistill.experiments.asking import Asked, Costs, ask_candidate, open_candidate
from mlxdistill.experiments.candidates import Axes, candidates
from mlxdistill.experiments.choice import Choice, Entrant, Versus, choose
from mlxdistill.experiments.sentences import caveats, recommendation_sentence, verdict
from mlxdistill.pipeline import STAGES, Options, Reporter, run_stages, task_of
from mlxdistill.pipeline.training_labels import with_people
from mlxdistill.rundir.files import write_json
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.lock import locked
from mlxdistill.rundir.log import log_event
from mlxdistill.store import LabelReader, LabelStore
from mlxdistill.tasks.classification import ClassificationTask
from mlxdistill.tasks.rows import Row, content_hash, read_rows

SCHEMA = 1


def compare_prompts(
    loaded: LoadedConfig, run: RunDir, axes: Axes, wanted: int | None, reporter: Reporter
) -> dict[str, Any]:
    """Runs the comparison and writes `evaluation/prompts.json`, whose content is returned.

    Args:
        axes: what to compare with the configuration.
        wanted: how many validation rows with gold; None: all.

    Raises ConfigError and UsageError for what cannot be asked, DataError where no validation row has gold, and what
    ingest and the teachers raise. A stop loses at most the wave in flight: the same call goes on.
    """
    config, task = loaded.config, task_of(loaded.config)
    found, notes = candidates(config, axes)
    labellers = [open_candidate(candidate, task, config.data.fields, reporter) for candidate in found]
    run_stages(loaded, run, ("ingest",), STAGES, reporter, Options())
    rows = _rows_with_gold(run, task.names, wanted, notes)
    for note in notes:
        reporter.note(note)
    with locked(run), LabelStore(run.labels) as store:
        costs = Costs(run.prompt_costs)
        asked = [
            ask_candidate(candidate, labeller, rows, task, store, costs, reporter)
            for candidate, labeller in zip(found, labellers, strict=True)
        ]
        outcome = _outcome(asked, rows, config, task)
        write_json(run.prompts, outcome)
    for entry in outcome["candidates"]:
        figures = ("name", "answered", "unparsable", "accuracy", "rows_per_second")
        log_event(run, "prompt_compared", **{name: entry[name] for name in figures})
    return outcome


def _rows_with_gold(run: RunDir, labels: Sequence[str], wanted: int | None, notes: list[str]) -> list[Row]:
    """The validation rows with gold, by people too; where fewer are wanted, always the same random part of them."""
    rows = read_rows(run.valid) if run.valid.exists() else []
    if run.labels.exists():
        with LabelReader(run.labels) as reader:
            rows = with_people(reader, rows, labels)
    golden = [row for row in rows if row.gold is not None]
    if not golden:
        hint = "name the column of the gold labels in data.fields.gold, or give a file of rows with gold as data.valid"
        raise DataError(f"none of the {len(rows):,} validation rows has gold", where=str(run.valid), hint=hint)
    if wanted is not None and wanted > len(golden):
        notes.append(f"only {len(golden):,} validation rows have gold")
    if wanted is None or wanted >= len(golden):
        return golden
    chosen = set(sorted(content_hash(row.id) for row in golden)[:wanted])
    return [row for row in golden if content_hash(row.id) in chosen]


def _outcome(asked: Sequence[Asked], rows: Sequence[Row], config: Config, task: ClassificationTask) -> dict[str, Any]:
    """The content of `evaluation/prompts.json`."""
    gold = {row.id: row.gold for row in rows if row.gold is not None}
    resampling = Resampling(config.evaluate.bootstrap, config.evaluate.seed)
    entrants = [_entrant(each, rows) for each in asked]
    margin = config.evaluate.margin
    choice = choose(entrants, gold, task.names, resampling, margin)
    return {
        "schema": SCHEMA,
        "set": "valid",
        "n": len(rows),
        "class_counts": {name: sum(label == name for label in gold.values()) for name in task.names},
        "candidates": [
            {**_described(each), **_scores(entrant, gold, task.names, resampling), **_compared(entrant.name, choice)}
            for each, entrant in zip(asked, entrants, strict=True)
        ],
        "best": choice.best,
        "recommendations": [
            {**asdict(each), "sentence": recommendation_sentence(each, choice, margin)}
            for each in choice.recommendations
        ],
        "detectable_difference": choice.detectable,
        "disagreement": choice.disagreement,
        "caveats": caveats(choice, len(rows)),
    }


def _entrant(asked: Asked, rows: Sequence[Row]) -> Entrant:
    candidate = asked.candidate
    answers = ((row, asked.answers[row.id]) for row in rows if row.id in asked.answers)
    records = {
        row.id: Record(
            row.id, "valid", candidate.name, answer.label, answer.probabilities, row.gold, row.meta.get("group")
        )
        for row, answer in answers
    }
    return Entrant(candidate.name, candidate.teacher, candidate.configured, records, asked.rows_per_second)


def _described(asked: Asked) -> dict[str, Any]:
    candidate, answers = asked.candidate, asked.answers.values()
    return {
        "name": candidate.name,
        "teacher": candidate.teacher,
        "prompt": candidate.prompt,
        "file": candidate.file,
        "answer": candidate.config.answer if candidate.config.log is None else None,
        "temperature": candidate.temperature,
        "configured": candidate.configured,
        "answered": len(answers),
        "unparsable": sum(answer.label is None for answer in answers),
        "truncated": sum(answer.outcome == "truncated" for answer in answers),
        "tokens_per_row": asked.tokens_per_row,
        "rows_per_second": asked.rows_per_second,
    }


def _scores(entrant: Entrant, gold: Mapping[str, str], labels: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    sample = make_sample(entrant.records, gold, labels)
    if not len(sample.reference):
        return {"accuracy": None, "balanced_accuracy": None}
    counted = Counted(sample, confusion_matrix(sample.reference, sample.predicted, len(labels)), resampling)
    return {
        "accuracy": accuracy_interval(sample, resampling).to_json(),
        "balanced_accuracy": counted.interval(balanced_accuracy),
    }


def _compared(name: str, choice: Choice) -> dict[str, Any]:
    return {
        "against_best": _versus(choice.against_best.get(name)),
        "against_configured": _versus(choice.against_configured.get(name)),
        "verdict": verdict(name, choice),
    }


def _versus(versus: Versus | None) -> dict[str, Any] | None:
    """As in metrics.json's comparisons."""
    if versus is None:
        return None
    interval = versus.difference.to_json() if versus.difference else {"value": None, "ci": None, "method": None}
    return {
        "b": versus.other,
        "n": versus.n,
        "difference": interval.pop("value"),
        **interval,
        "test": versus.test,
        "p_value": versus.p_value,
        "p_adjusted": versus.p_adjusted,
        "a_only_right": versus.only,
        "b_only_right": versus.other_only,
    }
