"""A context of the model in which rows are decoded, many at a time, after the beginning that they share.

The key-value memory is laid out in one of two ways, and which is faster depends on model, machine and rows:

- unified: one memory for all sequences. A row's sequences begin as copies of the prefix, in the prefix's own cells,
  and are emptied afterwards. Attention runs over the cells of the whole wave, the other rows' masked.
- split: a memory for each sequence, in which a copy of the prefix stays. Attention runs over a row's own cells, but
  every sequence needs room for the longest row, rows of one decode are taken in steps of equal length, and a token
  belongs to one sequence: labels that branch after a shared beginning cannot be decoded with their row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlxdistill.platform.cores import usable_cores
from mlxdistill.teacher.branches import Plan, Step
from mlxdistill.teacher.engine import Engine, EngineSettings, Model, Token
from mlxdistill.teacher.prompts import PromptTokens

MOST_SEQUENCES = 256  # LLAMA_MAX_SEQ
CELLS_STEP = 256  # what llama.cpp rounds up to, of a sequence's cells and of those that attention runs over
WORTH_FITTING = 0.75
Layout = Literal["unified", "split"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How the model is run.

    Attributes:
        n_ctx: most tokens of a prompt with its labels.
        n_batch: most tokens of one decode.
        n_seq: most rows of a wave.
        threads: of the CPU; None: one for every core that may be used.
        kv: the layout of the key-value memory.
    """

    n_ctx: int
    n_batch: int
    n_seq: int
    threads: int | None
    kv: Layout = "unified"


class Lane:
    """One context, with the prefixes of all prompts decoded in it. A context manager.

    Args:
        prompts: one or several, whose rows are decoded apart.
        plans: how the labels are decoded after a row.
        limits: as asked for; `limits` of the lane are those in use.
        longest: most tokens that a row's text may have.

    Attributes:
        most_rows, most_tokens: of a wave, the labels' tokens included.
    """

    def __init__(
        self, model: Model, prompts: Sequence[PromptTokens], plans: Sequence[Plan], limits: Limits, longest: int
    ) -> None:
        self._prompts = prompts
        self._split = limits.kv == "split"
        width = max(plan.branches for plan in plans)
        inner = max(len(plan.inner) for plan in plans)
        prefix = max(len(prompt.prefix) for prompt in prompts)
        row = longest + max(len(prompt.tail) for prompt in prompts) + inner
        self._first = 0 if self._split else len(prompts)  # of the rows' sequences
        self.longest = longest
        most = min(limits.n_seq, (MOST_SEQUENCES - self._first) // width, limits.n_batch // (1 + inner))
        self.most_rows = max(1, most)
        self.most_tokens = limits.n_batch if self._split else _filling(limits.n_batch, prefix)
        sequences = self._first + self.most_rows * width
        if self._split:
            cells = sequences * (-(-(prefix + row) // CELLS_STEP) * CELLS_STEP)
        else:
            cells = sum(len(prompt.prefix) for prompt in prompts) + max(row, limits.n_batch)
        outputs = max(sequences, min(limits.n_batch, self.most_rows * (1 + inner)))  # llama.cpp wants one a sequence
        threads = limits.threads or usable_cores()
        self.engine = Engine(
            model, EngineSettings(cells, limits.n_batch, sequences, outputs, threads, unified=not self._split)
        )

    def __enter__(self) -> Lane:
        self.engine.__enter__()
        for number, prompt in enumerate(self._prompts):
            tokens = [Token(token, position, (number,)) for position, token in enumerate(prompt.prefix)]
            self.engine.decode(tokens, lambda index, logits: None)
        if self._split:
            for sequence in range(1, self.engine.settings.n_seq):
                self.engine.branch(0, sequence)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.__exit__(kind, error, trace)

    def log_probabilities(self, texts: Sequence[Sequence[int]], plan: Plan, number: int) -> NDArray[np.float64]:
        """For each row the log probability of each of the plan's labels, less one number for the row: (rows, labels).

        What all labels of a row have in common falls out when they are normalised, and with it the sum over the
        vocabulary at the row's last token.

        Args:
            texts: the tokens of each row's text.
            number: of the prompt.

        Raises NoSlot, after which the lane is as it was, and ModelError.
        """
        prompt = self._prompts[number]
        start, tail = len(prompt.prefix), prompt.tail
        tokens: list[Token] = []
        asked: dict[int, tuple[int, int]] = {}
        for index, text in enumerate(texts):
            first = self._first + index * plan.branches
            branches = tuple(range(first, first + plan.branches))
            row = (*text, *tail)
            tokens += [Token(token, start + place, branches) for place, token in enumerate(row[:-1])]
            asked[len(tokens)] = (index, 0)
            tokens.append(Token(row[-1], start + len(row) - 1, branches, wanted=True))
            for node, inner in enumerate(plan.inner, start=1):
                asked[len(tokens)] = (index, node)
                through = branches[inner.start : inner.end]
                tokens.append(Token(inner.token, start + len(row) + inner.depth, through, wanted=True))
        sequences = range(self._first, self._first + len(texts) * plan.branches)
        found: dict[tuple[int, Step], float] = {}

        def read(place: int, logits: NDArray[np.float32]) -> None:
            index, node = asked[place]
            wanted = plan.next_tokens[node]
            values = logits[list(wanted)].astype(np.float64)
            if node:
                values -= log_sum_exp(logits)
            for token, value in zip(wanted, values.tolist(), strict=True):
                found[index, Step(node, token)] = value

        try:
            if not self._split:
                for sequence in sequences:
                    self.engine.branch(number, sequence)
            self.engine.decode(tokens, read)
        finally:
            for sequence in sequences:
                self.engine.forget(sequence, start if self._split else 0)
        return np.array(
            [[sum(found[index, step] for step in path) for path in plan.paths] for index in range(len(texts))]
        )


def _filling(n_batch: int, prefix: int) -> int:
    """Attention runs over cells in steps: a wave a little smaller may spare its rows a whole step of masked cells."""
    fitting = (prefix + n_batch) // CELLS_STEP * CELLS_STEP - prefix
    return fitting if fitting >= WORTH_FITTING * n_batch else n_batch


def log_sum_exp(logits: NDArray[np.float32]) -> float:
    """The logarithm of the sum of exponentials over a vocabulary; each to 1e-7, summed in float64."""
    top = logits.max()
    with np.errstate(invalid="ignore"):  # what is not a number is found, and named with its row, by who asks
        return float(top) + float(np.log(np.exp(logits - top).sum(dtype=np.float64)))
