"""label --budget: which rows of the pool the teachers are asked about.

The choice is kept beside the rows, in rows/budget.json, like the splits: a stop in between or a later stage finds the
same rows, several teachers answer the same ones, a smaller budget takes the first of them, a larger one adds to them.
It stays in force for all commands until another is given.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from mlxdistill.errors import DataError
from mlxdistill.pipeline.stage import Context
from mlxdistill.rundir.files import file_sha256, read_json, write_json
from mlxdistill.rundir.layout import RunDir
from mlxdistill.statistics.resampling import generator
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Labeller
from mlxdistill.tasks.rows import Row, content_hash, count_rows, iter_rows
from mlxdistill.teacher.budget import Chooser, draw_pilot, round_rows
from mlxdistill.teacher.duplicates import find_sources
from mlxdistill.teacher.label import label_rows

MOST_CANDIDATES = 200_000  # rows of the pool that are looked at; of more, these many by chance
NEAR = 0.8  # rows this similar to an earlier one are not chosen beside it


@dataclass(frozen=True, slots=True)
class Choice:
    """Rows of the pool, in the order in which budgets take them.

    Attributes:
        budget: how many of them are in force; None: every row of the pool is labelled.
        pool_sha256: of the file that they were chosen from.
        pilot: drawn by chance; `chosen`: after the answers so far, round by round.
    """

    budget: int | None
    pool_sha256: str
    pilot: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """Those in force."""
        return (*self.pilot, *self.chosen)[: self.budget]

    @property
    def drawn(self) -> frozenset[str]:
        """Those in force that were drawn by chance."""
        return frozenset(self.pilot[: self.budget])


def budget_in_force(context: Context) -> int | None:
    """How many rows of the pool are labelled: as asked for, or as the last time; None: all."""
    asked = context.options.budget
    if asked is None:
        kept = _read(context.run)
        return kept.budget if kept else None
    return None if asked == "all" else asked


def choice_in_force(run: RunDir) -> Choice | None:
    """The choice that the last `label` made; None where it labelled every row."""
    kept = _read(run)
    return kept if kept and kept.budget is not None else None


def choose_rows(
    context: Context, store: LabelStore, labeller: Labeller, number: int, keep_logprobs: int = 0
) -> tuple[Choice | None, int]:
    """The rows to ask about, chosen first where they are not yet, for which the teacher labels them in rounds.

    Args:
        number: the labeller's, in the store.
        keep_logprobs: as for `label_rows`.

    Returns the choice, or None for every row, and how many answers were given meanwhile.
    """
    run, budget = context.run, budget_in_force(context)
    kept = _read(run)
    if budget is None:
        if kept:
            _write(run, replace(kept, budget=None))
        return None, 0
    pool = file_sha256(run.pool)
    choice = replace(kept, budget=budget) if kept and kept.pool_sha256 == pool else Choice(budget, pool)
    answers = 0
    if len(choice.ids) < min(budget, count_rows(run.pool)):
        candidates = _candidates(context, choice)
        chooser = Chooser([row.text for row in candidates], context.config.data.seed)
        if not choice.pilot:
            places = draw_pilot(len(candidates), budget, context.config.data.seed)
            choice = replace(choice, pilot=tuple(candidates[place].id for place in places))
        while len(choice.ids) < min(budget, len(candidates)):
            _write(run, choice)
            before = set(choice.ids)
            rows = {place: row for place, row in enumerate(candidates) if row.id in before}
            total = count_wanted(run, choice)
            summary = label_rows(
                labeller, number, rows.values(), total, store, context.reporter, keep_logprobs=keep_logprobs
            )
            answers += summary.new
            labels = _labels(store, number, labeller.samples, rows.values())
            known = {place: labels.get(row.id) for place, row in rows.items()}
            more = chooser.next(known, round_rows(len(rows), budget))
            choice = replace(choice, chosen=(*choice.chosen, *(candidates[place].id for place in more)))
        choice = _filled(context, choice)
    _write(run, choice)
    _tell(context, choice)
    return choice, answers


def pool_rows(run: RunDir, choice: Choice | None) -> Iterator[Row]:
    """The pool's rows of the choice, or all of them, one at a time."""
    ids = None if choice is None else frozenset(choice.ids)
    return (row for row in iter_rows(run.pool) if ids is None or row.id in ids)


def measuring_rows(run: RunDir) -> Iterator[Row]:
    """Validation and test rows, which come on top of every budget."""
    for path in (run.valid, *run.test_sets.values()):
        if path.exists():
            yield from iter_rows(path)


def count_wanted(run: RunDir, choice: Choice | None) -> int:
    """How many rows are labelled, those of two sets twice."""
    pool = count_rows(run.pool) if choice is None else len(choice.ids)
    return pool + sum(count_rows(path) for path in (run.valid, *run.test_sets.values()) if path.exists())


def _candidates(context: Context, choice: Choice) -> list[Row]:
    """Rows to choose from: those chosen before, and of the rest no two nearly the same, and none that measures."""
    run = context.run
    near = find_sources(iter_rows(run.pool), (), NEAR)
    left_out = near.keys() | {row.id for row in measuring_rows(run)}
    before = set(choice.ids)
    rows = count_rows(run.pool)
    drawn = generator(context.config.data.seed).permutation(rows) < MOST_CANDIDATES
    return [
        row
        for row, is_drawn in zip(iter_rows(run.pool), drawn, strict=True)
        if row.id in before or (is_drawn and row.id not in left_out)
    ]


def _labels(store: LabelStore, number: int, samples: Collection[int], rows: Iterable[Row]) -> dict[str, str]:
    """Row id -> the label that most of these samples of the teacher's name."""
    votes: dict[str, Counter[str]] = {}
    for answer in store.answers(number, {row.id: content_hash(row.text) for row in rows}, samples):
        if answer.label is not None:
            votes.setdefault(answer.row_id, Counter())[answer.label] += 1
    return {row_id: counts.most_common(1)[0][0] for row_id, counts in votes.items()}


def _filled(context: Context, choice: Choice) -> Choice:
    """The choice with rows nearly the same as others, where its budget is not used up without them."""
    assert choice.budget is not None
    taken = {*choice.ids, *(row.id for row in measuring_rows(context.run))}
    rest = (row.id for row in iter_rows(context.run.pool) if row.id not in taken)
    return replace(choice, chosen=(*choice.chosen, *itertools.islice(rest, choice.budget - len(choice.ids))))


def budget_figures(run: RunDir) -> dict[str, Any]:
    """What the manifest keeps of the choice in force."""
    choice = choice_in_force(run)
    if choice is None:
        return {}
    rows = len(choice.ids)
    return {"budget": {"rows": rows, "drawn": len(choice.drawn), "chosen": rows - len(choice.drawn)}}


def _tell(context: Context, choice: Choice) -> None:
    ids, pool = choice.ids, count_rows(context.run.pool)
    drawn = len(choice.drawn)
    others = len({row.id for row in measuring_rows(context.run)})
    context.reporter.note(
        f"budget: {len(ids):,} of {pool:,} rows of the pool ({drawn:,} drawn by chance, {len(ids) - drawn:,} chosen),"
        f" and {others:,} validation and test rows on top; `label --budget all` labels every row"
    )


def _read(run: RunDir) -> Choice | None:
    if not run.budget.exists():
        return None
    match read_json(run.budget):
        case {"budget": None | int() as budget, "pool_sha256": str(pool), "pilot": [*pilot], "chosen": [*chosen]}:
            return Choice(budget, pool, tuple(map(str, pilot)), tuple(map(str, chosen)))
    raise DataError("not a choice of rows", where=str(run.budget), hint="delete the file; the rows are chosen anew")


def _write(run: RunDir, choice: Choice) -> None:
    write_json(run.budget, asdict(choice))
