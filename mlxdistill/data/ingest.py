"""The first stage: from the user's files to the frozen sets of the run folder.

Rows stand in temporary files beside the sets (`data/spool.py`) until it is known where each belongs, and are then
written in one pass; in memory are a few numbers a row.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlxdistill.config.data import DataConfig
from mlxdistill.data.deck import Cards, Places, joined_units
from mlxdistill.data.fields import Columns, GoldLabels, RowMaker
from mlxdistill.data.given import KEYS, Separation, check_given, first_places, separate, separation_notes
from mlxdistill.data.loading import LoadedRows, Loader
from mlxdistill.data.readers import source_files
from mlxdistill.data.splits import Splits, Wanted, draw_splits, halved
from mlxdistill.data.spool import RowSpool
from mlxdistill.data.time_splits import draw_by_time
from mlxdistill.data.writing import write_drawn, write_given
from mlxdistill.errors import DataError
from mlxdistill.rundir.files import file_sha256, make_folder, os_errors, write_jsonl
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.classification import ClassificationTask
from mlxdistill.tasks.lines import BadLines
from mlxdistill.tasks.protocols import Progress
from mlxdistill.tasks.rows import canonical_json, content_hash

POOL = "pool"


@dataclass(frozen=True, slots=True)
class SetSummary:
    """How many rows a set has, and how many of them with each gold label."""

    n: int
    class_counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What ingest did.

    Attributes:
        rows_read: rows of the source, bad lines among them; `rows_given`: those of the given sets.
        bad_lines: lines that could not be used, over all files; all of them stand in rows/bad_lines.jsonl.
        first_bad_lines: the first of them, as `file:line reason`.
        duplicates: rows of the source with the text of an earlier one; they are in no set.
        conflicting_gold: those of them with another gold.
        overlapping: rows taken out of the source because a given set has them.
        decontaminated: rows taken out of the source because they are near duplicates of a given set's.
        near_duplicates: rows of the source, of those left, that are near duplicates of another.
        near_duplicate_sets: how many sets of rows near duplicates make, directly or through others.
        left_out: rows in no set because their group, or a near duplicate, gave a row to a drawn one.
        left_out_by_time: rows in no set because they were written after the first row of a later set.
        sets: `pool`, `valid`, `test_indist`, `test_balanced`, as far as they were written.
        notes: what the user should know, one line each.
        has_gold: whether any row has gold.
    """

    rows_read: int
    rows_given: int
    bad_lines: int
    first_bad_lines: tuple[str, ...]
    duplicates: int
    conflicting_gold: int
    overlapping: int
    decontaminated: int
    near_duplicates: int
    near_duplicate_sets: int
    left_out: int
    left_out_by_time: int
    sets: Mapping[str, SetSummary]
    notes: tuple[str, ...]
    has_gold: bool


def ingest(
    config: DataConfig,
    task: ClassificationTask,
    run: RunDir,
    progress: Progress,
    *,
    strict: bool = False,
    change: Callable[[str], str] | None = None,
) -> IngestSummary:
    """Reads the source and the given sets, draws the others, and writes rows/*.jsonl.

    test_balanced is not written where there is no gold to draw it by. Every note is also given to `progress`, and the
    bad lines are written, before anything is made of the rows: where that fails, they often say why.

    Args:
        change: what is done to every text as it is read (see `RowMaker`).

    Raises DataError where a file cannot be read or used, the sets ask for more than the rows give, or, with
    `strict`, at the first bad line; MlxDistillError where the disk is full.
    """
    folder = make_folder(run.pool.parent)
    with contextlib.ExitStack() as open_files, os_errors(folder, (errno.ENOSPC, errno.EDQUOT)):

        def new_spool() -> RowSpool:
            return open_files.enter_context(contextlib.closing(RowSpool(folder, task.names, config.seed)))

        return _ingest(config, task, run, progress, BadLines(strict), new_spool, change)


def _ingest(
    config: DataConfig,
    task: ClassificationTask,
    run: RunDir,
    progress: Progress,
    bad: BadLines,
    new_spool: Callable[[], RowSpool],
    change: Callable[[str], str] | None,
) -> IngestSummary:
    maker = RowMaker(Columns.of(config), GoldLabels(task, config.gold_values), change)
    given, source = _loaded(config, Loader(maker, bad, new_spool, progress), bad, run)
    notes: list[str] = []

    def tell(more: Iterable[str]) -> None:
        for note in more:
            notes.append(note)
            progress.note(note)

    tell(_source_notes(source, bad, run.shown(run.bad_lines), config))
    gold_column = Columns.of(config).gold if source.has_gold else None
    tell(check_given(given, task.names, gold_column, run.bad_lines))
    separation = separate(source, given, config.near_duplicates, run.pool.parent, progress)
    tell(separation_notes(separation, given))
    cards = _cards(source.rows, separation)
    splits = _draw(cards, source.rows.times[separation.kept], config, bad, run)
    sizes = np.bincount(separation.components)
    near, near_sets = int(sizes[sizes > 1].sum()), int((sizes > 1).sum())
    tell([*splits.notes, *_unit_notes(near, near_sets, splits.left_out)])
    drawn = {name: places for name, places in splits.sets.items() if name not in given}
    _write(run, source.rows, separation, drawn, given, halved(cards.only(drawn["valid"])) if "valid" in drawn else None)
    return IngestSummary(
        rows_read=source.read,
        rows_given=sum(loaded.read for loaded in given.values()),
        bad_lines=len(bad.records),
        first_bad_lines=bad.first,
        duplicates=source.duplicates,
        conflicting_gold=source.conflicts,
        overlapping=separation.removed,
        decontaminated=separation.near,
        near_duplicates=near,
        near_duplicate_sets=near_sets,
        left_out=splits.left_out,
        left_out_by_time=splits.left_out_by_time,
        sets=_summaries(source.rows, separation.kept, drawn, given),
        notes=tuple(notes),
        has_gold=any(loaded.has_gold for loaded in (source, *given.values())),
    )


def _loaded(config: DataConfig, loader: Loader, bad: BadLines, run: RunDir) -> tuple[dict[str, LoadedRows], LoadedRows]:
    """The given sets and the source. Bad lines are written down, also where the rest cannot be used."""
    try:
        given = {name: loader.load_given(path) for name, path in given_paths(config).items()}
        gold_is_elsewhere = any(loaded.has_gold for loaded in given.values())
        return given, loader.load_source(Path(config.source), gold_is_elsewhere=gold_is_elsewhere)
    finally:
        write_jsonl(run.bad_lines, bad.records)


def splits_fingerprint(config: DataConfig, task: ClassificationTask) -> str:
    """Changes whenever the frozen sets would: with the content of the files, the data settings and the labels.

    Verbalizers count only where gold may be written with them: there is a gold column, and `data.gold_values` does not
    name every label. Where the files lie does not count. Raises DataError where one cannot be read.
    """
    paths = {"source": Path(config.source), **given_paths(config)}
    contents = {name: [file_sha256(file) for file in source_files(path)] for name, path in paths.items()}
    settings = config.model_dump(mode="json", exclude_defaults=True)
    if config.redact != "before":  # the rows are the same
        settings = {key: value for key, value in settings.items() if not key.startswith("redact")}
    settings.pop("source")
    if "valid" in contents:
        settings.pop("valid")
    for name in ("indist", "balanced"):
        if f"test_{name}" in contents:
            settings["test"].pop(name)
    labels: list[Sequence[str]] = [task.names]
    if config.fields.gold and set(config.gold_values.values()) != set(task.names):
        labels.append(task.verbalizers)
    return content_hash(canonical_json({"files": contents, "data": settings, "labels": labels}))


def given_paths(config: DataConfig) -> dict[str, Path]:
    """The sets that are given as files."""
    sets = {"valid": config.valid, "test_indist": config.test.indist, "test_balanced": config.test.balanced}
    return {name: Path(value) for name, value in sets.items() if isinstance(value, str)}


def _summaries(
    rows: RowSpool, kept: Places, drawn: Mapping[str, Places], given: Mapping[str, LoadedRows]
) -> dict[str, SetSummary]:
    found = {name: SetSummary(len(its), rows.class_counts(kept[its])) for name, its in drawn.items()}
    found |= {name: SetSummary(len(loaded.rows), loaded.rows.class_counts()) for name, loaded in given.items()}
    return {name: found[name] for name in (POOL, *KEYS) if name in found}


def _given_halves(rows: RowSpool, separation: Separation) -> NDArray[np.bool_]:
    cards = rows.cards()
    return halved(replace(cards, units=joined_units(cards.units, first_places(separation.given["valid"]))))


def _cards(rows: RowSpool, separation: Separation) -> Cards:
    cards = rows.cards().only(separation.kept)
    return replace(cards, units=joined_units(cards.units, separation.components))


def _draw(cards: Cards, times: NDArray[np.int64], config: DataConfig, bad: BadLines, run: RunDir) -> Splits:
    try:
        if config.time is not None:
            return draw_by_time(cards, times, _wanted(config))
        return draw_splits(cards, _wanted(config))
    except DataError as error:
        if error.where == "data.group" and config.group is None:
            error.where = "data.near_duplicates"
        if bad.records:
            error.hint = f"mend the {len(bad.records):,} lines that cannot be used ({run.bad_lines}), or {error.hint}"
        raise


def _wanted(config: DataConfig) -> Wanted:
    indist, balanced = config.test.indist, config.test.balanced
    return Wanted(
        valid=config.valid if isinstance(config.valid, int) else None,
        test_indist=indist if isinstance(indist, int) else None,
        test_balanced=balanced if isinstance(balanced, int) else None,
    )


def _source_notes(source: LoadedRows, bad: BadLines, listed_in: str, config: DataConfig) -> list[str]:
    notes = []
    if bad.records:
        notes.append(bad.note(listed_in))
    if source.duplicates:
        notes.append(f"exact duplicates left out: {source.duplicates:,}")
    if source.conflicts:
        notes.append(f"duplicates with another gold than the row that was kept: {source.conflicts:,}")
    if config.fields.gold is not None and not source.has_gold:
        what = "is empty in every row" if config.fields.gold in source.columns else "is not there"
        notes.append(f"the source has no gold: the column {config.fields.gold!r} {what}")
    return notes


def _unit_notes(near: int, near_sets: int, left_out: int) -> list[str]:
    notes = []
    if near:
        notes.append(f"near duplicates, kept on one side of every split: {near:,} rows in {near_sets:,} sets")
    if left_out:
        notes.append(f"rows left out because one of their group, or a near duplicate, is in a drawn set: {left_out:,}")
    return notes


def _write(
    run: RunDir,
    rows: RowSpool,
    separation: Separation,
    drawn: Mapping[str, Places],
    given: Mapping[str, LoadedRows],
    calibrates: NDArray[np.bool_] | None,
) -> None:
    kept = separation.kept
    components = np.arange(len(rows))
    components[kept] = kept[separation.components]
    paths = {name: run.pool.with_name(f"{name}.jsonl") for name in (POOL, *KEYS)}
    write_drawn(paths, rows, {name: kept[places] for name, places in drawn.items()}, components, calibrates)
    for name, loaded in given.items():
        write_given(paths[name], loaded.rows, _given_halves(loaded.rows, separation) if name == "valid" else None)
    for name in paths.keys() - drawn.keys() - given.keys():
        paths[name].unlink(missing_ok=True)
