"""Answers that the model writes, many at a time (continuous batching). Lives in the teacher's child process.

The part of the prompt that all rows share is decoded once. A row's prompt is decoded in a sequence of its own, from
which each of its answers branches off, so that several samples, and a second attempt, cost no second prompt. Every
step is one llama_decode: one token of each answer under way, and as many tokens of new rows' prompts as fit in
n_batch. A finished answer's place goes to the next at once.

A row is let in only when there are cells for all that it may write, so that an answer never has to be thrown away
half written; should llama.cpp find no cells all the same, the rows let in last wait and begin anew.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from mlxdistill.errors import ModelError
from mlxdistill.platform.cores import usable_cores
from mlxdistill.platform.memory import machine_memory_bytes
from mlxdistill.tasks.protocols import Answer, Progress
from mlxdistill.teacher.drafts import Draft, Reader, Writer, Writing
from mlxdistill.teacher.engine import Engine, EngineSettings, Model, NoSlot, Token
from mlxdistill.teacher.lanes import MOST_SEQUENCES, Limits
from mlxdistill.teacher.prompts import LabelPrompt, prompt_tokens
from mlxdistill.teacher.threads import fastest_threads
from mlxdistill.teacher.tokens import first_tokens, plain_tokens

PREFIX = 0  # the sequence that holds what all rows share
TRIAL = 1  # any other
MOST_WRITERS = (MOST_SEQUENCES - 1) // 2  # each has a row's prompt and an answer
USUAL_TEXT_TOKENS = 256  # of a row, when the memory for many of them is sized
MEMORY_SHARE = 1 / 8  # of the machine's, for the cells of more than one row
SKIPS_MASKED = True  # faster the more answers are written at a time; near ties fall one way or the other with the batch
GROUP_ANSWERS = 32
GROUP_SECONDS = 1.0
ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Group:
    """Answers ready to be kept, and what was done since the group before.

    Attributes:
        prefill_tokens: decoded of prompts; `decode_tokens`: of answers.
        seconds: in all; `engine_seconds`: those of them that llama.cpp took.
        finished: rows that have all their answers by now.
    """

    answers: list[Answer]
    prefill_tokens: int
    decode_tokens: int
    seconds: float
    engine_seconds: float
    finished: int


@dataclass(slots=True, eq=False)
class _Row:
    """A row in the queue or under way.

    Attributes:
        waiting: sample and attempt of each answer to begin; `running`: how many have begun.
        tokens: of its text and what comes after it, once it is near; `decoded`: how many of them are.
        sequence: its prompt's; `place`: the one kept for its first answer.
        logits: after its prompt.
        seconds: spent on it, not yet counted with an answer.
    """

    id: str
    text: str
    waiting: deque[tuple[int, int]]
    tokens: list[int] = field(default_factory=list)
    truncated: bool = False
    sequence: int = -1
    place: int = -1
    decoded: int = 0
    running: int = 0
    logits: NDArray[np.float32] | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Answering:
    """A draft, of which row, and the sequence that it is written in."""

    row: _Row
    draft: Draft
    place: int


class Generator:
    """Writes answers to one prompt. A context manager.

    Args:
        limits: `n_seq` answers are written at a time; the memory is unified.

    Raises ModelError where the prompt and the answer leave no room for a text.
    """

    def __init__(self, model: Model, prompt: LabelPrompt, task: Reader, writing: Writing, limits: Limits) -> None:
        self._model = model
        self._writing = writing
        self._prompt = prompt_tokens(model, prompt)
        self._prompt_labels = prompt.verbalizers
        n_ctx = min(limits.n_ctx, model.info.context_length or limits.n_ctx)
        shared = len(self._prompt.prefix) + len(self._prompt.tail)
        self._longest = n_ctx - shared - writing.max_tokens
        if self._longest < 1:
            message = (
                f"the prompt takes {shared} of {n_ctx} tokens and the answer {writing.max_tokens}; that leaves no room"
                " for a text"
            )
            hint = "raise teacher.n_ctx, lower max_tokens, or shorten the prompt"
            raise ModelError(message, where=str(model.path), hint=hint)
        self._writer = Writer(model, task, writing)
        writers = min(limits.n_seq, limits.n_batch, MOST_WRITERS)
        cells = self._cells(n_ctx, writers)
        self._free_cells = cells - len(self._prompt.prefix)
        sequences = 1 + 2 * writers
        threads = limits.threads or usable_cores()
        self.engine = Engine(
            model, EngineSettings(cells, limits.n_batch, sequences, sequences, threads, skips_masked=SKIPS_MASKED)
        )
        self.limits = replace(limits, n_ctx=n_ctx, n_seq=writers, threads=threads, kv="unified")
        self._row_sequences = list(range(writers, 0, -1))
        self._places = list(range(2 * writers, writers, -1))
        self._queue: deque[_Row] = deque()
        self._rows: list[_Row] = []
        self._answering: list[_Answering] = []
        self._answers: list[Answer] = []
        self._finished = 0
        self.prefill_tokens = self.decode_tokens = 0

    def _cells(self, n_ctx: int, writers: int) -> int:
        """Enough for the longest row, and for `writers` usual ones where memory allows."""
        tail, prefix = len(self._prompt.tail), len(self._prompt.prefix)
        usual = min(self._longest, USUAL_TEXT_TOKENS) + tail + self._writing.max_tokens
        affordable = int(MEMORY_SHARE * machine_memory_bytes() / max(1, self._model.cell_bytes))
        return max(n_ctx, min(prefix + writers * usual, affordable))

    @property
    def fewest_tokens(self) -> int:
        """Of the longest answer that is nothing but a label in the form asked for."""
        form = self._writing.form
        shortest = (form.shortest(verbalizer) for verbalizer in self._prompt_labels)
        return max(len(plain_tokens(self._model, text)) for text in shortest)

    def __enter__(self) -> Generator:
        self.engine.__enter__()
        tokens = [Token(token, position, (PREFIX,)) for position, token in enumerate(self._prompt.prefix)]
        self.engine.decode(tokens, lambda index, logits: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget_all()
        self._writer.__exit__(kind, error, trace)
        self.engine.__exit__(kind, error, trace)

    def generate(
        self, rows: Sequence[tuple[str, str]], done: frozenset[tuple[str, int]] = frozenset()
    ) -> Iterator[Group]:
        """Answers rows (id, text), `samples` times each but for those in `done` (id, sample).

        Answers come as they are finished, in groups of some 32 or of about a second. An answer that cannot be parsed is
        asked for once more, with other draws; then it is `unparsable`.

        Raises ModelError, with the row's id, where the model returns something that is not a number.
        """
        self._forget_all()
        self._finished = 0
        for row_id, text in rows:
            wanted = deque((sample, 0) for sample in range(self._writing.samples) if (row_id, sample) not in done)
            if wanted:
                self._queue.append(_Row(row_id, text, wanted))
            else:
                self._finished += 1
        before = self._counts()
        while self._queue or self._rows:
            self._let_in()
            self._step()
            seconds = time.perf_counter() - before[-1]
            whole = not (self._queue or self._rows)
            if self._answers and (whole or len(self._answers) >= GROUP_ANSWERS or seconds >= GROUP_SECONDS):
                answers, self._answers = self._answers, []
                prefill, decode, engine, total = (now - then for now, then in zip(self._counts(), before, strict=True))
                yield Group(answers, int(prefill), int(decode), total, engine, self._finished)
                before = self._counts()

    def _counts(self) -> tuple[float, ...]:
        return self.prefill_tokens, self.decode_tokens, self.engine.seconds, time.perf_counter()

    def use_fastest_threads(self, progress: Progress) -> None:
        """Decodes from here on with the number of threads that is fastest just now."""
        tokens = (self._prompt.prefix + self._prompt.tail)[: self.limits.n_seq]
        last = len(self._prompt.prefix) + len(tokens) - 1

        def seconds_with(count: int) -> float:
            self.engine.use_threads(count)
            self.engine.branch(PREFIX, TRIAL)
            batch = [Token(token, last + 1 - len(tokens) + place, (TRIAL,)) for place, token in enumerate(tokens)]
            began = time.perf_counter()
            self.engine.decode([*batch[:-1], replace(batch[-1], wanted=True)], lambda index, logits: None)
            self.engine.forget(TRIAL)
            return time.perf_counter() - began

        threads = fastest_threads(self.limits.threads or 1, seconds_with, progress)
        self.engine.use_threads(threads)
        self.limits = replace(self.limits, threads=threads)

    def _let_in(self) -> None:
        """Begins more answers to rows whose prompts are decoded, then lets in new rows."""
        for row in list(self._rows):
            while row.logits is not None and row.waiting and (place := self._take_place(0)) is not None:
                self._begin(row, place)
        while self._queue and self._row_sequences:
            row = self._queue[0]
            if not row.tokens:
                row.tokens, row.truncated = first_tokens(self._model, row.text, self._longest)
                row.tokens += self._prompt.tail
            place = self._take_place(len(row.tokens))
            if place is None:
                return
            row.place, row.sequence = place, self._row_sequences.pop()
            self._rows.append(self._queue.popleft())
            self.engine.branch(PREFIX, row.sequence)

    def _take_place(self, tokens: int) -> int | None:
        """A sequence to write an answer in, with cells for it and for so many tokens besides; None where there is none.
        With nothing under way a row is let in whatever the count says, so that none waits for ever."""
        needed = tokens + self._writing.max_tokens
        if not self._places or (needed > self._free_cells and self._rows):
            return None
        self._free_cells -= needed
        return self._places.pop()

    def _step(self) -> None:
        """One llama_decode, and what follows from it."""
        shared = len(self._prompt.prefix)
        tokens = []
        for each in self._answering:
            position = shared + len(each.row.tokens) + each.draft.count - 1
            tokens.append(Token(each.draft.token, position, (each.place,), wanted=True))
        readers: dict[int, Draft | _Row] = {index: each.draft for index, each in enumerate(self._answering)}
        decoding = len(tokens)
        parts: list[tuple[_Row, int]] = []
        for row in self._rows:
            room = self.engine.settings.n_batch - len(tokens)
            part = row.tokens[row.decoded : row.decoded + room]
            if part:
                parts.append((row, len(part)))
                first = shared + row.decoded
                tokens += [Token(token, first + place, (row.sequence,)) for place, token in enumerate(part)]
                if row.decoded + len(part) == len(row.tokens):
                    tokens[-1] = replace(tokens[-1], wanted=True)
                    readers[len(tokens) - 1] = row
        began = time.perf_counter()
        try:
            self.engine.decode(tokens, lambda index, logits: self._read(readers[index], logits))
        except NoSlot:
            self._make_room()
            return
        share = (time.perf_counter() - began) / len(tokens)
        self.decode_tokens += decoding
        self.prefill_tokens += len(tokens) - decoding
        self._go_on(parts, share)

    def _read(self, reader: Draft | _Row, logits: NDArray[np.float32]) -> None:
        if isinstance(reader, _Row):
            reader.logits = logits.copy()
        else:
            self._writer.write(reader, logits)

    def _go_on(self, parts: Sequence[tuple[_Row, int]], seconds: float) -> None:
        """After a step: finished answers make place for the next, and rows whose prompts are decoded begin theirs.

        Args:
            parts: how many tokens of which prompts were decoded.
            seconds: what a token took.
        """
        ended = [each for each in self._answering if each.draft.ended]
        for each in self._answering:
            each.draft.seconds += seconds
        self._answering = [each for each in self._answering if not each.draft.ended]
        for each in ended:
            self._end(each.row, each.draft)
            self.engine.forget(each.place)
            self._begin(each.row, each.place)
        for row, count in parts:
            row.decoded += count
            row.seconds += seconds * count
            if row.logits is not None:
                self._begin(row, row.place)

    def _begin(self, row: _Row, place: int) -> None:
        """Begins the row's next answer in this place. Where none is waiting, the place is free, and after its last
        answer the row is finished."""
        assert row.logits is not None
        while row.waiting:
            draft = self._writer.begin(row.id, *row.waiting.popleft())
            draft.seconds, row.seconds = row.seconds, 0.0
            row.running += 1
            self._writer.write(draft, row.logits)
            if not draft.ended:
                self.engine.branch(row.sequence, place)
                self._answering.append(_Answering(row, draft, place))
                return
            self._end(row, draft)
        self._give_back(place)
        if not row.running:
            self._let_go(row)
            self._finished += 1

    def _end(self, row: _Row, draft: Draft) -> None:
        """A finished answer is kept, or asked for once more."""
        draft.close()
        row.running -= 1
        label = self._writer.label(draft)
        if label is None and self._writing.retries and draft.attempt + 1 < ATTEMPTS:
            row.waiting.append((draft.sample, draft.attempt + 1))
            row.seconds += draft.seconds
            return
        self._answers.append(
            Answer(
                row_id=row.id,
                label=label,
                outcome="unparsable" if label is None else "truncated" if row.truncated else "answered",
                text=draft.whole_text,
                seconds=draft.seconds,
                sample=draft.sample,
                logprobs=self._writer.logprobs(draft),
            )
        )

    def _let_go(self, row: _Row) -> None:
        self._rows.remove(row)
        self.engine.forget(row.sequence)
        self._row_sequences.append(row.sequence)
        self._free_cells += len(row.tokens)

    def _give_back(self, place: int) -> None:
        self._places.append(place)
        self._free_cells += self._writing.max_tokens

    def _make_room(self) -> None:
        """After llama.cpp found no cells: half of what is under way, let in last, waits to begin anew. From here on no
        more is let in than what now remains."""
        if len(self._rows) > 1:
            for row in reversed(self._rows[(len(self._rows) + 1) // 2 :]):
                self._send_back(row)
        elif len(self._answering) > 1:
            for each in self._answering[(len(self._answering) + 1) // 2 :]:
                self._drop(each)
        else:
            hint = "lower teacher.n_batch or teacher.max_tokens, or raise teacher.n_ctx"
            raise ModelError("the context has no room for this row", where=f"row {self._rows[0].id}", hint=hint)
        self._free_cells = min(self._free_cells, 0)

    def _send_back(self, row: _Row) -> None:
        """To the head of the queue, its unfinished answers to be begun anew."""
        for each in [each for each in self._answering if each.row is row]:
            self._drop(each)
        if row.logits is None:
            self._give_back(row.place)
        self._let_go(row)
        row.decoded, row.logits = 0, None
        self._queue.appendleft(row)

    def _drop(self, each: _Answering) -> None:
        self._answering.remove(each)
        self.engine.forget(each.place)
        each.draft.close()
        each.row.running -= 1
        each.row.waiting.append((each.draft.sample, each.draft.attempt))
        self._give_back(each.place)

    def _forget_all(self) -> None:
        for row in list(self._rows):
            self._send_back(row)
        self._queue.clear()
        self._answers.clear()
