"""A row: one text of the user's, with its gold label where there is one."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlxdistill.errors import DataError
from mlxdistill.rundir.files import read_jsonl, write_jsonl

# Runs of more combining characters are parted before they are normalised, as in Unicode's Stream-Safe Text Format
# (UAX 15): sorting a run takes the square of its length, and no language has runs of more than a few.
MOST_COMBINING = 30
_PARTED_BY = "\u034f"
_MAY_COMBINE = re.compile(f"[\u0300-\U0010ffff]{{{MOST_COMBINING}}}")  # quickly tells most texts that hold no such run


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `rows/*.jsonl`.

    Attributes:
        id: the source's own id, or `content_id` of the text.
        text: what the models read.
        gold: the label known to be right, or None.
        meta: what else came along. `meta["group"]` names the rows that belong together (a customer, a thread);
            `meta["component"]` those that are near duplicates of one another, directly or through others, by the id of
            the first of them; `meta["time"]` says when the row was written (ISO 8601, UTC, as a string that sorts);
            `meta["answer"]` and `meta["answer_outcome"]` hold what a request log recorded.
    """

    id: str
    text: str
    gold: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "text": self.text, "fields": None, "gold": self.gold, "meta": dict(self.meta)}

    @classmethod
    def from_json(cls, record: Any) -> Row:
        """Raises ValueError where the record is not what `to_json` gives."""
        match record:
            case {"id": str(row_id), "text": str(text), "gold": None | str() as gold, "meta": dict(meta)}:
                return cls(row_id, text, gold, meta)
        raise ValueError("not a row")


def normalised(text: str) -> str:
    """The text as duplicates are compared: NFKC, case folded, white space runs as one space."""
    if not text.isascii() and _MAY_COMBINE.search(text):
        text = _combining_run().sub(lambda run: run.group() + _PARTED_BY, text)
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@functools.cache
def _combining_run() -> re.Pattern[str]:
    marks = "".join(filter(_combines, map(chr, range(sys.maxunicode + 1))))
    return re.compile(f"[{marks}]{{{MOST_COMBINING}}}(?=[{marks}])")


def _combines(character: str) -> bool:
    if unicodedata.combining(character):
        return True
    parts = unicodedata.normalize("NFKD", character) if unicodedata.decomposition(character) else character
    return unicodedata.combining(parts[0]) > 0


def content_hash(text: str) -> str:
    """sha256 (hex, 32 characters) of the exact text: changes whenever the model would read something else."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def content_id(text: str) -> str:
    """The id of a row whose source has none: 16 hex characters of the normalised text's sha256."""
    return content_hash(normalised(text))[:16]


def iter_rows(path: Path) -> Iterator[Row]:
    """The rows of a file that this program wrote, one at a time. Raises DataError where it was edited or cut."""
    for number, record in enumerate(read_jsonl(path), start=1):
        try:
            yield Row.from_json(record)
        except ValueError as error:
            hint = "the file was edited or cut; make it anew"
            raise DataError(
                "not a row: it needs id, text, gold and meta", where=f"{path}:{number}", hint=hint
            ) from error


def read_rows(path: Path) -> list[Row]:
    """All of them."""
    return list(iter_rows(path))


def count_rows(path: Path) -> int:
    """How many lines the file has."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


def write_rows(path: Path, rows: list[Row]) -> None:
    write_jsonl(path, (row.to_json() for row in rows))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same value always gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
