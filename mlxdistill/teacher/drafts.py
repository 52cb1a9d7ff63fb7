"""One answer from its first token to its label: drawn, held to a grammar, ended where it is complete, parsed."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlxdistill.errors import ModelError
from mlxdistill.tasks.forms import THOUGHT_END
from mlxdistill.tasks.token_logprobs import TokenLogprobs, tokenizer_marks
from mlxdistill.teacher.engine import Model
from mlxdistill.teacher.grammar import Grammar, Matcher
from mlxdistill.teacher.sampling import draw, draw_key, likeliest
from mlxdistill.teacher.tokens import plain_tokens

SECOND_TEMPERATURE = 0.7  # of a second attempt where the first took the likeliest tokens: it would be the same again
_THINK = b"think>"  # in the tokens that begin and end a thought, which some models count among the control tokens
_THOUGHT_END = THOUGHT_END.encode()
_LAST_BYTES = (b"}", b"\n", b">")  # in the token that completes an answer of whatever form


class Form(Protocol):
    """How an answer is written (`tasks.forms.AnswerForm`, `tasks.drafting.DraftForm`)."""

    def is_complete(self, text: str) -> bool: ...

    def shortest(self, verbalizer: str) -> str: ...


class Reader(Protocol):
    """What makes of an answer what it says; None where it is not of the form (`ClassificationTask`, `DraftTask`)."""

    def read(self, text: str, form: Any) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Writing:
    """How answers are written.

    Attributes:
        form: of an answer.
        grammar: what JSON is held to (`schema_grammar`); None: to nothing.
        samples: answers to each row.
        temperature, seed: of the draws; temperature 0 takes the likeliest token.
        max_tokens: of one answer, a thought included.
        thinking: the prompt ends within a thought, and the answer comes after it.
        keep_logprobs: how many of the likeliest tokens' log-probabilities are kept at each token of an answer.
        retries: an answer that cannot be parsed is asked for once more.
    """

    form: Form
    grammar: str | None
    samples: int = 1
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 256
    thinking: bool = False
    keep_logprobs: int = 0
    retries: bool = True


@dataclass(slots=True, eq=False)
class Draft:
    """An answer under way.

    Attributes:
        key: of its draws; `temperature` likewise.
        thinking: it is still within the thought; `start`: where in the text the answer proper begins.
        matcher: where it stands in the grammar, once that applies.
        token: the last one, not yet decoded; `count`: tokens so far.
        tokens, top: of the answer without the thought, where log-probabilities are kept: each token with whether it is
            more than white space, and the likeliest in its place.
        ended: nothing is to follow.
    """

    row_id: str
    sample: int
    attempt: int
    key: int
    temperature: float
    thinking: bool
    matcher: Matcher | None
    start: int = 0
    token: int = -1
    count: int = 0
    text: bytearray = field(default_factory=bytearray)
    tokens: list[tuple[int, bool]] = field(default_factory=list)
    top: list[tuple[NDArray[np.int32], NDArray[np.float32]]] = field(default_factory=list)
    ended: bool = False
    seconds: float = 0.0

    @property
    def whole_text(self) -> str:
        return self.text.decode("utf-8", "replace").strip()

    @property
    def answer(self) -> str:
        """The text without the thought."""
        return self.text[self.start :].decode("utf-8", "replace")

    def close(self) -> None:
        if self.matcher is not None:
            self.matcher.close()


class Writer:
    """Draws the tokens of drafts. A context manager: it holds the grammar.

    Raises ModelError where llama.cpp does not take the grammar.
    """

    def __init__(self, model: Model, task: Reader, writing: Writing) -> None:
        self._model = model
        self._task = task
        self._writing = writing
        self._grammar = Grammar(model, writing.grammar) if writing.grammar is not None else None
        self._marks: tuple[str, ...] = ()
        if writing.keep_logprobs:
            self._marks = tokenizer_marks(lambda text: plain_tokens(model, text))

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._grammar is not None:
            self._grammar.__exit__(kind, error, trace)

    def begin(self, row_id: str, sample: int, attempt: int) -> Draft:
        """An empty draft; what is drawn for it depends on these three and the seed, whatever else is written."""
        writing = self._writing
        return Draft(
            row_id,
            sample,
            attempt,
            key=draw_key(writing.seed, row_id, sample, attempt),
            temperature=writing.temperature or (SECOND_TEMPERATURE if attempt else 0.0),
            thinking=writing.thinking,
            matcher=None if writing.thinking else self._matcher(),
        )

    def _matcher(self) -> Matcher | None:
        return None if self._grammar is None else self._grammar.begin()

    def write(self, draft: Draft, logits: NDArray[np.float32]) -> None:
        """Draws the next token. The draft ends where it is complete, where the model ends it, or at max_tokens.

        Raises ModelError, with the row's id, where the logits are not numbers.
        """
        if not np.isfinite(logits.max()):
            hint = "the model file may be damaged: get it again, or use another quantization"
            raise ModelError("the model's answer is not a number", where=f"row {draft.row_id}", hint=hint)
        token = draw(logits, draft.temperature, draft.key, draft.count, draft.matcher)
        piece = b"" if token is None else self._model.piece(token)
        if token is None or (self._model.is_control(token) and not (draft.thinking and _THINK in piece)):
            draft.ended = True
            return
        if self._writing.keep_logprobs and not draft.thinking:
            draft.tokens.append((token, not piece.isspace()))
            draft.top.append(likeliest(logits, self._writing.keep_logprobs))
        draft.token = token
        draft.count += 1
        draft.ended = draft.count == self._writing.max_tokens
        closes = draft.thinking and _THOUGHT_END in draft.text[-len(_THOUGHT_END) :] + piece
        draft.text += piece
        if closes:
            draft.thinking, draft.start, draft.matcher = False, len(draft.text), self._matcher()
            return
        if draft.matcher is not None:
            draft.matcher.accept(token)
        if not draft.thinking and any(last in piece for last in _LAST_BYTES):
            draft.ended |= self._writing.form.is_complete(draft.answer)

    def logprobs(self, draft: Draft) -> TokenLogprobs | None:
        """What is kept of a finished draft: of the answer without the thought, and without the white space around it,
        as its text is kept. None where nothing is to be kept."""
        if not self._writing.keep_logprobs:
            return None
        written = [place for place, (_, is_text) in enumerate(draft.tokens) if is_text]
        kept = slice(written[0], written[-1] + 1) if written else slice(0)
        tokens = [token for token, _ in draft.tokens[kept]]
        return TokenLogprobs.pack(tokens, draft.top[kept], kept=self._writing.keep_logprobs, tokenizer=self._marks)

    def label(self, draft: Draft) -> str | None:
        """The label that a finished draft names, or None."""
        return None if draft.thinking else self._task.read(draft.answer, self._writing.form)
