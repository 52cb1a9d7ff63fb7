"""One candidate after the other is asked about the same rows, and what it took is kept.

Each candidate's answers are kept in the label store under a number of their own: whatever was answered before, by an
earlier comparison or by the label stage, is not paid for again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxdistill.config.data import FieldsConfig
from mlxdistill.config.models import TeacherConfig
from mlxdistill.experiments.candidates import Candidate
from mlxdistill.pipeline import Reporter
from mlxdistill.pipeline.asking import CONTENT_FREE_ROWS, ask_content_free
from mlxdistill.rundir.files import read_json, write_json
from mlxdistill.store import LabelStore
from mlxdistill.tasks.classification import ClassificationTask
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, content_hash
from mlxdistill.teacher.asking import ModelLabeller
from mlxdistill.teacher.label import label_rows
from mlxdistill.teacher.labeller import open_labeller
from mlxdistill.teacher.opinions import Rule, answers_from, content_free_shares, opinions_of
from mlxdistill.teacher.recorded import RecordedLabeller

STEP = "prompts"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a candidate answered: one answer for each row, by row id; and what that took, None where nobody knows.

    `tokens_per_row`: those decoded, without the part of the prompt that rows share, and those generated.
    """

    candidate: Candidate
    answers: Mapping[str, Answer]
    tokens_per_row: float | None
    rows_per_second: float | None


class Costs:
    """Tokens decoded for every candidate's answers, kept in a file: answers that come from the store cost none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: dict[str, dict[str, int]] = read_json(path) if path.exists() else {}

    def add(self, key: str, answers: int, tokens: int) -> None:
        if answers:
            before = self._counts.get(key, {"answers": 0, "tokens": 0})
            self._counts[key] = {"answers": before["answers"] + answers, "tokens": before["tokens"] + tokens}
            write_json(self._path, self._counts)

    def tokens_per_row(self, key: str, answers_per_row: int) -> float | None:
        known = self._counts.get(key)
        return known["tokens"] / known["answers"] * answers_per_row if known and known["tokens"] else None


def open_candidate(
    candidate: Candidate, task: ClassificationTask, fields: FieldsConfig, reporter: Reporter
) -> ModelLabeller | RecordedLabeller:
    """The candidate's labeller, which loads nothing before it is asked.

    Raises ModelError for a model, DataError for a log that cannot be used.
    """
    return open_labeller(
        candidate.config, task, reporter, candidate.template, text_column=fields.text, id_column=fields.id
    )


def ask_candidate(
    candidate: Candidate,
    labeller: ModelLabeller | RecordedLabeller,
    rows: Sequence[Row],
    task: ClassificationTask,
    store: LabelStore,
    costs: Costs,
    reporter: Reporter,
) -> Asked:
    """Asks about the rows that the candidate has not answered yet. Its process has ended on return."""
    reporter.begin(STEP)
    name = candidate.teacher if candidate.configured else f"{STEP}: {candidate.name}"
    described = None if candidate.configured else {"name": name, "model": candidate.config.model}
    number = store.labeller(labeller.fingerprint, labeller.prompt_fingerprint, task.names, described)
    key = content_hash(labeller.fingerprint + labeller.prompt_fingerprint)
    try:
        with labeller:
            summary = label_rows(labeller, number, rows, len(rows), store, reporter)
            answered, seconds = store.asked_speed(number, labeller.samples)
            content_free = None
            if candidate.config.calibrate:
                content_free = ask_content_free(labeller, name, number, task.names, store, reporter)
    finally:
        costs.add(key, labeller.stats.rows, labeller.stats.tokens)
    kept = f", {summary.from_store:,} from the store" if summary.from_store else ""
    reporter.end(STEP, f"{candidate.name}: {summary.new:,} answers{kept}")
    return Asked(
        candidate,
        one_answer_each(candidate.config, labeller.samples, rows, store, number, content_free, task.names),
        costs.tokens_per_row(key, len(labeller.samples)),
        answered / seconds if seconds else None,
    )


def one_answer_each(
    config: TeacherConfig,
    samples: Sequence[int],
    rows: Sequence[Row],
    store: LabelStore,
    number: int,
    content_free: int | None,
    labels: Sequence[str],
) -> dict[str, Answer]:
    """Of several answers to a row one, as the label stage makes it; a fitted temperature would change no label."""

    def given(number: int, rows: Sequence[Row]) -> list[dict[str, Answer]]:
        found: dict[int, dict[str, Answer]] = {sample: {} for sample in samples}
        for answer in store.answers(number, {row.id: content_hash(row.text) for row in rows}, samples):
            found[answer.sample][answer.row_id] = answer
        return list(found.values())

    rule = Rule(tuple(samples), votes=config.answer == "generate")
    if content_free is not None:
        free_ids = [row.id for row in CONTENT_FREE_ROWS]
        free = [opinions_of(free_ids, answers, labels) for answers in given(content_free, CONTENT_FREE_ROWS)]
        rule = Rule(rule.samples, rule.votes, tuple(map(content_free_shares, free)))
    members, ids = given(number, rows), [row.id for row in rows]
    opinions = list(rule.steps([opinions_of(ids, answers, labels) for answers in members]).values())[-1]
    return {answer.row_id: answer for answer in answers_from(ids, opinions, members, labels)}
