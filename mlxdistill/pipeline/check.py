"""data check: what is in the rows, and whether a run would start with them, said before anything runs.

What a run would fail for is asked of the run itself: what its stages need, and its `ingest`, done in a temporary
folder. The rest is one pass over each file (`data/check/`). Nothing is written that stays.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mlxdistill.config.load import LoadedConfig
from mlxdistill.config.models import Config
from mlxdistill.data.check.examine import Examination, Findings, open_whole
from mlxdistill.data.check.gold import AnyGold, CountedGold
from mlxdistill.data.check.lengths import Measure, Words
from mlxdistill.data.check.overlap import Overlap, overlap, texts_of_rows, texts_of_source
from mlxdistill.data.check.warnings import warnings_of
from mlxdistill.data.fields import Columns, GoldLabels, RowMaker
from mlxdistill.data.ingest import IngestSummary, given_paths, ingest
from mlxdistill.data.new_rows import USUAL_TEXT_COLUMN
from mlxdistill.data.readers import read_source
from mlxdistill.errors import ConfigError, DataError, MlxDistillError, Problem
from mlxdistill.pipeline import STAGES
from mlxdistill.pipeline.check_lengths import asked_teachers, student_measure, teacher_truncation
from mlxdistill.pipeline.ingest import STAGE as INGEST
from mlxdistill.pipeline.runner import look_ahead
from mlxdistill.pipeline.stage import Context, Options, Reporter, task_of
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.tasks.lines import Record, wrong_column
from mlxdistill.tasks.logs import is_logged

SAMPLE_ROWS = 20_000
SOURCE = "source"


def check_source(
    path: Path, text: str | None, gold: str | None, row_id: str | None, sample: int, reporter: Reporter
) -> dict[str, Any]:
    """What a file or a folder of rows holds.

    Args:
        text, gold, row_id: the columns; without `text`, a logged request's last user message, or the column `text`.
        sample: about so many rows are looked at closely.

    Raises DataError where it cannot be read at all.
    """
    started = time.monotonic()
    reporter.begin("check")
    wanted = tuple(name for name in (text or USUAL_TEXT_COLUMN, gold, row_id) if name is not None)
    if text is None and not _begins_logged(path, wanted):
        text = USUAL_TEXT_COLUMN
    source = open_whole(path, wanted)
    columns = Columns(text, gold, row_id)
    found = Examination(source, columns, CountedGold(AnyGold()), Words(), (), sample, reporter).findings()
    seen = [column.name for column in found.columns]
    flags = {text: "--text", gold: "--gold", row_id: "--id"}
    missing = [name for name in flags if name is not None and name not in seen]
    problems = [_problem(wrong_column(name, flags[name], seen, found.path)) for name in missing if seen]
    if not found.usable and not problems:
        problems.append(_nothing_usable(found))
    return _outcome(path, {SOURCE: found}, problems, [], started)


def check_config(
    loaded: LoadedConfig, run: RunDir, options: Options, sample: int, reporter: Reporter
) -> dict[str, Any]:
    """What the files of a configuration hold, what `ingest` makes of them, and every reason why a run would fail.

    Args:
        run: the run folder, whose frozen rows the configuration must still give.
    """
    started = time.monotonic()
    config = loaded.config
    context = Context(config, task_of(config), run, options, reporter, Manifest(run))
    problems = list(_problems_ahead(context, loaded))
    reporter.begin("check")
    measure, teachers = student_measure(config), dict(asked_teachers(context))
    long = [teacher.long for teacher in teachers.values()]
    found: dict[str, Findings] = {}
    for name, path in {SOURCE: Path(config.data.source), **given_paths(config.data)}.items():
        try:
            gold = CountedGold(GoldLabels(context.task, config.data.gold_values), context.task.names)
            columns = Columns.of(config.data)
            source = open_whole(path, (*columns.keys, *columns.other_gold))
            is_given = name != SOURCE
            examination = Examination(source, columns, gold, measure, long, sample, reporter, is_given=is_given)
            found[name] = examination.findings()
        except DataError as error:
            problems.append(_problem(error))
    drawn = _draw(context)
    problems += drawn.problems
    named = {problem.where.split(":")[0] for problem in problems}
    problems += [_nothing_usable(each) for each in found.values() if not each.usable and each.path not in named]
    too_long = {"student": _student_truncation(found, measure), **teacher_truncation(teachers, reporter)}
    notes = [*_truncation_warnings(too_long), *drawn.notes]
    if config.data.redact == "before":
        notes.append("duplicates and splits are counted before data.redact changes the texts, and may differ a little")
    return {
        **_outcome(loaded.path, found, problems, notes, started, config),
        "truncated": too_long,
        "splits": {name: asdict(size) for name, size in drawn.summary.sets.items()} if drawn.summary else None,
        "overlap": drawn.overlap,
    }


def _begins_logged(path: Path, wanted: Sequence[str]) -> bool:
    first = next((item for item in read_source(path, wanted).records if isinstance(item, Record)), None)
    return first is not None and is_logged(first.values)


def _problems_ahead(context: Context, loaded: LoadedConfig) -> Iterator[Problem]:
    """What the run would say before its first stage."""
    try:
        look_ahead(STAGES, context, loaded)
    except ConfigError as error:
        yield from error.problems
    except MlxDistillError as error:
        yield _problem(error)
    else:
        if context.manifest.frozen:
            try:
                INGEST.inputs(context)
            except MlxDistillError as error:
                yield _problem(error)


@dataclass(slots=True)
class _Drawn:
    """What `ingest` did, or why it could not."""

    summary: IngestSummary | None = None
    overlap: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def _draw(context: Context) -> _Drawn:
    drawn = _Drawn()
    with tempfile.TemporaryDirectory(prefix="mlxdistill-check-") as folder:
        run = RunDir(Path(folder) / "run")
        try:
            quiet = _Quiet(context.reporter)
            drawn.summary = ingest(context.config.data, context.task, run, quiet, strict=context.options.strict)
            drawn.notes += drawn.summary.notes
            drawn.overlap = _overlaps(context, run)
        except MlxDistillError as error:
            found = _problem(error)
            hint = None if found.hint is None else found.hint.replace(str(run.bad_lines), "the check names them")
            drawn.problems.append(Problem(found.where, found.message, hint))
    return drawn


def _overlaps(context: Context, run: RunDir) -> dict[str, Any]:
    """Of each test set with the source, where it is a file of its own, and with the pool that `ingest` made."""
    data = context.config.data
    given = given_paths(data)
    maker = RowMaker(Columns.of(data), GoldLabels(context.task, data.gold_values))
    found: dict[str, Any] = {}
    for name, path in run.test_sets.items():
        if path.exists():
            of_source: Overlap | None = None
            rows, test = partial(texts_of_rows, run.pool), partial(texts_of_rows, path)
            if name in given:
                source = partial(texts_of_source, Path(data.source), maker)
                of_source = overlap(source, test)
            found[name] = {"source": of_source and asdict(of_source), "pool": asdict(overlap(rows, test))}
    return found


class _Quiet:
    """Notes are in the summary, and not said twice."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def advance(self, done: int, total: int, **figures: float) -> None:
        self._reporter.advance(done, total, **figures)

    def note(self, message: str) -> None:
        pass


def _student_truncation(found: Mapping[str, Findings], measure: Measure) -> dict[str, Any]:
    rows, about = 0, False
    for each in found.values():
        if each.lengths is not None:
            about |= each.lengths.rows < each.usable
            rows += round(each.lengths.cut * each.usable / each.lengths.rows)
    return {"rows": None if measure.most is None else rows, "about": about, "most_tokens": measure.most}


def _truncation_warnings(too_long: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, each in too_long.items():
        if each["rows"]:
            key = "student.max_tokens" if name == "student" else "n_ctx"
            about = "about " if each["about"] else ""
            yield f"{name}: {about}{each['rows']:,} rows lose the end of their text ({key}: {each['most_tokens']:,})"


def _outcome(
    path: Path,
    found: Mapping[str, Findings],
    problems: Sequence[Problem],
    notes: Sequence[str],
    started: float,
    config: Config | None = None,
) -> dict[str, Any]:
    seconds = time.monotonic() - started
    unlike = {(problem.where, problem.message): problem for problem in problems}
    rows = sum(each.rows for each in found.values())
    redact = None if config is None else config.data.redact
    named = {"" if name == SOURCE else name: each for name, each in found.items()}
    warnings = [line for name, each in named.items() for line in warnings_of(each, name, redact)]
    return {
        "checked": str(path),
        "kind": "source" if config is None else "configuration",
        "ok": not problems,
        "errors": [asdict(problem) for problem in unlike.values()],
        "warnings": list(dict.fromkeys([*warnings, *notes])),
        "files": {name: asdict(each) for name, each in found.items()},
        "seconds": seconds,
        "rows_per_second": rows / seconds if seconds else 0.0,
    }


def _problem(error: MlxDistillError) -> Problem:
    return Problem(error.where or "", error.message, error.hint)


def _nothing_usable(found: Findings) -> Problem:
    if not found.rows:
        return Problem(found.path, "the file holds no rows", "check what should have written it")
    first = found.bad_lines.first[0]
    message = f"none of its {found.rows:,} lines can be used; the first: {first.reason}"
    return Problem(f"{found.path}:{first.number}", message, "mend the file, or name the right columns")
