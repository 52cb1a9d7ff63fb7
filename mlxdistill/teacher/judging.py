"""A teacher asked how right a proposed label is, instead of which label fits.

It grades by label scoring: the probabilities of the grades 1 to 5 as the answer, of which the expectation is the grade
(Liu et al. 2023, G-Eval, weigh a judge's scores by their probabilities so). One prompt serves all labels: the proposed
label stands with the row's text, before it, so that a text too long for the context loses its own end and nothing else.

Answers are kept in the label store as those of a labeller of its own, under the row's id and, as the sample's number,
the place of the proposed label. So nothing is asked twice, and a stop loses at most the wave in flight.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass, replace

from mlxdistill.config.models import TeacherConfig
from mlxdistill.store import LabelStore
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.protocols import Labeller, Progress
from mlxdistill.tasks.rows import Row, content_hash
from mlxdistill.teacher.label import ROWS_PER_PIECE
from mlxdistill.teacher.labeller import LlamaLabeller

GRADES = {
    "1": "surely wrong",
    "2": "probably wrong",
    "3": "could be right or wrong",
    "4": "probably right",
    "5": "surely right",
}
TEMPLATE = """\
You check labels that somebody else gave.

The task was: {instruction}

Proposed label: {text}

How right is the proposed label for this text? Grade it:
{labels}

Answer with one number only."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A row, and the place among the task's labels of the one that is proposed for it."""

    row: Row
    place: int

    @property
    def key(self) -> tuple[str, int]:
        return self.row.id, self.place


def open_judge(config: TeacherConfig, task: ClassificationTask, progress: Progress) -> LlamaLabeller:
    """The teacher as a judge, as a context manager; it loads nothing before it is asked.

    Args:
        config: with a `model`. How it answers as a teacher does not matter.

    Raises ModelError where the model is missing, damaged or of a kind that cannot be asked.
    """
    scoring = TeacherConfig(
        model=config.model,
        n_ctx=config.n_ctx,
        n_batch=config.n_batch,
        n_seq=config.n_seq,
        kv=config.kv,
        threads=config.threads,
    )
    return LlamaLabeller(scoring, _judging(task), progress, TEMPLATE)


def judge_prompt(task: ClassificationTask) -> str:
    """What stands for the judge's prompt, whoever the judge is."""
    return _judging(task).teacher_prompt(TEMPLATE).fingerprint


def _judging(task: ClassificationTask) -> ClassificationTask:
    described = "\n".join(f"- {label.verbalizer}: {label.description}" for label in task.labels)
    grades = tuple(Label(grade, meaning, grade) for grade, meaning in GRADES.items())
    return ClassificationTask(f"{task.instruction}\n\nIts labels:\n{described}", grades)


def grade(
    labeller: Labeller,
    number: int,
    proposals: Collection[Proposal],
    task: ClassificationTask,
    store: LabelStore,
    progress: Progress,
) -> dict[tuple[str, int], float]:
    """(row id, place of the label) -> grade from 1 to 5.

    Args:
        number: the judge's labeller, in the store.

    Raises whatever the labeller raises; what it answered before is kept.
    """
    kept = store.settings(number)
    labeller.prepare(len(proposals), kept)
    found: dict[tuple[str, int], float] = {}
    remaining = iter(proposals)
    begun = 0
    while piece := list(itertools.islice(remaining, ROWS_PER_PIECE)):
        hashes = {proposal.row.id: content_hash(proposal.row.text) for proposal in piece}
        answered = store.answered(number, hashes)
        asked = {f"{proposal.place}:{proposal.row.id}": proposal for proposal in piece}
        rows = [Row(name, _shown(proposal, task)) for name, proposal in asked.items()]
        done = frozenset((name, 0) for name, proposal in asked.items() if proposal.key in answered)
        for wave in labeller.label(rows, done, progress):
            if kept is None and labeller.settings is not None:
                kept = {**labeller.settings, "job_rows": len(proposals)}
                store.keep_settings(number, kept)
            given = [
                replace(answer, row_id=asked[answer.row_id].row.id, sample=asked[answer.row_id].place)
                for answer in wave
            ]
            store.add(number, given, hashes)
        wanted = {proposal.key for proposal in piece}
        for answer in store.answers(number, hashes):  # as they are kept: the same for a run that goes on
            if (answer.row_id, answer.sample) in wanted and answer.probabilities is not None:
                found[answer.row_id, answer.sample] = _expectation(answer.probabilities)
        begun += len(piece)
        progress.advance(begun, len(proposals))
    return found


def _shown(proposal: Proposal, task: ClassificationTask) -> str:
    return f"{task.verbalizers[proposal.place]}\n\nText:\n{proposal.row.text}"


def _expectation(probabilities: Collection[float]) -> float:
    return sum(place * share for place, share in enumerate(probabilities, start=1)) / sum(probabilities)
