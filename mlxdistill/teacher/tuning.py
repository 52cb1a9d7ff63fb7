"""How a model is run fastest here, found by trying it on rows of the job itself.

What is tried, each against the best so far: the number of threads (on a processor), the tokens of one decode, the rows
of one wave, the layout of the key-value memory. Trying stops when it has cost a small share of what the job will take.
Answers depend on the outcome in their last digits, so it is kept with them and in the machine's cache.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mlxdistill.errors import ModelError
from mlxdistill.platform.cores import usable_cores
from mlxdistill.tasks.protocols import Progress
from mlxdistill.teacher.engine import Model
from mlxdistill.teacher.lanes import MOST_SEQUENCES, Layout, Limits
from mlxdistill.teacher.prompts import LabelPrompt
from mlxdistill.teacher.scoring import CHUNK_ROWS, Scorer
from mlxdistill.teacher.threads import fastest_threads

FIRST_BATCH, FIRST_SEQUENCES = 256, 64
OTHER_BATCHES = {"cpu": (512,), "gpu": (512, 1024, 2048)}
TRIAL_WAVES = 3
THREAD_TRIAL_TOKENS = 128
SHARE_OF_JOB = 0.03
MOST_SECONDS = 30.0
WORTH_CHANGING = 1.03  # less than that is noise


@dataclass(frozen=True, slots=True)
class Choices:
    """What was configured or is known already; None: to be found by trying. `origin` says where it is from."""

    n_ctx: int
    n_batch: int | None = None
    n_seq: int | None = None
    threads: int | None = None
    kv: Layout | None = None
    origin: str = "as configured"


@dataclass(frozen=True, slots=True)
class Tuned:
    """The outcome: limits in use, why these, and how many were tried."""

    limits: Limits
    reason: str
    tried: int = 0


def tune(
    model: Model,
    prompts: Mapping[int, LabelPrompt],
    choices: Choices,
    rows: Sequence[tuple[str, str]],
    total: int,
    progress: Progress,
) -> tuple[Scorer, Tuned]:
    """The scorer, open, with the fastest limits.

    Args:
        rows: (id, text) of the job's beginning.
        total: how many rows the whole job has.

    Raises ModelError as `Scorer`.
    """
    limits = Limits(
        choices.n_ctx,
        choices.n_batch or FIRST_BATCH,
        choices.n_seq or FIRST_SEQUENCES,
        choices.threads or usable_cores(),
        choices.kv or "unified",
    )
    trial = _Trial(model, prompts, rows[:CHUNK_ROWS], limits)
    if choices.threads is None and not model.on_gpu:
        _use_fastest_threads(trial, progress)
    if None not in (choices.n_batch, choices.n_seq, choices.kv):
        in_use = trial.scorer.limits
        refused = "; these labels, prompts or this memory do not allow a split one" if in_use.kv != limits.kv else ""
        return trial.scorer, Tuned(in_use, choices.origin + refused)
    first = best = trial.measure(TRIAL_WAVES)
    fastest = trial.scorer.limits
    budget = min(MOST_SECONDS, SHARE_OF_JOB * total * len(prompts) * trial.tokens_per_row / first)
    tried = 1
    for change in _changes(model, choices):
        candidate = change(fastest, trial)
        if candidate is None or trial.spent + trial.opening + TRIAL_WAVES * candidate.n_batch / best > budget:
            continue
        speed = trial.speed_of(candidate)
        tried += 1
        if speed > WORTH_CHANGING * best:
            fastest, best = trial.scorer.limits, speed
    if not trial.is_open or trial.scorer.limits != fastest:
        trial.switch(fastest)
    reason = f"the fastest of {tried} tried, {best / first:.2f} times as fast as the first"
    if tried == 1:
        reason = "too few rows to be worth trying others"
    return trial.scorer, Tuned(fastest, reason, tried)


class _Trial:
    """One open scorer at a time, and what trying has cost.

    Attributes:
        spent: seconds so far; `opening`: of the scorer open now.
        tokens_per_row, rows_per_wave: in the waves measured last.
    """

    def __init__(
        self, model: Model, prompts: Mapping[int, LabelPrompt], rows: Sequence[tuple[str, str]], limits: Limits
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._rows = rows
        self.spent = 0.0
        self.scorer = self._open(limits)
        self.is_open = True

    def switch(self, limits: Limits) -> None:
        self.scorer.__exit__(None, None, None)
        self.is_open = False
        self.scorer = self._open(limits)
        self.is_open = True

    def _open(self, limits: Limits) -> Scorer:
        began = time.perf_counter()
        scorer = Scorer(self._model, self._prompts, limits).__enter__()
        self.opening = time.perf_counter() - began
        self.spent += self.opening
        return scorer

    def speed_of(self, limits: Limits) -> float:
        """Tokens a second; 0 where the machine has no memory for these limits."""
        try:
            self.switch(limits)
            return self.measure(TRIAL_WAVES)
        except ModelError:
            return 0.0

    def measure(self, waves: int, most_tokens: int | None = None) -> float:
        """Tokens a second."""
        began = time.perf_counter()
        tried = self.scorer.try_out(self._rows, waves, most_tokens)
        self.spent += time.perf_counter() - began
        self.tokens_per_row, self.rows_per_wave = tried.tokens / tried.rows, tried.rows / tried.waves
        return tried.tokens / tried.seconds


def _use_fastest_threads(trial: _Trial, progress: Progress) -> None:
    def seconds_with(count: int) -> float:
        trial.scorer.use_threads(count)
        return 1 / trial.measure(1, THREAD_TRIAL_TOKENS)

    most = trial.scorer.limits.threads or 1
    trial.scorer.use_threads(fastest_threads(most, seconds_with, progress))


def _changes(model: Model, choices: Choices) -> Iterator[Callable[[Limits, _Trial], Limits | None]]:
    """One change each to the fastest limits so far; None where it makes no sense."""
    if choices.n_batch is None:
        for n_batch in OTHER_BATCHES["gpu" if model.on_gpu else "cpu"]:
            yield functools.partial(_other_batch, n_batch)
    if choices.n_seq is None:
        yield _more_rows
    if choices.kv is None:
        yield _split


def _other_batch(n_batch: int, fastest: Limits, trial: _Trial) -> Limits:
    return replace(fastest, n_batch=n_batch)


def _more_rows(fastest: Limits, trial: _Trial) -> Limits | None:
    full = trial.rows_per_wave >= 0.9 * fastest.n_seq
    return replace(fastest, n_seq=min(2 * fastest.n_seq, MOST_SEQUENCES - 1)) if full else None


def _split(fastest: Limits, trial: _Trial) -> Limits | None:
    return replace(fastest, kv="split") if trial.scorer.may_split and fastest.kv != "split" else None
