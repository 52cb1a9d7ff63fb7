"""What a report is made of.

Plain values only: the page is a pure function of them, so the same run always gives the same bytes, and the pipeline
alone knows which files they came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """What one filter did, in the order the filters ran.

    Attributes:
        filter: its name.
        kept: rows that went on.
        dropped: rows that did not.
        reasons: how many rows were dropped for which reason.
        examples: by reason, the ids of some of them.
        classes: by the label of the rows, how many were kept and how many dropped.
        treated: rows that count otherwise (`weighed`) or teach another answer (`softened`, `flipped`).
    """

    filter: str
    kept: int
    dropped: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    classes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    treated: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainPoint:
    """The losses (nats a supervised token) after optimizer step `step`.

    Attributes:
        loss: the mean over the steps since the point before; None where that is not known, or no step was finite.
        valid_loss: only where validation ran.
    """

    step: int
    loss: float | None
    valid_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Mistake:
    """A row of a test set that the student got wrong; without gold, one where it disagrees with the teacher.

    Attributes:
        id: the row's id.
        set: the test set it belongs to.
        gold: the label known to be right, or None.
        student: the student's label, or None where its answer was unparsable.
        teacher: the teacher's label, or None where it gave none.
        student_probability: what the student gave its own answer, in [0, 1].
        text: the row's text, only where the user asked to see it.
    """

    id: str
    set: str
    gold: str | None
    student: str | None
    teacher: str | None
    student_probability: float | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's file: its name, of a split set the first part's, and the bytes of all parts."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that one page shows.

    Attributes:
        name: the run's name.
        metrics: `evaluation/metrics.json` as read.
        verdict_sentence: the outcome in one sentence.
        predictions: the records of `evaluation/predictions.jsonl`.
        manifest: `manifest.json` as read: `stages`, each with `started`, `finished`, `seconds` and `figures`
            (`rows_in`, `rows_out`, `threads`, `notes`, ...; they may also stand beside `seconds`).
        funnel: the filters in the order they ran.
        filter_notes: what the user should know of them, a sentence each.
        training: the loss curve in order of steps.
        mistakes: those to be listed, most telling first; the page groups them by set.
        versions: package -> version.
        config: the resolved configuration; of its sections `teacher`, `filter`, `student` and `train` are shown, and
            `combine`.
        teacher_files: by its name, each teacher's GGUF; none for recorded answers, and where the file is gone.
        prompts: `evaluation/prompts.json` as read; None where no prompts were compared.
        learning_curve, sweep: the same of these experiments.
    """

    name: str
    metrics: Mapping[str, Any]
    verdict_sentence: str
    predictions: tuple[Mapping[str, Any], ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    funnel: tuple[FunnelStep, ...] = ()
    filter_notes: tuple[str, ...] = ()
    training: tuple[TrainPoint, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    teacher_files: Mapping[str, ModelFile] = field(default_factory=dict)
    prompts: Mapping[str, Any] | None = None
    learning_curve: Mapping[str, Any] | None = None
    sweep: Mapping[str, Any] | None = None
