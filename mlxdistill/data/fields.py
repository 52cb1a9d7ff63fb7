"""From a record to a row: which column is what, and which label a gold value means."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mlxdistill.config.data import DataConfig
from mlxdistill.data.source import Source
from mlxdistill.data.times import read_time, shown_time
from mlxdistill.errors import DataError
from mlxdistill.tasks.classification import ClassificationTask, scalar_text
from mlxdistill.tasks.lines import (
    BadLine,
    Record,
    id_fault,
    is_missing,
    kind_of,
    text_fault,
    wrong_column,
)
from mlxdistill.tasks.logs import logged_answer, logged_text
from mlxdistill.tasks.rows import Row, content_hash, content_id

MOST_VALUE_CHARACTERS = 40

_WHOLE = re.compile(r"([+-]?\d+)\.0+")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what; None: not configured. `other_gold`: what other files call the gold column."""

    text: str | None
    gold: str | None = None
    id: str | None = None
    group: str | None = None
    other_gold: tuple[str, ...] = ()
    time: str | None = None

    @classmethod
    def of(cls, config: DataConfig) -> Columns:
        fields = config.fields
        names = (fields.gold,) if isinstance(fields.gold, str) else fields.gold or ()
        return cls(fields.text, names[0] if names else None, fields.id, config.group, names[1:], config.time)

    def gold_among(self, present: Collection[str]) -> str | None:
        """The name under which gold is there; the first one configured where none is."""
        return next((name for name in (self.gold, *self.other_gold) if name in present), self.gold)

    @property
    def keys(self) -> dict[str, str]:
        """Each configured column with the key that names it."""
        named = {"data.fields.text": self.text, "data.fields.gold": self.gold, "data.fields.id": self.id}
        named |= {"data.group": self.group, "data.time": self.time}
        return {column: key for key, column in named.items() if column is not None}


class Unusable(Exception):
    """Why a record gives no row."""


class GoldReader(Protocol):
    """Reads a gold cell; `class_names` are the names of the column's class numbers. Raises Unusable."""

    def read(self, value: Any, class_names: tuple[str, ...] = ()) -> str | None: ...


class GoldLabels:
    """Which label a gold value means.

    A value is looked up in `data.gold_values` first, then among the labels' names and verbalizers. True in JSON,
    `True` and `true` in CSV are one value; so are 1 and `1.0`, which tables with gaps write for whole numbers.

    Raises DataError where `data.gold_values` names a label that the task does not have.
    """

    def __init__(self, task: ClassificationTask, gold_values: Mapping[str, str]) -> None:
        unknown = [label for label in gold_values.values() if label not in task.names]
        if unknown:
            labels = ", ".join(task.names[:20])
            raise DataError(
                f"no label {unknown[0]!r} in the task", where="data.gold_values", hint=f"the labels: {labels}"
            )
        self._mapped = {_canonical(value): label for value, label in gold_values.items()}
        self._named = {label.verbalizer: label.name for label in task.labels}
        self._named.update({name: name for name in task.names})
        folded: dict[str, set[str]] = {}
        for written, name in self._named.items():
            folded.setdefault(written.casefold(), set()).add(name)
        self._folded = {written: names.pop() for written, names in folded.items() if len(names) == 1}

    def read(self, value: Any, class_names: tuple[str, ...] = ()) -> str | None:
        """The label, or None where the cell is empty. Raises Unusable for a value that means no label.

        Args:
            class_names: the names of the column's class numbers; number -1 means no gold.
        """
        if is_missing(value):
            return None
        if not isinstance(value, str | int | float):
            raise Unusable(f"the gold value is {kind_of(value)}")
        texts = [scalar_text(value)]
        if class_names and isinstance(value, int) and not isinstance(value, bool):
            if value == -1:
                return None
            texts += class_names[value : value + 1]
        for text in texts:
            label = self._mapped.get(_canonical(text)) or self._named.get(text) or self._folded.get(text.casefold())
            if label is not None:
                return label
        shown = texts[-1] if len(texts[-1]) <= MOST_VALUE_CHARACTERS else texts[-1][:MOST_VALUE_CHARACTERS] + "..."
        raise Unusable(f"the gold value {shown!a} means no label")


@dataclass(frozen=True, slots=True)
class MadeRow:
    """A row, the line it comes from, whether its id is the source's own, and its time (milliseconds since 1970)."""

    number: int
    row: Row
    own_id: bool
    time: int | None = None


class RowMaker:
    """Makes rows of records.

    Args:
        change: what is done to the text before anything else sees it: ids are made, duplicates found and sets drawn
            from what it returns. A logged answer is changed too, and a group's name becomes a hash where it would be,
            both by its method `beside` where it has one; ids stay what they are. None: nothing.
    """

    def __init__(self, columns: Columns, gold: GoldReader, change: Callable[[str], str] | None = None) -> None:
        self.columns = columns
        self._gold = gold
        self._change = change
        self._beside: Callable[[str], str] | None = getattr(change, "beside", change)

    def make(
        self, record: Record, class_names: Mapping[str, tuple[str, ...]], *, timed: bool = False
    ) -> MadeRow | BadLine:
        """The record's row, or why there is none. `timed`: a row needs a time, where a column for it is configured."""
        columns, values = self.columns, record.values
        try:
            text = usable_text(record, columns.text)
            own = usable_id(record, columns.id)
            gold = None
            column = columns.gold_among(values)
            if column is not None:
                gold = self._read_gold(values.get(column), class_names.get(column, ()))
            if self._change is not None:
                text = self._change(text)
            meta = self._changed(meta_of(values, columns.group))
            time = self._time(values) if timed and columns.time is not None else None
            if time is not None:
                meta["time"] = shown_time(time)
            return MadeRow(record.number, Row(own or content_id(text), text, gold, meta), own is not None, time)
        except Unusable as error:
            return BadLine(record.number, str(error))

    def _read_gold(self, value: Any, class_names: tuple[str, ...]) -> str | None:
        try:
            return self._gold.read(value, class_names)
        except Unusable:
            if self._change is None:
                raise
            # Its words are quoted cut and escaped: what `change` would take out could not be told in them any more.
            raise Unusable("the gold value means no label") from None

    def _time(self, values: Mapping[str, Any]) -> int:
        value = values.get(self.columns.time or "")
        if is_missing(value):
            raise Unusable("the time is missing")
        try:
            return read_time(value)
        except ValueError as error:
            raise Unusable(str(error)) from error

    def _changed(self, meta: dict[str, str]) -> dict[str, str]:
        """A group's name that would change becomes a hash: names of two groups stay two."""
        if self._beside is None:
            return meta
        changed = {key: self._beside(value) for key, value in meta.items()}
        if "group" in meta and changed["group"] != meta["group"]:
            changed["group"] = content_hash(meta["group"])[:16]
        return changed


def meta_of(values: Mapping[str, Any], group_column: str | None) -> dict[str, str]:
    """The name of a record's `group` and its logged `answer`, as far as it has them. Raises Unusable."""
    meta = {}
    group = values.get(group_column) if group_column is not None else None
    if not is_missing(group):
        if not isinstance(group, str | int | float):
            raise Unusable(f"the group is {kind_of(group)}")
        meta["group"] = _encodable(scalar_text(group), "group")
    answer = logged_answer(values)
    if answer is not None:
        meta["answer"] = _encodable(answer, "answer")
    return meta


def usable_text(record: Record, column: str | None) -> str:
    """The record's text: its column, or the last user message of a logged request. Raises Unusable."""
    if column is None:
        text = logged_text(record.values)
        fault = text_fault(text, "last user message")
    elif column not in record.values:
        raise Unusable(f"no column {column!r}")
    else:
        text = record.values[column]
        fault = text_fault(text)
    if text is None or fault:
        raise Unusable(fault or "the text is missing")
    return text


def usable_id(record: Record, column: str | None) -> str | None:
    """The record's own id, or None where it has none. Raises Unusable."""
    value = record.values.get(column) if column is not None else None
    if is_missing(value):
        return None
    fault = id_fault(value)
    if fault:
        raise Unusable(fault)
    return scalar_text(value)


def check_columns(columns: Columns, source: Source, seen: Iterable[str], required: Iterable[str]) -> None:
    """Raises DataError where a `required` column is not among the columns `seen`, or no text column can be told."""
    names = list(seen)
    for column in required:
        if column not in names:
            raise wrong_column(column, columns.keys[column], names, source.where)
    if columns.text is None and source.columns is not None and not {"request", "messages"} & set(names):
        shown = ", ".join(names[:20])
        hint = f"set data.fields.text to one of its columns: {shown}"
        raise DataError("data.fields.text is not set, and this is no request log", where=source.where, hint=hint)


def _canonical(text: str) -> str:
    stripped = text.strip()
    whole = _WHOLE.fullmatch(stripped)
    if whole:
        return whole.group(1)
    return stripped.casefold() if stripped.casefold() in ("true", "false") else stripped


def _encodable(text: str, what: str) -> str:
    fault = text_fault(text, what) if text.strip() else None
    if fault:
        raise Unusable(fault)
    return text
