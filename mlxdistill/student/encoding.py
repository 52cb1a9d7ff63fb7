"""Rows as tokens, the same for training and prediction.

A row's prompt is tokenised by one function, whoever asks, so that a student is asked in exactly the tokens it has
learned. A row that is too long loses the end of its text, token by token: never the template, never the answer, and of
the user's message only the text, not the prompt around it.

Besides what mlx-lm reads of a line of a training file, these are read:

- `label` and `probabilities`: of the task's labels, where it has any;
- `weight`: how much the row counts in the loss beside others (1); a row with 0 is left out;
- `kind`: `rationale` for an example that says why, beside one of the label: all its tokens together count as much as
  those of a usual row, times its weight, so that what is long does not drown what is short;
- `logprobs`: what a teacher thought of each token of the answer, for students with its tokenizer:
  `{"tokenizer": [...], "tokens": [id, ...], "top": [[[id, logprob], ...], ...]}`, with the marks of the teacher's
  tokenizer (`tasks.token_logprobs.tokenizer_marks`), the answer's tokens, and for each the likeliest tokens with the
  natural logarithms of their probabilities. An answer that the student's tokenizer reads as other tokens (it may merge
  what the teacher wrote piece by piece) is learned as it is written.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlxdistill.errors import DataError
from mlxdistill.student.batches import common_beginning
from mlxdistill.student.records import (
    FORMATS,
    check_characters,
    is_rationale,
    read_conversation,
    read_probabilities,
    read_weight,
)
from mlxdistill.student.soft_tokens import SoftTokens, check_tokenizer, read_logprobs, soft_tokens
from mlxdistill.student.tokenizer import Frame, GuardedTokenizer, Piece
from mlxdistill.tasks.classification import Prompt, rationale_prompt
from mlxdistill.tasks.token_logprobs import tokenizer_marks
from mlxdistill.tasks.trie import Trie, build_trie

_UNLIKE = ("a", "Z", "7", "<")


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A row to train on.

    Attributes:
        tokens: prompt, answer and end of the turn.
        first_target: where the answer starts; the tokens from there on are learned, each from the position before it.
        label: the label's number in the task's order, or None.
        probabilities: the teacher's class probabilities, or None.
        truncated: whether the end of its text was cut.
        weight: of each supervised position.
        counts: as how much of it the row counts where the mean of a step is taken; None: as its supervised positions.
        soft: what to learn instead of `tokens` at each supervised position, or None.
        is_rationale: whether it explains what another row answers.
        is_reread: whether its log-probabilities are of other tokens than those it is read as here.
    """

    id: str
    tokens: tuple[int, ...]
    first_target: int
    label: int | None = None
    probabilities: tuple[float, ...] | None = None
    truncated: bool = False
    weight: float = 1.0
    counts: float | None = None
    soft: SoftTokens | None = None
    is_rationale: bool = False
    is_reread: bool = False

    @property
    def targets(self) -> int:
        return len(self.tokens) - self.first_target


class RowEncoder:
    """Turns rows into tokens for one model and task.

    Args:
        labels: name and verbalizer of each label; empty for plain mlx-lm folders.
        prompt: the prompt around a row's text; without it the whole user message may be cut.
        max_tokens: most tokens of a row, its answer included.
        soft: whether log-probabilities are learned; otherwise they are not looked at.

    Attributes:
        left_out: rationales that were too long for `max_tokens`.
    """

    def __init__(
        self,
        tokenizer: GuardedTokenizer,
        *,
        labels: Sequence[tuple[str, str]],
        prompt: Prompt | None,
        max_tokens: int,
        soft: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt or Prompt("", "")
        self._rationale_prompt = rationale_prompt(self._prompt)
        self._soft = soft
        self.left_out = 0
        self._max_tokens = max_tokens
        self.names = tuple(name for name, _ in labels)
        self.trie: Trie | None = None
        if labels:
            frame = tokenizer.frame(("user", "assistant"))
            self.verbalizers = tuple(verbalizer for _, verbalizer in labels)
            self.answers = tuple(tuple(tokenizer.encode_answer(frame, text)) for text in self.verbalizers)
            self.trie = build_trie(self.answers, frame.end_of_turn, self.names)
            # The longest answer is kept free in every row, so that a prompt is cut alike whatever its answer is.
            self._reserved = max(map(len, self.answers)) + 1

    def prompt_tokens(self, row_id: str, text: str) -> tuple[tuple[int, ...], bool]:
        """The tokens up to the answer for a row's text, and whether its end was cut.

        Raises DataError where the prompt leaves no room for any text.
        """
        assert self.trie is not None
        frame = self._tokenizer.frame(("user", "assistant"))
        return self._prompt_tokens(frame, [self._prompt.content(text)], self._max_tokens - self._reserved, row_id)

    def question_tokens(self, row_id: str, text: str) -> tuple[tuple[int, ...], bool]:
        """As `prompt_tokens`, before an answer in free text, for which no room is kept."""
        frame = self._tokenizer.frame(("user", "assistant"))
        return self._prompt_tokens(frame, [self._prompt.content(text)], self._max_tokens, row_id)

    def beginning(self) -> tuple[int, ...]:
        """The tokens that prompts begin with, unless a text merges with the prompt around it."""
        found = [self.prompt_tokens("", text)[0] for text in _UNLIKE]
        return found[0][: common_beginning(found)]

    def encode(self, record: Any, where: str) -> EncodedRow:
        """A record of a training file. Raises DataError, with `where`, for anything it cannot mean."""
        if not isinstance(record, dict):
            raise DataError("not a JSON object", where=where, hint=FORMATS)
        row_id = str(record.get("id", where))
        weight = read_weight(record.get("weight", 1.0), where)
        if "text" in record and "messages" not in record and "prompt" not in record:
            if self._soft and record.get("logprobs") is not None:
                raise DataError("`logprobs` are of an answer, and `text` has no answer", where=where, hint=FORMATS)
            return replace(self._encode_document(row_id, record["text"], where), weight=weight)
        roles, contents = read_conversation(record, where)
        frame = self._tokenizer.frame(roles)
        label, probabilities = self._teaching(record, contents[-1], where)
        answer = self._tokenizer.encode_answer(frame, contents[-1]) if label is None else self.answers[label]
        room = self._max_tokens - (len(answer) + 1 if label is None else self._reserved)
        prompt = self._rationale_prompt if is_rationale(record) else self._prompt
        tokens, truncated = self._prompt_tokens(frame, contents[:-1], room, where, prompt)
        soft, is_reread = self._soft_tokens(record, answer, frame, where)
        return EncodedRow(
            id=row_id,
            tokens=(*tokens, *answer, frame.end_of_turn),
            first_target=len(tokens),
            label=label,
            probabilities=probabilities,
            truncated=truncated,
            weight=weight,
            soft=soft,
            is_rationale=is_rationale(record),
            is_reread=is_reread,
        )

    def _soft_tokens(
        self, record: dict[str, Any], answer: Sequence[int], frame: Frame, where: str
    ) -> tuple[SoftTokens | None, bool]:
        """What the record's log-probabilities teach, and whether they are of other tokens than the answer's."""
        if not self._soft or record.get("logprobs") is None:
            return None, False
        given = read_logprobs(record["logprobs"], where)
        check_tokenizer(given, self._marks, where)
        if given.tokens != tuple(answer):
            return None, True
        return soft_tokens(given, frame.end_of_turn, self._tokenizer.size), False

    @functools.cached_property
    def _marks(self) -> tuple[str, ...]:
        return tokenizer_marks(self._tokenizer.encode_inside_text)

    def _prompt_tokens(
        self, frame: Frame, contents: Sequence[str], room: int, where: str, prompt: Prompt | None = None
    ) -> tuple[tuple[int, ...], bool]:
        last = max((part for part in frame.parts if isinstance(part, int)), default=-1)
        pieces: list[Piece] = []
        for part in frame.parts:
            if isinstance(part, str):
                pieces.append(Piece(part, control=True))
            elif part == last:
                pieces.extend(_around_text(contents[part], prompt or self._prompt))
            else:
                pieces.append(Piece(contents[part]))
        tokens, cuttable = self._tokenizer.encode(pieces)
        excess = len(tokens) - room
        if excess <= 0:
            return tuple(tokens), False
        if sum(cuttable) < excess:
            message = f"no room for the row's text: prompt and answer alone need more than {self._max_tokens} tokens"
            raise NoRoom(message, where=where, hint="raise student.max_tokens, or shorten the prompt")
        cut = set([number for number, may in enumerate(cuttable) if may][-excess:])
        return tuple(token for number, token in enumerate(tokens) if number not in cut), True

    def _encode_document(self, row_id: str, text: Any, where: str) -> EncodedRow:
        if not isinstance(text, str) or not text.strip():
            raise DataError("`text` is empty or no text", where=where, hint=FORMATS)
        check_characters(text, where)
        tokens = self._tokenizer.encode_document(text)
        if len(tokens) < 2:
            raise DataError("`text` is a single token, which teaches nothing", where=where, hint="remove the row")
        kept = tokens[: self._max_tokens]
        return EncodedRow(row_id, tuple(kept), first_target=1, truncated=len(kept) < len(tokens))

    def _teaching(self, record: dict[str, Any], answer: str, where: str) -> tuple[int | None, tuple[float, ...] | None]:
        if not self.names or is_rationale(record):
            return None, None
        if record.get("logprobs") is not None:
            message = "an example of a label learns class probabilities, and this one has `logprobs`"
            raise DataError(message, where=where, hint="remove them, or make the row one of kind `rationale`")
        name = record.get("label")
        if name not in self.names:
            hint = f"labels are {', '.join(self.names)}"
            raise DataError(f"`label` is {name!r}, which is no label of the task", where=where, hint=hint)
        label = self.names.index(name)
        if answer != self.verbalizers[label]:
            message = f"the answer is not how label {name!r} is written"
            raise DataError(message, where=where, hint=f"write {self.verbalizers[label]!r}")
        return label, read_probabilities(record.get("probabilities"), len(self.names), where)


def read_encoded(path: Path, encoder: RowEncoder) -> list[EncodedRow]:
    """The encoded rows of a training file. Raises DataError for a missing, empty or malformed one, with the line."""
    rows = list(_encoded(path, encoder))
    if not rows:
        optional = path.name == "valid.jsonl"
        hint = "give it rows, or remove it: training then goes without validation" if optional else FORMATS
        raise DataError("no rows", where=str(path), hint=hint)
    rows = [row for row in rows if row.weight]
    if not rows:
        raise DataError("every row has `weight` 0", where=str(path), hint="give those to learn from a weight, say 1")
    return _weighed(rows)


def _weighed(rows: list[EncodedRow]) -> list[EncodedRow]:
    """The rows with their weights as the loss needs them.

    The mean loss of a step is an estimate of that of all rows, so each step is divided by what its rows would weigh if
    all weighed the same. Were it divided by what they do weigh, a step of long rationales, which the length of rows
    brings together, would say as much as one of labels, however little rationales are to count.
    """
    if all(row.weight == 1 and not row.is_rationale for row in rows):
        return rows
    usual = [row.targets for row in rows if not row.is_rationale] or [1]
    mean = math.fsum(usual) / len(usual)
    sizes = [mean if row.is_rationale else row.targets for row in rows]
    sums = [row.weight * size for row, size in zip(rows, sizes, strict=True)]
    average = math.fsum(sums) / math.fsum(sizes)
    return [
        replace(row, weight=weight / row.targets, counts=average * size)
        for row, weight, size in zip(rows, sums, sizes, strict=True)
    ]


def reading_notes(rows: Sequence[EncodedRow], left_out: int) -> Iterator[str]:
    """What a user should hear of rationales and log-probabilities.

    Args:
        left_out: see `RowEncoder`.
    """
    if left_out:
        yield f"{left_out:,} rationales are longer than student.max_tokens allows, and are left out"
    soft = [row.soft for row in rows if row.soft is not None]
    if soft:
        tokens = sum(len(each.ids) for each in soft)
        held = math.fsum(each.held * len(each.ids) for each in soft) / tokens
        likeliest = max(each.ids.shape[1] for each in soft)
        yield (
            f"{len(soft):,} answers are learned with the teacher's probabilities at {tokens:,} tokens: its {likeliest}"
            f" likeliest, which hold {held:.1%} on average; the rest is left out"
        )
    if reread := sum(row.is_reread for row in rows):
        yield (
            f"{reread:,} answers read as other tokens than the teacher wrote them in; they are learned without its"
            " probabilities"
        )


class NoRoom(DataError):
    """A row that does not fit even without its text."""


def _encoded(path: Path, encoder: RowEncoder) -> Iterator[EncodedRow]:
    for number, record in _records(path):
        try:
            yield encoder.encode(record, f"{path}:{number}")
        except NoRoom:
            if not is_rationale(record):
                raise
            encoder.left_out += 1  # the row's label is learned all the same


def _around_text(content: str, prompt: Prompt) -> list[Piece]:
    head, tail = prompt.head, prompt.tail
    if len(content) < len(head) + len(tail) or not (content.startswith(head) and content.endswith(tail)):
        return [Piece(content, cuttable=True)]
    return [Piece(head), Piece(content[len(head) : len(content) - len(tail)], cuttable=True), Piece(tail)]


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _parse(line, f"{path}:{number}")
    except FileNotFoundError as error:
        raise DataError(
            "no such file", where=str(path), hint="a data folder holds train.jsonl and valid.jsonl"
        ) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=str(path), hint="check the path") from error
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8", where=str(path), hint="save the file as UTF-8") from error


def _parse(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError("not valid JSON", where=where, hint="one JSON object per line") from error
