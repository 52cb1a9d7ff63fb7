"""The teacher's process: opens the model once, then answers questions of rows, a wave at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlxdistill.teacher.engine import Model
from mlxdistill.teacher.lanes import Limits
from mlxdistill.teacher.prompts import LabelPrompt
from mlxdistill.teacher.scoring import Scorer
from mlxdistill.teacher.tuning import Choices, tune
from mlxdistill.workers.channel import Channel

ENTRY = "mlxdistill.teacher.child:open_teacher"


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """What to open, and how. `prompts`: by sample number; what `choices` leave open is found by trying."""

    model: Path
    prompts: Mapping[int, LabelPrompt]
    choices: Choices


@dataclass(frozen=True, slots=True)
class LabelQuestion:
    """Rows (id, text) to label; those in `done` (id, sample) are answered already."""

    rows: tuple[tuple[str, str], ...]
    done: frozenset[tuple[str, int]]
    job_rows: int


@dataclass(frozen=True, slots=True)
class LabelStats:
    """What labelling took: answers given, tokens decoded for them, rows truncated, seconds; and the limits in use.

    `engine_seconds`: those of them that llama.cpp took.
    """

    rows: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0
    engine_seconds: float = 0.0
    limits: Limits | None = None

    def __add__(self, other: LabelStats) -> LabelStats:
        return LabelStats(
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.truncated + other.truncated,
            self.seconds + other.seconds,
            self.engine_seconds + other.engine_seconds,
            other.limits or self.limits,
        )

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


def open_teacher(request: TeacherRequest, channel: Channel) -> Callable[[LabelQuestion, Channel], LabelStats]:
    """Loads the model and returns the function that labels (see `workers/child.py`).

    It sends `Tuned` once, before its first answers, and then lists of answers.
    """
    model = Model(request.model)
    scorer: Scorer | None = None
    total = LabelStats()

    def answer(question: LabelQuestion, channel: Channel) -> LabelStats:
        nonlocal scorer, total
        if scorer is None:
            scorer, tuned = tune(model, request.prompts, request.choices, question.rows, question.job_rows, channel)
            channel.send(tuned)
        stats = LabelStats(limits=scorer.limits)
        began = time.perf_counter()
        for wave in scorer.score(question.rows, question.done):
            seconds = time.perf_counter() - began
            truncated = sum(answer.outcome == "truncated" for answer in wave.answers)
            new = LabelStats(len(wave.answers), wave.tokens, truncated, seconds, wave.engine_seconds)
            stats, total = stats + new, total + new
            channel.advance(
                wave.finished,
                len(question.rows),
                rows_per_second=total.rows_per_second,
                tokens_per_second=total.tokens_per_second,
            )
            channel.send(wave.answers)
            began = time.perf_counter()  # waiting for the parent to commit is not the model's time
        return stats

    return answer
