"""How probable each label is as the answer to a row.

The part of the prompt that all rows share is decoded once. Rows are taken in chunks of fixed size, sorted by length
inside a chunk, and packed into waves that fill n_batch. Waves depend on the rows alone, not on which of them were
answered before: logits move a little with the shape of a wave, and going on after a stop must give the same answers.

A label's probability is the product of its tokens' probabilities, each over the whole vocabulary, normalised over the
labels in float64.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from mlxdistill.errors import ModelError
from mlxdistill.platform.memory import machine_memory_bytes
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.trie import build_trie
from mlxdistill.teacher.branches import plan_branches
from mlxdistill.teacher.engine import Engine, Model, NoSlot
from mlxdistill.teacher.lanes import CELLS_STEP, MOST_SEQUENCES, Lane, Layout, Limits
from mlxdistill.teacher.prompts import LabelPrompt, prompt_tokens, verbalizer_tokens
from mlxdistill.teacher.tokens import first_tokens

CHUNK_ROWS = 1024
SPLIT_TEXT_TOKENS = 256  # longest text of a row in a split memory, of which every sequence has room for one
SPLIT_MEMORY_SHARE = 1 / 16  # of the machine's memory, at most, for a split key-value memory
FEWEST_SPLIT_ROWS = 4


@dataclass(frozen=True, slots=True)
class Wave:
    """Answers to rows decoded together, what was decoded for them, and how many rows are finished by now.

    `engine_seconds`: of llama.cpp's own work.
    """

    answers: list[Answer]
    tokens: int
    engine_seconds: float
    finished: int


@dataclass(frozen=True, slots=True)
class Tried:
    """What `Scorer.try_out` decoded."""

    waves: int
    rows: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Row:
    index: int
    id: str
    tokens: list[int]
    truncated: bool


class Scorer:
    """Scores rows against one prompt, or several that list the labels in different orders. A context manager.

    Args:
        prompts: by the number that answers to it have as their sample.

    Raises ModelError where the labels cannot be told apart or the prompt leaves no room for a text.
    """

    def __init__(self, model: Model, prompts: Mapping[int, LabelPrompt], limits: Limits) -> None:
        first = next(iter(prompts.values()))
        self._model = model
        self._labels = first.labels
        self._samples = tuple(prompts)
        self._prompts = [prompt_tokens(model, prompt) for prompt in prompts.values()]
        paths = build_trie(verbalizer_tokens(model, first), _end_of_turn(model), first.labels).paths
        self._plans = plan_branches(paths, 1 if model.is_recurrent else MOST_SEQUENCES - len(prompts))
        self._inner = max(len(plan.inner) for plan in self._plans)
        self._tail = max(len(prompt.tail) for prompt in self._prompts)
        n_ctx = min(limits.n_ctx, model.info.context_length or limits.n_ctx)
        self._longest = n_ctx - self._tail - self._inner - max(len(prompt.prefix) for prompt in self._prompts)
        if self._longest < 1:
            message = (
                f"the prompt and its labels take {n_ctx - self._longest} of {n_ctx} tokens and leave no room for a text"
            )
            raise ModelError(message, where=str(model.path), hint="shorten the prompt, or raise teacher.n_ctx")
        self._limits = replace(limits, n_ctx=n_ctx, kv=limits.kv if self.may_split else "unified")
        self._lanes: dict[Layout, Lane] = {}

    @property
    def may_split(self) -> bool:
        """Whether a split key-value memory can hold these labels and prompts, and is not too large for the machine."""
        chains = all(plan.branches == 1 for plan in self._plans)
        one = chains and len(self._prompts) == 1 and not self._model.is_recurrent
        return one and self._split_rows >= FEWEST_SPLIT_ROWS

    @property
    def _split_rows(self) -> int:
        """How many rows' shares fit in what a split memory may take."""
        row = self.prefix_tokens + min(SPLIT_TEXT_TOKENS, self._longest) + self._tail + self._inner
        share = -(-row // CELLS_STEP) * CELLS_STEP * max(1, self._model.cell_bytes)
        return int(SPLIT_MEMORY_SHARE * machine_memory_bytes() / share)

    @property
    def limits(self) -> Limits:
        """As they are in use. `n_seq` stays as asked for: how many rows fit in a wave depends on the labels too, and
        the model's next labels shall not inherit that."""
        return replace(self._limits, threads=self.engine.threads)

    @property
    def engine(self) -> Engine:
        return self._lane(0).engine

    @property
    def prefix_tokens(self) -> int:
        """Tokens that are decoded once for all rows."""
        return max(len(prompt.prefix) for prompt in self._prompts)

    @property
    def inner_tokens(self) -> int:
        """Tokens of the labels that are decoded with each row."""
        return sum(len(plan.inner) for plan in self._plans)

    @property
    def shared_tokens(self) -> list[int]:
        """What all rows have around their texts."""
        return [*self._prompts[0].prefix, *self._prompts[0].tail]

    def __enter__(self) -> Scorer:
        self._lane(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lane in self._lanes.values():
            lane.__exit__(kind, error, trace)
        self._lanes.clear()

    def use_threads(self, count: int) -> None:
        """Decodes with so many threads of the CPU from here on."""
        self._limits = replace(self._limits, threads=count)
        for lane in self._lanes.values():
            lane.engine.use_threads(count)

    def try_out(self, rows: Sequence[tuple[str, str]], waves: int, most_tokens: int | None = None) -> Tried:
        """Decodes some of these rows' waves, long and short, and forgets the answers.

        Args:
            waves: how many.
            most_tokens: of each wave only the first rows, with so many tokens at most (one row at least).
        """
        made = list(self._waves(rows))
        chosen = [made[int((place + 0.5) * len(made) / waves)] for place in range(waves)] if len(made) > waves else made
        if most_tokens is not None:
            shared = self._tail + self._inner
            chosen = [wave[: max(1, most_tokens // (len(wave[-1].tokens) + shared))] for wave in chosen]
        before, began = self._decoded()[0], time.perf_counter()
        for wave in chosen:
            self._log_probabilities(wave, 0)
        seconds = time.perf_counter() - began
        return Tried(len(chosen), sum(map(len, chosen)), self._decoded()[0] - before, seconds)

    def score(self, rows: Sequence[tuple[str, str]], done: frozenset[tuple[str, int]] = frozenset()) -> Iterator[Wave]:
        """Answers rows (id, text) in waves, to each prompt. Those in `done` (id, sample) take part in their waves'
        making, but are not answered.

        Raises ModelError, with the row's id, where the model returns something that is not a number.
        """
        finished = 0
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS]
            if all((row_id, sample) in done for row_id, _ in chunk for sample in self._samples):
                finished += len(chunk)
                continue
            for wave in self._waves(chunk):
                finished += len(wave)
                answers: list[Answer] = []
                tokens, engine_seconds = self._decoded()
                for number, sample in enumerate(self._samples):
                    if all((row.id, sample) in done for row in wave):
                        continue
                    began = time.perf_counter()
                    scores = self._log_probabilities(wave, number)
                    seconds = (time.perf_counter() - began) / len(wave)
                    answers += [
                        self._answer(row, sample, score, seconds)
                        for row, score in sorted(zip(wave, scores, strict=True), key=lambda pair: pair[0].index)
                        if (row.id, sample) not in done
                    ]
                if answers:
                    after, seconds_after = self._decoded()
                    yield Wave(answers, after - tokens, seconds_after - engine_seconds, finished)

    def _decoded(self) -> tuple[int, float]:
        """Tokens, and llama.cpp's seconds, so far."""
        engines = [lane.engine for lane in self._lanes.values()]
        return sum(engine.tokens for engine in engines), sum(engine.seconds for engine in engines)

    def _lane(self, length: int) -> Lane:
        """The lane for texts of so many tokens."""
        short = min(SPLIT_TEXT_TOKENS, self._longest)
        kv: Layout = "split" if self._limits.kv == "split" and length <= short else "unified"
        if kv not in self._lanes:
            longest = short if kv == "split" else self._longest
            n_seq = min(self._limits.n_seq, self._split_rows) if kv == "split" else self._limits.n_seq
            limits = replace(self._limits, kv=kv, n_seq=n_seq)
            lane = Lane(self._model, self._prompts, self._plans, limits, longest)
            self._lanes[kv] = lane.__enter__()
        return self._lanes[kv]

    def _waves(self, chunk: Sequence[tuple[str, str]]) -> Iterator[list[_Row]]:
        rows = [self._row(index, row_id, text) for index, (row_id, text) in enumerate(chunk)]
        wave: list[_Row] = []
        tokens = 0
        lane = self._lane(0)
        for row in sorted(rows, key=lambda row: (len(row.tokens), row.index)):
            needed = len(row.tokens) + self._tail + self._inner
            if wave and (
                len(wave) == lane.most_rows
                or tokens + needed > lane.most_tokens
                or len(row.tokens) > lane.longest >= len(wave[-1].tokens)
            ):
                yield wave
                wave, tokens = [], 0
            wave.append(row)
            tokens += needed
        if wave:
            yield wave

    def _row(self, index: int, row_id: str, text: str) -> _Row:
        tokens, truncated = first_tokens(self._model, text, self._longest)
        return _Row(index, row_id, tokens, truncated)

    def _log_probabilities(self, rows: Sequence[_Row], number: int) -> NDArray[np.float64]:
        """Log probabilities of the labels, not yet normalised over them: (rows, labels)."""
        lane = self._lane(len(rows[-1].tokens))
        scores = np.empty((len(rows), len(self._labels)))
        try:
            for plan in self._plans:
                scores[:, plan.labels] = lane.log_probabilities([row.tokens for row in rows], plan, number)
        except NoSlot:
            if len(rows) == 1:
                hint = "lower teacher.n_batch, or raise teacher.n_ctx"
                raise ModelError("the context has no room for this row", where=f"row {rows[0].id}", hint=hint) from None
            half = len(rows) // 2
            return np.concatenate([self._log_probabilities(part, number) for part in (rows[:half], rows[half:])])
        return scores

    def _answer(self, row: _Row, sample: int, score: NDArray[np.float64], seconds: float) -> Answer:
        if np.isnan(score).any() or not np.isfinite(score.max()):
            hint = "the model file may be damaged: get it again, or use another quantization"
            raise ModelError("the model's answer is not a number", where=f"row {row.id}", hint=hint)
        probabilities = np.exp(score - score.max())
        probabilities /= probabilities.sum()
        return Answer(
            row_id=row.id,
            label=self._labels[int(probabilities.argmax())],
            probabilities=tuple(probabilities.tolist()),
            outcome="truncated" if row.truncated else "answered",
            seconds=seconds,
            sample=sample,
        )


def _end_of_turn(model: Model) -> int:
    if model.end_of_turn is None:
        hint = "use an instruction-tuned model"
        raise ModelError("the model has no token that ends a turn", where=str(model.path), hint=hint)
    return model.end_of_turn
