"""Sets that the user gives as files: taken as they are, and kept apart from what is learned from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxdistill.data.loading import LoadedRows
from mlxdistill.errors import DataError
from mlxdistill.tasks.lines import wrong_column
from mlxdistill.tasks.rows import Row

KEYS = {"valid": "data.valid", "test_indist": "data.test.indist", "test_balanced": "data.test.balanced"}


@dataclass(frozen=True, slots=True)
class Separation:
    """The source's rows without those that a given set has, and how many went for which reason."""

    rows: tuple[Row, ...]
    same_text: int
    same_id: int
    same_group: int

    @property
    def removed(self) -> int:
        return self.same_text + self.same_id + self.same_group


def separate(source: LoadedRows, given: Mapping[str, LoadedRows]) -> Separation:
    """Takes from the source every row that shares its normalised text, id or group with a row of a given set."""
    keys = {key for loaded in given.values() for key in loaded.keys}
    ids = {row.id for loaded in given.values() for row in loaded.rows}
    groups = {row.meta["group"] for loaded in given.values() for row in loaded.rows if "group" in row.meta}
    kept: list[Row] = []
    counts: Counter[str] = Counter()
    for row, key in zip(source.rows, source.keys, strict=True):
        if key in keys:
            counts["text"] += 1
        elif row.id in ids:
            counts["id"] += 1
        elif row.meta.get("group") in groups:
            counts["group"] += 1
        else:
            kept.append(row)
    if not kept:
        hint = "give other files, or a source with more rows"
        raise DataError("every row of the source is also in a given set", where=source.where, hint=hint)
    return Separation(tuple(kept), counts["text"], counts["id"], counts["group"])


def separation_notes(separation: Separation) -> list[str]:
    notes = []
    if separation.same_text:
        notes.append(f"rows taken out of the source because a given set has their text: {separation.same_text:,}")
    if separation.same_id:
        notes.append(
            f"rows taken out of the source because a given set has their id: {separation.same_id:,}; "
            "where ids are row numbers, leave out data.fields.id"
        )
    if separation.same_group:
        notes.append(f"rows taken out of the source because a given set has their group: {separation.same_group:,}")
    return notes


def check_given(
    given: Mapping[str, LoadedRows], labels: Sequence[str], gold_column: str | None, bad_lines: Path
) -> list[str]:
    """Notes on the given sets.

    A test set may be without any gold where the source is too: the teacher is then what the student is compared with.

    Args:
        gold_column: where the source has its gold; None: it has none.
        bad_lines: the file that lists the lines that cannot be used.

    Raises DataError where a test set would lose a line that cannot be used, has no gold though the source has, or has
    gold and none of some label, and where two sets have different texts under one id.
    """
    notes: list[str] = []
    for name, loaded in given.items():
        if name != "valid":
            _check_whole(name, loaded, bad_lines)
        golden = Counter(row.gold for row in loaded.rows if row.gold is not None)
        if not golden and gold_column is not None and name != "valid":
            if gold_column not in loaded.columns:
                raise wrong_column(gold_column, "data.fields.gold", loaded.columns, loaded.where)
            hint = f"fill its column {gold_column!r}, or draw the set: {KEYS[name]}: 400"
            raise DataError(f"no row of {name} has gold, though the source has it", where=loaded.where, hint=hint)
        if golden and golden.total() < len(loaded.rows):
            notes.append(f"rows of {name} without gold: {len(loaded.rows) - golden.total():,} of {len(loaded.rows):,}")
        absent = [label for label in labels if not golden[label]] if golden else []
        if absent:
            more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            message = f"{name} has no row with the gold {', '.join(map(repr, absent[:5]))}{more}"
            if name != "valid":
                hint = f"add rows with that gold, take the label out of task.labels, or draw the set: {KEYS[name]}: 400"
                raise DataError(message, where=loaded.where, hint=hint)
            notes.append(message)
        if loaded.duplicates:
            notes.append(f"exact duplicates in {name}, kept as given: {loaded.duplicates:,}")
    return notes + _overlaps(given)


def _check_whole(name: str, loaded: LoadedRows, bad_lines: Path) -> None:
    if loaded.first_bad is not None:
        raise DataError(
            f"{loaded.bad_lines:,} of the {loaded.read:,} rows of {name} cannot be used; "
            f"the first: {loaded.first_bad.reason}",
            where=f"{loaded.where}:{loaded.first_bad.number}",
            hint=f"a given test set is taken whole: mend or delete the lines, which {bad_lines} lists",
        )


def _overlaps(given: Mapping[str, LoadedRows]) -> list[str]:
    notes: list[str] = []
    names = list(given)
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            first, second = given[name], given[other]
            key_of = dict(zip((row.id for row in first.rows), first.keys, strict=True))
            for row, key in zip(second.rows, second.keys, strict=True):
                if key_of.get(row.id, key) != key:
                    raise DataError(
                        f"the id {row.id!r} stands for one text in {name} and another in {other}",
                        where=second.where,
                        hint="give each text an id of its own, or leave out data.fields.id",
                    )
            shared = len(set(first.keys) & set(second.keys))
            if shared:
                notes.append(f"texts that both {name} and {other} have: {shared:,}")
    return notes
