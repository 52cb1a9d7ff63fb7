"""How stages meet models without knowing whose they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mlxdistill.tasks.rows import Row
from mlxdistill.tasks.token_logprobs import TokenLogprobs

Outcome = Literal["answered", "unparsable", "truncated", "missing"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a labeller or predictor said about one row.

    Attributes:
        row_id: the row.
        label: the most probable label, or None where nothing could be parsed.
        probabilities: one for each label in the task's order, summing to 1; None where only a label was logged.
        outcome: `answered`; `unparsable` (a text that names no label); `truncated` (answered, but the row did not fit
            and its end was cut); `missing` (a recorded teacher never saw this row).
        text: the raw text, for answers that were generated.
        seconds: the row's share of the model's time.
        sample: which of several answers of one teacher to this row (see `Labeller.samples`).
        agreement: of an answer that several were made into, the share of them that named its label.
        copied_from: the id of the row whose answer this is, where that one's text is nearly the same.
        logprobs: of the tokens of a generated answer, where they are kept and asked for: they are large.
    """

    row_id: str
    label: str | None
    probabilities: tuple[float, ...] | None = None
    outcome: Outcome = "answered"
    text: str | None = None
    seconds: float = 0.0
    sample: int = 0
    agreement: float | None = None
    copied_from: str | None = None
    logprobs: TokenLogprobs | None = None


class Progress(Protocol):
    """How long work reports itself. Calls never fail and cost next to nothing."""

    def advance(self, done: int, total: int, **figures: float) -> None:
        """`done` of `total` units are finished; `figures` are named measurements (loss, rows_per_second, ...)."""

    def note(self, message: str) -> None:
        """One line the user should see."""


class Labeller(Protocol):
    """A teacher: rows in, answers out."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the answers could: model bytes, engine version, decoding settings."""

    @property
    def prompt_fingerprint(self) -> str:
        """Changes whenever the prompt does."""

    @property
    def samples(self) -> tuple[int, ...]:
        """The numbers of the answers that every row gets: of sampled answers 0, 1, ...; of label orders, the shifts."""

    @property
    def settings(self) -> Mapping[str, Any] | None:
        """The tuned settings in use; None before any row was answered, or where there is nothing to tune."""

    def prepare(self, rows: int, settings: Mapping[str, Any] | None) -> None:
        """Says how many rows there will be, and with which settings rows of this job were answered before."""

    def label(
        self, rows: Sequence[Row], done: frozenset[tuple[str, int]], progress: Progress
    ) -> Iterator[list[Answer]]:
        """Answers in waves, each ready to be committed: one to every row and sample but those in `done`.

        Of scored answers, which rows share a wave depends on `rows` alone, so that going on after a stop repeats the
        same waves, and their answers to the bit. Answers written in free form depend, where two tokens are nearly as
        likely, on what else is written at the time: after a stop they may differ from those of an uninterrupted run.
        """


class Predictor(Protocol):
    """A student: rows in, answers out, in the order given."""

    def predict(self, rows: Sequence[Row], progress: Progress) -> Iterator[list[Answer]]: ...
