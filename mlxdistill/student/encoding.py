"""Rows as tokens, the same for training and prediction.

A row's prompt is tokenised by one function, whoever asks, so that a student is asked in exactly the tokens it has
learned. A row that is too long loses the end of its text, token by token: never the template, never the answer, and of
the user's message only the text, not the prompt around it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdistill.errors import DataError
from mlxdistill.student.batches import common_beginning
from mlxdistill.student.tokenizer import Frame, GuardedTokenizer, Piece
from mlxdistill.tasks.classification import Prompt
from mlxdistill.tasks.trie import Trie, build_trie

ROLES = ("system", "user", "assistant", "tool", "developer")
_UNLIKE = ("a", "Z", "7", "<")
_FORMATS = 'a row is {"messages": [...]}, {"prompt": ..., "completion": ...} or {"text": ...}'


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A row to train on.

    Attributes:
        tokens: prompt, answer and end of the turn.
        first_target: where the answer starts; the tokens from there on are learned, each from the position before it.
        label: the label's number in the task's order, or None.
        probabilities: the teacher's class probabilities, or None.
        truncated: whether the end of its text was cut.
    """

    id: str
    tokens: tuple[int, ...]
    first_target: int
    label: int | None = None
    probabilities: tuple[float, ...] | None = None
    truncated: bool = False

    @property
    def targets(self) -> int:
        return len(self.tokens) - self.first_target


class RowEncoder:
    """Turns rows into tokens for one model and task.

    Args:
        labels: name and verbalizer of each label; empty for plain mlx-lm folders.
        prompt: the prompt around a row's text; without it the whole user message may be cut.
        max_tokens: most tokens of a row, its answer included.
    """

    def __init__(
        self,
        tokenizer: GuardedTokenizer,
        *,
        labels: Sequence[tuple[str, str]],
        prompt: Prompt | None,
        max_tokens: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt or Prompt("", "")
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

    def beginning(self) -> tuple[int, ...]:
        """The tokens that prompts begin with, unless a text merges with the prompt around it."""
        found = [self.prompt_tokens("", text)[0] for text in _UNLIKE]
        return found[0][: common_beginning(found)]

    def encode(self, record: Any, where: str) -> EncodedRow:
        """A record of a training file. Raises DataError, with `where`, for anything it cannot mean."""
        if not isinstance(record, dict):
            raise DataError("not a JSON object", where=where, hint=_FORMATS)
        row_id = str(record.get("id", where))
        if "text" in record and "messages" not in record and "prompt" not in record:
            return self._encode_document(row_id, record["text"], where)
        roles, contents = _conversation(record, where)
        frame = self._tokenizer.frame(roles)
        label, probabilities = self._teaching(record, contents[-1], where)
        answer = self._tokenizer.encode_answer(frame, contents[-1]) if label is None else self.answers[label]
        room = self._max_tokens - (len(answer) + 1 if label is None else self._reserved)
        tokens, truncated = self._prompt_tokens(frame, contents[:-1], room, where)
        return EncodedRow(
            id=row_id,
            tokens=(*tokens, *answer, frame.end_of_turn),
            first_target=len(tokens),
            label=label,
            probabilities=probabilities,
            truncated=truncated,
        )

    def _prompt_tokens(
        self, frame: Frame, contents: Sequence[str], room: int, where: str
    ) -> tuple[tuple[int, ...], bool]:
        last = max((part for part in frame.parts if isinstance(part, int)), default=-1)
        pieces: list[Piece] = []
        for part in frame.parts:
            if isinstance(part, str):
                pieces.append(Piece(part, control=True))
            elif part == last:
                pieces.extend(self._around_text(contents[part]))
            else:
                pieces.append(Piece(contents[part]))
        tokens, cuttable = self._tokenizer.encode(pieces)
        excess = len(tokens) - room
        if excess <= 0:
            return tuple(tokens), False
        if sum(cuttable) < excess:
            message = f"no room for the row's text: prompt and answer alone need more than {self._max_tokens} tokens"
            raise DataError(message, where=where, hint="raise student.max_tokens, or shorten the prompt")
        cut = set([number for number, may in enumerate(cuttable) if may][-excess:])
        return tuple(token for number, token in enumerate(tokens) if number not in cut), True

    def _around_text(self, content: str) -> list[Piece]:
        head, tail = self._prompt.head, self._prompt.tail
        if len(content) < len(head) + len(tail) or not (content.startswith(head) and content.endswith(tail)):
            return [Piece(content, cuttable=True)]
        return [Piece(head), Piece(content[len(head) : len(content) - len(tail)], cuttable=True), Piece(tail)]

    def _encode_document(self, row_id: str, text: Any, where: str) -> EncodedRow:
        if not isinstance(text, str) or not text.strip():
            raise DataError("`text` is empty or no text", where=where, hint=_FORMATS)
        tokens = self._tokenizer.encode_document(text)
        if len(tokens) < 2:
            raise DataError("`text` is a single token, which teaches nothing", where=where, hint="remove the row")
        kept = tokens[: self._max_tokens]
        return EncodedRow(row_id, tuple(kept), first_target=1, truncated=len(kept) < len(tokens))

    def _teaching(self, record: dict[str, Any], answer: str, where: str) -> tuple[int | None, tuple[float, ...] | None]:
        if not self.names:
            return None, None
        name = record.get("label")
        if name not in self.names:
            hint = f"labels are {', '.join(self.names)}"
            raise DataError(f"`label` is {name!r}, which is no label of the task", where=where, hint=hint)
        label = self.names.index(name)
        if answer != self.verbalizers[label]:
            message = f"the answer is not how label {name!r} is written"
            raise DataError(message, where=where, hint=f"write {self.verbalizers[label]!r}")
        return label, _probabilities(record.get("probabilities"), len(self.names), where)


def read_encoded(path: Path, encoder: RowEncoder) -> list[EncodedRow]:
    """The encoded rows of a training file. Raises DataError for a missing, empty or malformed one, with the line."""
    rows = [encoder.encode(record, f"{path}:{number}") for number, record in _records(path)]
    if not rows:
        raise DataError("no rows", where=str(path), hint=_FORMATS)
    return rows


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


def _conversation(record: dict[str, Any], where: str) -> tuple[tuple[str, ...], list[str]]:
    """Roles and contents, the last of which is the answer."""
    if record.get("tools"):
        raise DataError("rows with `tools` cannot be trained on", where=where, hint="remove the row")
    messages = record.get("messages")
    if messages is None and "prompt" in record and "completion" in record:
        messages = [
            {"role": "user", "content": record["prompt"]},
            {"role": "assistant", "content": record["completion"]},
        ]
    if not isinstance(messages, list) or len(messages) < 2:
        raise DataError("no conversation with at least two messages", where=where, hint=_FORMATS)
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            hint = 'a message is {"role": "user", "content": "..."}'
            raise DataError("a message without text `content`", where=where, hint=hint)
        if message.get("role") not in ROLES:
            hint = f"roles are {', '.join(ROLES)}"
            raise DataError("a message with an unknown `role`", where=where, hint=hint)
    if messages[-1]["role"] != "assistant" or not messages[-1]["content"].strip():
        message = "the last message is not an answer of the assistant's"
        raise DataError(message, where=where, hint="end each conversation with the answer to learn")
    return tuple(message["role"] for message in messages), [message["content"] for message in messages]


def _probabilities(value: Any, count: int, where: str) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = isinstance(value, list) and all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in value
    )
    if not numbers or len(value) != count:
        hint = f"a list of {count} numbers, in the order of the labels"
        raise DataError("`probabilities` does not fit the labels", where=where, hint=hint)
    if not all(math.isfinite(number) and number >= 0 for number in value) or abs(sum(value) - 1) > 1e-3:
        raise DataError("`probabilities` do not sum to 1", where=where, hint="numbers from 0 to 1 that sum to 1")
    total = math.fsum(value)
    return tuple(number / total for number in value)
