"""Sets that the user gives as files: taken as they are, and kept apart from what is learned from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlxdistill.data.deck import Places
from mlxdistill.data.loading import PROGRESS_ROWS, LoadedRows
from mlxdistill.data.spool import RowSpool
from mlxdistill.errors import DataError
from mlxdistill.tasks.lines import wrong_column
from mlxdistill.tasks.protocols import Progress
from mlxdistill.text.near_duplicates import duplicate_components

KEYS = {"valid": "data.valid", "test_indist": "data.test.indist", "test_balanced": "data.test.balanced"}


@dataclass(frozen=True, slots=True)
class Separation:
    """The places of the source's rows that no given set has, and how many went for which reason.

    Attributes:
        components: for each of the rows kept the place, among them, of the first of its near duplicates.
        given: for each given set the number of each row's component, over all given sets.
    """

    kept: Places
    components: Places
    given: Mapping[str, Places]
    same_text: int
    same_id: int
    same_group: int
    near: int

    @property
    def removed(self) -> int:
        return self.same_text + self.same_id + self.same_group


def separate(
    source: LoadedRows,
    given: Mapping[str, LoadedRows],
    near_duplicates: float | None,
    folder: Path,
    progress: Progress,
) -> Separation:
    """Takes from the source every row that shares its normalised text, id or group with a row of a given set, and then
    every near duplicate of such a row, be it so directly or through others.

    Args:
        near_duplicates: the least similarity (`text.near_duplicates`); None: near duplicates are not looked for.
        folder: for temporary files.
    """
    sets = [loaded.rows for loaded in given.values()]
    rows = source.rows
    has_text, has_id, has_group = (
        np.isin(ours, np.concatenate(theirs)) if theirs else np.zeros(len(rows), np.bool_)
        for ours, theirs in (
            (rows.keys, [one.keys for one in sets]),
            (rows.ranks, [one.ranks for one in sets]),
            (rows.units, [one.units for one in sets]),
        )
    )
    kept = np.flatnonzero(~(has_text | has_id | has_group))
    components = np.arange(len(kept))
    bounds = list(itertools.accumulate(map(len, sets), initial=0))
    theirs = np.arange(bounds[-1])
    near = 0
    if near_duplicates is not None and len(kept):
        theirs, components = _components(rows, kept, sets, near_duplicates, folder, progress)
        is_near = components < len(theirs)  # a component is known by its first text
        near = int(is_near.sum())
        kept, components = kept[~is_near], first_places(components[~is_near])
    if not len(kept):
        hint = "give other files, or a source with more rows"
        raise DataError("every row of the source is also in a given set", where=source.where, hint=hint)
    return Separation(
        kept,
        components,
        dict(zip(given, (theirs[start:end] for start, end in itertools.pairwise(bounds)), strict=True)),
        same_text=int(has_text.sum()),
        same_id=int((has_id & ~has_text).sum()),
        same_group=int((has_group & ~has_id & ~has_text).sum()),
        near=near,
    )


def _components(
    rows: RowSpool, kept: Places, sets: Sequence[RowSpool], threshold: float, folder: Path, progress: Progress
) -> tuple[Places, Places]:
    """For each row of the given sets, and for each kept row, the number of its component."""
    is_kept = np.zeros(len(rows), np.bool_)
    is_kept[kept] = True
    given = itertools.chain.from_iterable(one.texts() for one in sets)
    ours = itertools.compress(rows.texts(), is_kept.tolist())
    count = sum(map(len, sets))
    texts = _advancing(itertools.chain(given, ours), count + len(kept), progress)
    components = duplicate_components(texts, threshold, folder=folder)
    return components[:count], components[count:]


def _advancing(texts: Iterable[str], total: int, progress: Progress) -> Iterator[str]:
    for number, text in enumerate(texts, start=1):
        if number % PROGRESS_ROWS == 0:
            progress.advance(number, total)
        yield text


def first_places(components: Places) -> Places:
    """Each component by the place of its first row in this list."""
    _, first, inverse = np.unique(components, return_index=True, return_inverse=True)
    return first[inverse]


def separation_notes(separation: Separation, given: Mapping[str, LoadedRows]) -> list[str]:
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
    if separation.near:
        notes.append(f"rows taken out of the source because a given set has nearly their text: {separation.near:,}")
    for name, other in itertools.combinations(given, 2):
        near = np.isin(separation.given[other], separation.given[name])
        near &= ~np.isin(given[other].rows.keys, given[name].rows.keys)
        if near.any():
            notes.append(f"texts of {other} that {name} has nearly, kept as given: {int(near.sum()):,}")
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
        counts = loaded.rows.class_counts()
        golden = sum(counts.values())
        if not golden and gold_column is not None and name != "valid":
            if gold_column not in loaded.columns:
                raise wrong_column(gold_column, "data.fields.gold", loaded.columns, loaded.where)
            hint = f"fill its column {gold_column!r}, or draw the set: {KEYS[name]}: 400"
            raise DataError(f"no row of {name} has gold, though the source has it", where=loaded.where, hint=hint)
        if 0 < golden < len(loaded.rows):
            notes.append(f"rows of {name} without gold: {len(loaded.rows) - golden:,} of {len(loaded.rows):,}")
        absent = [label for label in labels if not counts[label]] if golden else []
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
    for (name, first), (other, second) in itertools.combinations(given.items(), 2):
        _, in_first, in_second = np.intersect1d(first.rows.ranks, second.rows.ranks, return_indices=True)
        differing = in_second[first.rows.keys[in_first] != second.rows.keys[in_second]]
        if len(differing):
            row_id = second.rows[int(differing.min())].id
            raise DataError(
                f"the id {row_id!r} stands for one text in {name} and another in {other}",
                where=second.where,
                hint="give each text an id of its own, or leave out data.fields.id",
            )
        shared = len(np.intersect1d(first.rows.keys, second.rows.keys))
        if shared:
            notes.append(f"texts that both {name} and {other} have: {shared:,}")
    return notes
