"""Logs of requests and responses: the text that was asked about, and the answer that came.

The shapes are those that OpenAI-compatible servers and their loggers write, one JSON object a line:

    {"request": {"messages": [...]}, "response": {"choices": [...]}}     request and response as sent
    {"messages": [...], "response": "..."}                               flat; the response as text or as sent
    {"messages": [..., {"role": "assistant", "content": "..."}]}         chat fine-tuning files
    {"custom_id": "...", "response": {"body": {"choices": [...]}}}       output of the batch API

Both the ingest of a log and a recorded teacher read them, so the shapes live here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdistill.errors import DataError
from mlxdistill.tasks.classification import scalar_text
from mlxdistill.tasks.lines import (
    BadLine,
    Record,
    id_fault,
    is_missing,
    json_records,
    open_file,
    text_fault,
    wrong_column,
)
from mlxdistill.tasks.rows import content_id


@dataclass(frozen=True, slots=True)
class LoggedAnswer:
    """One answer of a log.

    Attributes:
        id: the log's own id, or `content_id` of the text.
        text: the row's text, or None where the log holds only ids and answers.
        answer: the response's text, not yet parsed.
    """

    id: str
    text: str | None
    answer: str


def is_logged(record: Mapping[str, Any]) -> bool:
    """Whether the record has the shape of a logged request."""
    return (
        isinstance(record.get("request"), Mapping)
        or isinstance(record.get("response"), Mapping)
        or _is_list(record.get("messages"))
    )


def logged_text(record: Mapping[str, Any]) -> str | None:
    """The last user message of the request, or None."""
    request = record.get("request")
    asked = _body(request) if isinstance(request, Mapping) else record
    text = _last_content(asked.get("messages"), "user")
    if text is None and asked is not record and isinstance(asked.get("prompt"), str):
        return str(asked["prompt"])
    return text


def logged_answer(record: Mapping[str, Any]) -> str | None:
    """The text of the first choice of the response (or the arguments of its tool call), or None."""
    if not is_logged(record):
        return None
    response = record.get("response")
    if isinstance(response, str):
        return response
    if response is None:
        return _last_content(record.get("messages"), "assistant")
    if not isinstance(response, Mapping):
        return None
    body = _body(response)
    choices = body.get("choices")
    choice = choices[0] if _is_list(choices) and choices else body
    if not isinstance(choice, Mapping):
        return None
    message = choice.get("message")
    if isinstance(message, Mapping):
        content = _content(message.get("content"))
        return content if content is not None else _tool_arguments(message)
    return _content(choice.get("text")) or _content(choice.get("content"))


def check_log(path: Path, *, text_column: str | None, id_column: str | None) -> Path:
    """The log, found to hold an answer. Raises DataError where it cannot be read or holds none."""
    next(
        entry
        for entry in read_log(path, text_column=text_column, id_column=id_column)
        if isinstance(entry, LoggedAnswer)
    )
    return path


def read_log(path: Path, *, text_column: str | None, id_column: str | None) -> Iterator[LoggedAnswer | BadLine]:
    """The answers of a log file (JSONL).

    Args:
        text_column: the column that holds the row's text. Where a record has none: the last user message.
        id_column: the column that holds the row's id. Where a record has none: a hash of the text, or the `custom_id`
            of a batch's output, which has no text.

    A record with an id, whose text is known from its last user message alone, is given twice: under its id without a
    text, because a prompt may stand around the row's text there, and under its text, because the id may be the
    server's own.

    Raises DataError where the file cannot be read, or holds no answer that can be used.
    """
    columns: dict[str, None] = {}
    answers = requests = 0
    first: BadLine | None = None
    with open_file(path) as file:
        for record in json_records(file, str(path)):
            if isinstance(record, BadLine):
                entries: Sequence[LoggedAnswer | BadLine] = [record]
            else:
                columns.update(dict.fromkeys(record.values))
                requests += logged_text(record.values) is not None
                entries = _logged(record, text_column, id_column)
            for entry in entries:
                answers += isinstance(entry, LoggedAnswer)
                first = first or (entry if isinstance(entry, BadLine) else None)
                yield entry
    if not answers and columns and not requests:
        for column, key in ((id_column, "data.fields.id"), (text_column, "data.fields.text")):
            if column is not None and column not in columns:
                raise wrong_column(column, key, columns, str(path))
    if not answers:
        where = f"{path}:{first.number}" if first else str(path)
        raise DataError(
            f"no logged answer can be used; the first: {first.reason}" if first else "holds no logged request",
            where=where,
            hint="a log holds one JSON object a line, with `request` and `response`, or `messages` and `response`",
        )


def _logged(record: Record, text_column: str | None, id_column: str | None) -> Sequence[LoggedAnswer | BadLine]:
    values = record.values
    answer = logged_answer(values)
    if answer is None:
        return [BadLine(record.number, "the answer is missing")]
    fault = text_fault(answer, "answer") if answer.strip() else None  # an empty answer is one, though it names no label
    if fault:
        return [BadLine(record.number, fault)]
    column = values.get(text_column) if text_column is not None else None
    asked_alone = text_column is not None and is_missing(column)
    text = logged_text(values) if is_missing(column) else column
    text_is_bad = text_fault(text)
    own = values.get(id_column) if id_column is not None else None
    if is_missing(own) and text is None:
        own = values.get("custom_id")
    entries: list[LoggedAnswer | BadLine] = []
    if not is_missing(own):
        bad_id = id_fault(own)
        if bad_id:
            return [BadLine(record.number, bad_id)]
        entries.append(LoggedAnswer(scalar_text(own), None if text_is_bad or asked_alone else text, answer))
    elif text_is_bad:
        return [BadLine(record.number, f"neither id nor text: {text_is_bad}")]
    if not entries or (asked_alone and not text_is_bad):
        assert isinstance(text, str)
        entries.append(LoggedAnswer(content_id(text), text, answer))
    return entries


def _body(sent: Mapping[str, Any]) -> Mapping[str, Any]:
    """The batch API wraps what it sends and receives in a `body`."""
    body = sent.get("body")
    return body if isinstance(body, Mapping) else sent


def _last_content(messages: Any, role: str) -> str | None:
    if not _is_list(messages):
        return None
    for message in reversed(messages):
        if isinstance(message, Mapping) and message.get("role") == role:
            return _content(message.get("content"))
    return None


def _content(content: Any) -> str | None:
    """The text of a message: a string, or the text parts of a list of parts."""
    if isinstance(content, str):
        return content
    if _is_list(content):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        texts = [part for part in parts if isinstance(part, str)]
        return "\n".join(texts) if texts else None
    return None


def _tool_arguments(message: Mapping[str, Any]) -> str | None:
    calls = message.get("tool_calls")
    function = calls[0].get("function") if _is_list(calls) and calls and isinstance(calls[0], Mapping) else None
    return _content(function.get("arguments")) if isinstance(function, Mapping) else None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
