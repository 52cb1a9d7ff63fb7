"""The teacher's process: opens the model once, then answers questions of rows, a wave at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlxdistill.teacher.engine import Model
from mlxdistill.teacher.scoring import LabelPrompt, Limits, Scorer
from mlxdistill.teacher.threads import use_fastest
from mlxdistill.workers.channel import Channel

ENTRY = "mlxdistill.teacher.child:open_teacher"


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """What to open, and how. Where `limits.threads` is None, the fastest number is found by trying."""

    model: Path
    prompt: LabelPrompt
    limits: Limits


@dataclass(frozen=True, slots=True)
class LabelQuestion:
    """Rows (id, text) to label; those in `done` are answered already.

    `finished` and `total` rows: where this question stands in the whole that the user waits for.
    """

    rows: tuple[tuple[str, str], ...]
    done: frozenset[str]
    finished: int
    total: int


@dataclass(frozen=True, slots=True)
class LabelStats:
    """What labelling took: rows answered, tokens decoded for them, rows truncated, seconds; and the limits in use."""

    rows: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0
    limits: Limits | None = None

    def __add__(self, other: LabelStats) -> LabelStats:
        return LabelStats(
            self.rows + other.rows,
            self.tokens + other.tokens,
            self.truncated + other.truncated,
            self.seconds + other.seconds,
            other.limits or self.limits,
        )

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


def open_teacher(request: TeacherRequest, channel: Channel) -> Callable[[LabelQuestion, Channel], LabelStats]:
    """Loads the model, decodes what all rows share, and returns the function that labels (see `workers/child.py`)."""
    scorer = Scorer(Model(request.model), request.prompt, request.limits).__enter__()
    if request.limits.threads is None:
        use_fastest(scorer.engine, scorer.shared_tokens, channel)
    total = LabelStats(limits=scorer.limits)

    def answer(question: LabelQuestion, channel: Channel) -> LabelStats:
        nonlocal total
        stats = LabelStats(limits=scorer.limits)
        began = time.perf_counter()
        for wave in scorer.score(question.rows, question.done):
            seconds = time.perf_counter() - began
            truncated = sum(answer.outcome == "truncated" for answer in wave.answers)
            stats += LabelStats(len(wave.answers), wave.tokens, truncated, seconds)
            total += LabelStats(len(wave.answers), wave.tokens, truncated, seconds)
            channel.advance(
                question.finished + wave.finished,
                question.total,
                rows_per_second=total.rows_per_second,
                tokens_per_second=total.tokens_per_second,
            )
            channel.send(wave.answers)
            began = time.perf_counter()  # waiting for the parent to commit is not the model's time
        return stats

    return answer
