"""The first stage: from the user's files to the frozen sets of the run folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlxdistill.config.data import DataConfig
from mlxdistill.data.fields import Columns, GoldLabels, RowMaker
from mlxdistill.data.given import KEYS, check_given, separate, separation_notes
from mlxdistill.data.loading import LoadedRows, Loader
from mlxdistill.data.readers import source_files
from mlxdistill.data.splits import Splits, Wanted, draw_splits, halved
from mlxdistill.errors import DataError
from mlxdistill.rundir.files import file_sha256, write_jsonl
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.classification import ClassificationTask
from mlxdistill.tasks.lines import BadLines
from mlxdistill.tasks.protocols import Progress
from mlxdistill.tasks.rows import Row, canonical_json, content_hash, write_rows


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
        left_out: rows in no set because their group gave a row to a drawn one.
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
    left_out: int
    sets: Mapping[str, SetSummary]
    notes: tuple[str, ...]
    has_gold: bool


def ingest(
    config: DataConfig, task: ClassificationTask, run: RunDir, progress: Progress, *, strict: bool = False
) -> IngestSummary:
    """Reads the source and the given sets, draws the others, and writes rows/*.jsonl.

    test_balanced is not written where there is no gold to draw it by. Every note is also given to `progress`, and the
    bad lines are written, before anything is made of the rows: where that fails, they often say why.

    Raises DataError where a file cannot be read or used, the sets ask for more than the rows give, or, with
    `strict`, at the first bad line.
    """
    bad = BadLines(strict)
    loader = Loader(RowMaker(Columns.of(config), GoldLabels(task, config.gold_values)), bad, progress)
    try:
        given = {name: loader.load_given(path) for name, path in given_paths(config).items()}
        gold_is_elsewhere = any(loaded.has_gold for loaded in given.values())
        source = loader.load_source(Path(config.source), gold_is_elsewhere=gold_is_elsewhere)
    finally:
        write_jsonl(run.bad_lines, bad.records)
    notes: list[str] = []

    def tell(more: Iterable[str]) -> None:
        for note in more:
            notes.append(note)
            progress.note(note)

    tell(_source_notes(source, bad, run.shown(run.bad_lines), config))
    gold_column = Columns.of(config).gold if source.has_gold else None
    tell(check_given(given, task.names, gold_column, run.bad_lines))
    separation = separate(source, given)
    tell(separation_notes(separation))
    splits = _draw(separation.rows, task, config, bad, run)
    tell(splits.notes)
    sets: dict[str, Sequence[Row]] = {"pool": splits.pool}
    drawn = {"valid": splits.valid, "test_indist": splits.test_indist, "test_balanced": splits.test_balanced}
    for name, rows in drawn.items():
        if name in given:
            sets[name] = halved(given[name].rows, config.seed) if name == "valid" else given[name].rows
        elif rows is not None:
            sets[name] = rows
    _write(run, sets)
    return IngestSummary(
        rows_read=source.read,
        rows_given=sum(loaded.read for loaded in given.values()),
        bad_lines=len(bad.records),
        first_bad_lines=bad.first,
        duplicates=source.duplicates,
        conflicting_gold=source.conflicts,
        overlapping=separation.removed,
        left_out=splits.left_out,
        sets={name: set_summary(rows, task.names) for name, rows in sets.items()},
        notes=tuple(notes),
        has_gold=source.has_gold or gold_is_elsewhere,
    )


def splits_fingerprint(config: DataConfig, task: ClassificationTask) -> str:
    """Changes whenever the frozen sets would: with the content of the files, the data settings and the labels.

    Verbalizers count only where gold may be written with them: there is a gold column, and `data.gold_values` does not
    name every label. Where the files lie does not count. Raises DataError where one cannot be read.
    """
    paths = {"source": Path(config.source), **given_paths(config)}
    contents = {name: [file_sha256(file) for file in source_files(path)] for name, path in paths.items()}
    settings = config.model_dump(mode="json", exclude_defaults=True)
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


def set_summary(rows: Sequence[Row], labels: Sequence[str]) -> SetSummary:
    counts = Counter(row.gold for row in rows)
    return SetSummary(len(rows), {label: counts[label] for label in labels})


def _draw(rows: Sequence[Row], task: ClassificationTask, config: DataConfig, bad: BadLines, run: RunDir) -> Splits:
    try:
        return draw_splits(rows, task.names, _wanted(config), config.seed)
    except DataError as error:
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


def _write(run: RunDir, sets: Mapping[str, Sequence[Row]]) -> None:
    for name in ("pool", *KEYS):
        path = run.pool.with_name(f"{name}.jsonl")
        if name in sets:
            write_rows(path, list(sets[name]))
        else:
            path.unlink(missing_ok=True)
