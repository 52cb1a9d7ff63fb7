"""How probable each label is as the answer to a row.

The part of the prompt that all rows share is decoded once. Rows are taken in chunks of fixed size, sorted by length
inside a chunk, and packed into waves that fill n_batch. Waves depend on the rows alone, not on which of them were
answered before: logits move a little with the shape of a wave, and going on after a stop must give the same answers.

A label's probability is the product of its tokens' probabilities, each over the whole vocabulary, normalised over the
labels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from mlxdistill.errors import ModelError
from mlxdistill.platform.cores import usable_cores
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.trie import build_trie
from mlxdistill.teacher.branches import Plan, Step, plan_branches
from mlxdistill.teacher.engine import Engine, EngineSettings, Model, NoSlot, Token
from mlxdistill.teacher.tokens import plain_tokens, template_tokens

CHUNK_ROWS = 1024
MOST_SEQUENCES = 256  # LLAMA_MAX_SEQ
PREFIX = 0  # the sequence that holds what all rows share
CHARACTERS_PER_TOKEN = 16  # more than nearly any text has; how much of a long row is tokenised at first


@dataclass(frozen=True, slots=True)
class LabelPrompt:
    """A prompt in its parts: template, prompt, the row's text, prompt, template; and what may be answered.

    Attributes:
        before, after: the chat template's own text, in which control tokens count.
        head, tail: the prompt around the row's text, in which they do not.
        labels: their names, in the order of the probabilities.
        verbalizers: the text of each.
    """

    before: str
    head: str
    tail: str
    after: str
    labels: tuple[str, ...]
    verbalizers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """`n_ctx`: most tokens of a prompt with its labels; `n_batch`: of one decode; `n_seq`: most rows of a wave.

    `threads`: of the CPU; None: one for every core that may be used.
    """

    n_ctx: int
    n_batch: int
    n_seq: int
    threads: int | None


@dataclass(frozen=True, slots=True)
class Wave:
    """Answers to rows decoded together, the tokens decoded for them, and how many rows are finished by now."""

    answers: list[Answer]
    tokens: int
    finished: int


@dataclass(frozen=True, slots=True)
class _Row:
    index: int
    id: str
    tokens: list[int]
    truncated: bool


class Scorer:
    """Scores rows against one prompt. A context manager.

    Raises ModelError where the labels cannot be told apart or the prompt leaves no room for a text.
    """

    def __init__(self, model: Model, prompt: LabelPrompt, limits: Limits) -> None:
        self._model = model
        self._labels = prompt.labels
        self._prefix, self._tail = _shared_tokens(model, prompt)
        spaced = prompt.after[-1:].isspace()  # otherwise the space that some vocabularies add is what the model expects
        verbalizers = [plain_tokens(model, text, follows_text=spaced) for text in prompt.verbalizers]
        paths = build_trie(verbalizers, _end_of_turn(model), prompt.labels).paths
        self._plans = plan_branches(paths, MOST_SEQUENCES - 1)
        width = max(plan.branches for plan in self._plans)
        self._inner = max(len(plan.inner) for plan in self._plans)
        n_ctx = min(limits.n_ctx, model.info.context_length or limits.n_ctx)
        n_batch = min(limits.n_batch, n_ctx)
        self._most_rows = max(1, min(limits.n_seq, (MOST_SEQUENCES - 1) // width, n_batch // (1 + self._inner)))
        self._room = n_ctx - len(self._prefix) - len(self._tail) - self._inner
        if self._room < 1:
            message = (
                f"the prompt and its labels take {n_ctx - self._room} of {n_ctx} tokens and leave no room for a text"
            )
            raise ModelError(message, where=str(model.path), hint="shorten the prompt, or raise teacher.n_ctx")
        self._wave_tokens = min(n_batch, n_ctx - len(self._prefix))
        sequences = 1 + self._most_rows * width
        outputs = max(sequences, min(n_batch, self._most_rows * (1 + self._inner)))  # llama.cpp wants one a sequence
        settings = EngineSettings(n_ctx, n_batch, sequences, outputs, limits.threads or usable_cores())
        self.engine = Engine(model, settings)

    @property
    def limits(self) -> Limits:
        """As they are in use: the model, the prompt and the labels may have lowered what was asked for."""
        settings = self.engine.settings
        return Limits(settings.n_ctx, settings.n_batch, self._most_rows, self.engine.threads)

    @property
    def shared_tokens(self) -> list[int]:
        """What all rows have around their texts."""
        return self._prefix + self._tail

    def __enter__(self) -> Scorer:
        self.engine.__enter__()
        tokens = [Token(token, position, (PREFIX,)) for position, token in enumerate(self._prefix)]
        self.engine.decode(tokens, lambda index, logits: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.__exit__(kind, error, trace)

    def score(self, rows: Sequence[tuple[str, str]], done: frozenset[str] = frozenset()) -> Iterator[Wave]:
        """Answers rows (id, text) in waves. Rows in `done` take part in their waves' making, but are not answered.

        Raises ModelError, with the row's id, where the model returns something that is not a number.
        """
        finished = 0
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS]
            if all(row_id in done for row_id, _ in chunk):
                finished += len(chunk)
                continue
            for wave in self._waves(chunk):
                finished += len(wave)
                if all(row.id in done for row in wave):
                    continue
                before, began = self.engine.tokens, time.perf_counter()
                scores = self._log_probabilities(wave)
                seconds = (time.perf_counter() - began) / len(wave)
                answers = [
                    self._answer(row, score, seconds)
                    for row, score in sorted(zip(wave, scores, strict=True), key=lambda pair: pair[0].index)
                    if row.id not in done
                ]
                yield Wave(answers, self.engine.tokens - before, finished)

    def _waves(self, chunk: Sequence[tuple[str, str]]) -> Iterator[list[_Row]]:
        rows = [self._row(index, row_id, text) for index, (row_id, text) in enumerate(chunk)]
        wave: list[_Row] = []
        tokens = 0
        for row in sorted(rows, key=lambda row: (len(row.tokens), row.index)):
            needed = len(row.tokens) + self._inner
            if wave and (len(wave) == self._most_rows or tokens + needed > self._wave_tokens):
                yield wave
                wave, tokens = [], 0
            wave.append(row)
            tokens += needed
        if wave:
            yield wave

    def _row(self, index: int, row_id: str, text: str) -> _Row:
        length = self._room * CHARACTERS_PER_TOKEN
        tokens = plain_tokens(self._model, text[:length])
        while length < len(text) and len(tokens) <= self._room:
            length *= 4
            tokens = plain_tokens(self._model, text[:length])
        return _Row(index, row_id, tokens[: self._room] + self._tail, len(tokens) > self._room)

    def _log_probabilities(self, rows: Sequence[_Row]) -> NDArray[np.float64]:
        """Log probabilities of the labels, not yet normalised over them: (rows, labels)."""
        scores = np.empty((len(rows), len(self._labels)))
        try:
            for plan in self._plans:
                scores[:, plan.labels] = self._decode(rows, plan)
        except NoSlot:
            if len(rows) == 1:
                hint = "lower teacher.n_batch, or raise teacher.n_ctx"
                raise ModelError("the context has no room for this row", where=f"row {rows[0].id}", hint=hint) from None
            half = len(rows) // 2
            return np.concatenate([self._log_probabilities(rows[:half]), self._log_probabilities(rows[half:])])
        return scores

    def _decode(self, rows: Sequence[_Row], plan: Plan) -> NDArray[np.float64]:
        tokens: list[Token] = []
        asked: dict[int, tuple[int, int]] = {}
        for index, row in enumerate(rows):
            first = 1 + index * plan.branches
            branches = tuple(range(first, first + plan.branches))
            start = len(self._prefix)
            tokens += [Token(token, start + place, branches) for place, token in enumerate(row.tokens[:-1])]
            start += len(row.tokens)
            asked[len(tokens)] = (index, 0)
            tokens.append(Token(row.tokens[-1], start - 1, branches, wanted=True))
            for number, node in enumerate(plan.inner, start=1):
                asked[len(tokens)] = (index, number)
                through = branches[node.start : node.end]
                tokens.append(Token(node.token, start + node.depth, through, wanted=True))
        sequences = range(1, 1 + len(rows) * plan.branches)
        found: dict[tuple[int, Step], float] = {}

        def read(place: int, logits: NDArray[np.float32]) -> None:
            index, node = asked[place]
            wanted = plan.next_tokens[node]
            for token, value in zip(wanted, _log_softmax_at(logits, wanted), strict=True):
                found[index, Step(node, token)] = float(value)

        try:
            for sequence in sequences:
                self.engine.branch(PREFIX, sequence)
            self.engine.decode(tokens, read)
        finally:
            for sequence in sequences:
                self.engine.forget(sequence)
        return np.array(
            [[sum(found[index, step] for step in path) for path in plan.paths] for index in range(len(rows))]
        )

    def _answer(self, row: _Row, score: NDArray[np.float64], seconds: float) -> Answer:
        if np.isnan(score).any() or np.isneginf(score.max()):
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
        )


def _shared_tokens(model: Model, prompt: LabelPrompt) -> tuple[list[int], list[int]]:
    """Tokens before and after a row's text."""
    prefix = template_tokens(model, prompt.before)
    if model.bos is not None and prefix[:1] != [model.bos]:
        prefix.insert(0, model.bos)
    prefix += plain_tokens(model, prompt.head, follows_text=bool(prompt.before))
    tail = plain_tokens(model, prompt.tail) + template_tokens(model, prompt.after, follows_text=True)
    if not tail:
        message = "the chat template ends with the user's text, and marks no beginning of an answer"
        raise ModelError(message, where=str(model.path), hint="end the prompt with a line after {text}")
    return prefix, tail


def _end_of_turn(model: Model) -> int:
    if model.end_of_turn is None:
        hint = "use an instruction-tuned model"
        raise ModelError("the model has no token that ends a turn", where=str(model.path), hint=hint)
    return model.end_of_turn


def _log_softmax_at(logits: NDArray[np.float32], tokens: Sequence[int]) -> NDArray[np.float64]:
    """log softmax over the whole vocabulary in float64, at some tokens."""
    with np.errstate(invalid="ignore"):  # what is not a number is found, and named with its row, further up
        shifted = np.subtract(logits, logits.max(), dtype=np.float64)
        chosen = shifted[list(tokens)]
        result: NDArray[np.float64] = chosen - np.log(np.exp(shifted, out=shifted).sum())
    return result
