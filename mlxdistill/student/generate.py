"""Texts from a student, many prompts at once.

mlx-lm's `BatchGenerator` decodes them together: a row that has ended makes way for another. What it leaves to its
caller is decided here. What all prompts begin with is read once. Rows of like length are read together, so that little
padding is computed; they join those that are being written a few at a time, because reading a single one would hold up
all the others; and no more of them than their keys and values may take memory. A text does not depend on what else is
written at the time, but for tokens that are as likely as each other to within rounding.

Whether a model's layers and caches can do that is tried once, at opening: some kinds of cache cannot be batched, and a
model may take no heed of padding. Such a model writes one text at a time.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlxdistill.student.head import tolerance

ROWS_AT_ONCE = 32
ROWS_SORTED = 128  # among so many rows, those of like length are brought together; texts are handed on in waves of them
CACHED_SHARE = 4
JOINING_SHARE = 4
SPREAD = 0x9E3779B97F4A7C15  # keeps the keys of neighbouring seeds apart
PROBE_TOKENS = 4
PROBE_BEGINNING = (2, 6)
PROBES = ((1, 2, 3, 4, 5, 6, 7), (7, 6, 5), (3, 1, 4, 1, 5))

Tokens = tuple[int, ...]
Sampler = Callable[[Any], Any]
_UNSUPPORTED = (ValueError, TypeError, AttributeError, IndexError, KeyError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen: the likeliest, or, at a temperature above 0, by chance.

    Chance follows from the seed, the prompt's number and the token's place alone.
    """

    temperature: float = 0.0
    seed: int = 0

    def sampler(self, number: int) -> Sampler | None:
        """For the prompt of this number, log-probabilities [1, vocabulary] in and token [1] out; None: the likeliest.

        A sampler chooses one token after another, so it serves one text.
        """
        import mlx.core as mx

        if self.temperature == 0:
            return None
        first = self.seed * SPREAD + (number << 32)
        keys = (mx.random.key((first + place) % 2**64) for place in itertools.count())
        return lambda logprobs: mx.random.categorical(logprobs / self.temperature, key=next(keys))


@dataclass(frozen=True, slots=True)
class Written:
    """The tokens that answer a prompt; `ended` by a stop token, which is left out, or by the limit."""

    tokens: Tokens
    ended: bool


class TextGenerator:
    """Writes on from prompts.

    Args:
        model: an mlx-lm model, its adapter loaded.
        stop_tokens: any of which ends a text.
        batch_tokens: most positions that are read at once, and a share of those whose keys and values are kept.

    Attributes:
        batched: whether several texts are written at once.
        shares: whether they go on from one reading of what their prompts begin with.
    """

    def __init__(self, model: Any, stop_tokens: Iterable[int], *, batch_tokens: int) -> None:
        self._model = model
        self._stop_tokens = frozenset(stop_tokens)
        self._batch_tokens = batch_tokens
        self.batched = self._probe(())
        self.shares = self.batched and self._probe(PROBE_BEGINNING)

    def generate(
        self,
        prompts: Iterable[Sequence[int]],
        max_tokens: int,
        *,
        beginning: Tokens = (),
        sampling: Sampling | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> Iterator[list[Written]]:
        """What follows each prompt, in the order of the prompts, in waves.

        Args:
            prompts: of at least one token each; taken some hundred ahead of what is being written.
            max_tokens: of each text.
            beginning: what the prompts are expected to begin with; one that does not is read whole.
            check_stop: called between tokens; whatever it raises ends the writing.
        """
        how = sampling or Sampling()
        if self.batched:
            shared = _Shared(self._model, beginning if self.shares else ())
            texts = self._together(iter(prompts), max_tokens, shared, how, check_stop)
        else:
            texts = self._in_turn(prompts, max_tokens, how, check_stop)
        finished: dict[int, Written] = {}
        first = 0
        for number, written in texts:
            finished[number] = written
            if all(first + place in finished for place in range(ROWS_AT_ONCE)):
                wave = [finished.pop(first + place) for place in range(ROWS_AT_ONCE)]
                first += len(wave)
                yield wave
        if finished:
            yield [finished[number] for number in sorted(finished)]

    def _together(
        self,
        prompts: Iterator[Sequence[int]],
        max_tokens: int,
        shared: _Shared,
        sampling: Sampling,
        check_stop: Callable[[], None],
    ) -> Iterator[tuple[int, Written]]:
        from mlx_lm.generate import BatchGenerator

        queue = _Queue(prompts, max_tokens, self._batch_tokens)
        running: dict[int, _Running] = {}
        generator = BatchGenerator(
            self._model,
            stop_tokens=[[token] for token in self._stop_tokens],
            completion_batch_size=ROWS_AT_ONCE,
            prefill_batch_size=ROWS_AT_ONCE,
        )
        try:
            while True:
                check_stop()
                if joining := queue.take([row.positions for row in running.values()]):
                    names = generator.insert(
                        [shared.rest(row.prompt) for row in joining],
                        [max_tokens] * len(joining),
                        caches=[shared.caches(row.prompt) for row in joining],
                        samplers=[sampling.sampler(row.number) for row in joining],
                    )
                    running.update(zip(names, joining, strict=True))
                if not running:
                    return
                for response in generator.next()[1]:
                    row = running[response.uid]
                    ended = response.finish_reason == "stop"
                    if not ended:
                        row.written.append(response.token)
                    if response.finish_reason is not None:
                        del running[response.uid]
                        yield row.number, Written(tuple(row.written), ended)
        finally:
            generator.close()

    def _in_turn(
        self,
        prompts: Iterable[Sequence[int]],
        max_tokens: int,
        sampling: Sampling,
        check_stop: Callable[[], None],
    ) -> Iterator[tuple[int, Written]]:
        for number, prompt in enumerate(prompts):
            written: list[int] = []
            ended = False
            for token, _ in self._steps(prompt, max_tokens, sampling.sampler(number)):
                check_stop()
                if ended := token in self._stop_tokens:
                    break
                written.append(token)
            yield number, Written(tuple(written), ended)

    def _steps(self, prompt: Sequence[int], max_tokens: int, sampler: Sampler | None = None) -> Iterator[Any]:
        """The tokens after one prompt, and the log-probabilities [vocabulary] that each was chosen by."""
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        tokens = mx.array(list(prompt), mx.uint32)
        yield from generate_step(tokens, self._model, max_tokens=max_tokens, sampler=sampler)

    def _probe(self, beginning: Tokens) -> bool:
        """Whether prompts of different lengths, some of which join later, get what each gets alone."""
        import mlx.core as mx

        try:
            together = self._probe_together(beginning)
        except _UNSUPPORTED:
            return False
        for number, prompt in enumerate(PROBES):
            steps = self._steps(beginning + prompt, len(together[number]))
            for (token, logprobs), (same_token, same_logprobs) in zip(together[number], steps, strict=True):
                size = mx.maximum(mx.max(mx.abs(same_logprobs)), 1e-6)
                if (mx.max(mx.abs(logprobs - same_logprobs)) > tolerance(logprobs.dtype) * size).item():
                    return False
                if token != same_token:
                    break  # two tokens as likely as each other; what follows cannot be compared
        return True

    def _probe_together(self, beginning: Tokens) -> list[list[tuple[int, Any]]]:
        from mlx_lm.generate import BatchGenerator

        caches = [_Shared(self._model, beginning).caches(beginning + prompt) for prompt in PROBES]
        prompts = [list(prompt) for prompt in PROBES]
        steps: list[list[tuple[int, Any]]] = [[] for _ in PROBES]
        generator = BatchGenerator(self._model, completion_batch_size=len(PROBES), prefill_batch_size=len(PROBES))
        try:
            generator.insert(prompts[:2], [PROBE_TOKENS, PROBE_TOKENS + 2], caches=caches[:2])
            while not steps[0]:
                _collect(generator, steps)
            generator.insert(prompts[2:], [PROBE_TOKENS], caches=caches[2:])
            while _collect(generator, steps):
                pass
        finally:
            generator.close()
        return steps


class _Shared:
    """What prompts begin with, read once, in mlx-lm's own caches; a batch is made from copies of them."""

    def __init__(self, model: Any, beginning: Tokens) -> None:
        import mlx.core as mx
        from mlx_lm.models.cache import make_prompt_cache

        self._beginning = beginning
        self._caches: list[Any] | None = None
        if beginning:
            self._caches = make_prompt_cache(model)
            model(mx.array([beginning]), cache=self._caches)
            mx.eval([cache.state for cache in self._caches])

    def caches(self, prompt: Sequence[int]) -> list[Any] | None:
        """What the prompt goes on from; None: from nothing."""
        return self._caches if self._begins(prompt) else None

    def rest(self, prompt: Sequence[int]) -> list[int]:
        return list(prompt[len(self._beginning) :] if self._begins(prompt) else prompt)

    def _begins(self, prompt: Sequence[int]) -> bool:
        shared = len(self._beginning)
        return len(prompt) > shared and tuple(prompt[:shared]) == self._beginning


@dataclass(slots=True)
class _Running:
    """A row that is being written; `positions` is how long it may become."""

    number: int
    prompt: Sequence[int]
    positions: int
    written: list[int]


class _Queue:
    """The prompts that wait, those of like length side by side, longest first."""

    def __init__(self, prompts: Iterator[Sequence[int]], max_tokens: int, batch_tokens: int) -> None:
        self._numbered = enumerate(prompts)
        self._max_tokens = max_tokens
        self._read_at_once = batch_tokens
        self._kept_at_once = CACHED_SHARE * batch_tokens
        self._waiting: deque[_Running] = deque()

    def take(self, running: Sequence[int]) -> list[_Running]:
        """The rows that join those which may become so long; none as long as too few could.

        All are kept as long as the longest of them, and read together all that join.
        """
        joining: list[_Running] = []
        longest = max(running, default=0)
        while len(running) + len(joining) < ROWS_AT_ONCE and (row := self._next()) is not None:
            longest = max(longest, row.positions)
            rows = len(running) + len(joining) + 1
            read = (len(joining) + 1) * max(len(row.prompt), *(len(other.prompt) for other in joining), 0)
            if rows > 1 and (rows * longest > self._kept_at_once or (joining and read > self._read_at_once)):
                break
            joining.append(self._waiting.popleft())
        if len(joining) * JOINING_SHARE < len(running) and self._next() is not None:
            self._waiting.extendleft(reversed(joining))
            return []
        return joining

    def _next(self) -> _Running | None:
        if not self._waiting:
            rows = [
                _Running(number, prompt, len(prompt) + self._max_tokens, [])
                for number, prompt in itertools.islice(self._numbered, ROWS_SORTED)
            ]
            self._waiting.extend(sorted(rows, key=lambda row: -row.positions))
        return self._waiting[0] if self._waiting else None


def _collect(generator: Any, steps: list[list[tuple[int, Any]]]) -> bool:
    """Moves a batch on by a step, and notes what came of it; False when there is nothing left to do."""
    reading, writing = generator.next()
    for response in writing:
        steps[response.uid].append((response.token, response.logprobs))
    return bool(reading or writing)
