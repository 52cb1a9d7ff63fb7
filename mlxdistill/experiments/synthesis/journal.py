"""Every draft that was ever written in a run, and what became of it: rows/drafts.jsonl.

Lines are only added, each group forced onto the disk, so that a stop at any moment loses what was in flight and no
more. A draft without a verdict is judged by the next call before anything new is written.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlxdistill.errors import DataError
from mlxdistill.rundir.files import FILE_MODE, make_folder, os_errors, sync
from mlxdistill.tasks.rows import Row, content_id

PREFIX = "synthetic-"


@dataclass(frozen=True, slots=True)
class Draft:
    """A text that a teacher wrote.

    Attributes:
        label: that it was to have; `number`: of the draft among those of its label.
        seeds: ids of the rows that the prompt showed.
        text: None where what was written was not of the form asked for, or had no end.
    """

    label: str
    number: int
    seeds: tuple[str, ...]
    text: str | None

    @property
    def key(self) -> tuple[str, int]:
        return self.label, self.number

    def row(self) -> Row:
        """As it would teach."""
        assert self.text is not None
        meta = {"synthetic": True, "intended": self.label, "seeds": list(self.seeds)}
        return Row(PREFIX + content_id(self.text), self.text, meta=meta)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a draft: None as the `reason` says that it was accepted, by the `job` of this number."""

    label: str
    number: int
    reason: str | None
    job: int


class Journal:
    """The drafts of a run. Raises DataError where the file was edited."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.drafts: dict[tuple[str, int], Draft] = {}
        self.verdicts: dict[tuple[str, int], Verdict] = {}
        for record in self._records():
            self._take(record)

    def pending(self, label: str) -> list[Draft]:
        """Those of a label without a verdict, in order."""
        found = (draft for key, draft in self.drafts.items() if key not in self.verdicts and draft.label == label)
        return sorted(found, key=lambda draft: draft.number)

    def next_number(self, label: str) -> int:
        """One more than that of the last draft of a label."""
        return max((number for other, number in self.drafts if other == label), default=-1) + 1

    def gaps(self, label: str) -> list[int]:
        """Numbers without a draft before the last one: drafts are not finished in their order."""
        return [number for number in range(self.next_number(label)) if (label, number) not in self.drafts]

    def outcomes(self, label: str, job: int | None = None) -> Counter[str | None]:
        """How often each reason was given to drafts of a label (by one job); under None those that were accepted."""
        return Counter(
            verdict.reason
            for verdict in self.verdicts.values()
            if verdict.label == label and job in (None, verdict.job)
        )

    def add(self, entries: Iterable[Draft | Verdict]) -> None:
        """Keeps drafts and verdicts, on the disk first."""
        added = list(entries)
        if not added:
            return
        lines = "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in added).encode()
        make_folder(self._path.parent)
        with os_errors(self._path):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, FILE_MODE)
            with os.fdopen(descriptor, "r+b") as file:
                file.truncate(_whole_bytes(self._path))
                file.seek(0, os.SEEK_END)
                file.write(lines)
                sync(file)
        for entry in added:
            self._keep(entry)

    def _keep(self, entry: Draft | Verdict) -> None:
        if isinstance(entry, Draft):
            self.drafts[entry.key] = entry
        else:
            self.verdicts[entry.label, entry.number] = entry

    def _records(self) -> Iterator[tuple[int, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):  # a line that a crash cut is as if it had not been written
                    try:
                        yield number, json.loads(line)
                    except ValueError:
                        yield number, None

    def _take(self, found: tuple[int, Any]) -> None:
        number, record = found
        match record:
            case {"label": str(label), "number": int(place), "seeds": [*seeds], "text": None | str() as text}:
                self._keep(Draft(label, place, tuple(map(str, seeds)), text))
            case {"label": str(label), "number": int(place), "reason": None | str() as reason, "job": int(job)}:
                self._keep(Verdict(label, place, reason, job))
            case _:
                hint = "the file was edited; `mlxdistill synth CONFIG --clear` removes all that was written"
                raise DataError("neither a draft nor a verdict", where=f"{self._path}:{number}", hint=hint)


def _whole_bytes(path: Path) -> int:
    """Up to the end of the last whole line."""
    with path.open("rb") as file:
        content = file.read()
    return content.rfind(b"\n") + 1
