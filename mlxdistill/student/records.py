"""What a line of a training file may say (see `encoding`), checked part by part.

Raises DataError with the line for anything else; rows' texts are never in its message.
"""

from __future__ import annotations

import math
from typing import Any

from mlxdistill.errors import DataError
from mlxdistill.student.rationale import KIND

ROLES = ("system", "user", "assistant", "tool", "developer")
LEAST_WEIGHT, MOST_WEIGHT = 1e-9, 1e9  # sums of more extreme ones are not exact in float32
FORMATS = 'a row is {"messages": [...]}, {"prompt": ..., "completion": ...} or {"text": ...}'


def is_rationale(record: dict[str, Any]) -> bool:
    return record.get("kind") == KIND


def read_weight(value: Any, where: str) -> float:
    """How much a row counts."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (value == 0 or LEAST_WEIGHT <= value <= MOST_WEIGHT):
        hint = f"0, or a number from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}"
        raise DataError("`weight` is no number that a row can be weighed by", where=where, hint=hint)
    return float(value)


def read_conversation(record: dict[str, Any], where: str) -> tuple[tuple[str, ...], list[str]]:
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
        raise DataError("no conversation with at least two messages", where=where, hint=FORMATS)
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            hint = 'a message is {"role": "user", "content": "..."}'
            raise DataError("a message without text `content`", where=where, hint=hint)
        check_characters(message["content"], where)
        if message.get("role") not in ROLES:
            hint = f"roles are {', '.join(ROLES)}"
            raise DataError("a message with an unknown `role`", where=where, hint=hint)
    if messages[-1]["role"] != "assistant" or not messages[-1]["content"].strip():
        message = "the last message is not an answer of the assistant's"
        raise DataError(message, where=where, hint="end each conversation with the answer to learn")
    return tuple(message["role"] for message in messages), [message["content"] for message in messages]


def check_characters(text: str, where: str) -> None:
    """Raises DataError for half of a character: JSON can write it, no tokenizer reads it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        message = f"half of a character (\\u{ord(text[error.start]):04x}) in the text"
        raise DataError(message, where=where, hint="an emoji was cut in two: mend or remove the row") from None


def read_probabilities(value: Any, count: int, where: str) -> tuple[float, ...] | None:
    """Class probabilities, made to sum to 1 exactly; None where there are none."""
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
