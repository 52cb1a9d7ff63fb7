"""The rows that a person is asked about, in order.

The rows worth most come first. Every tenth is drawn at random from the rows that nothing points at: how many of those
are wrong says how much the signals miss. On test and validation rows without gold the order is random, whatever the
signals say, so that any part of them stands for the whole.

The order follows from what the last run left, and what was decided before that run is not asked again; so a page that
is opened anew, after a crash too, goes on where the last one was.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlxdistill.errors import DataError
from mlxdistill.experiments.review.opinions import Opinion, Voices, voices
from mlxdistill.experiments.review.reasons import (
    CONTROL,
    KINDS,
    NO_GOLD,
    NOISE_FILTERS,
    SENTENCES,
    UNPARSABLE,
    Prediction,
    Reason,
    Signals,
    suspicions,
    worth,
)
from mlxdistill.filters.candidate import is_about_labels
from mlxdistill.rundir.files import read_jsonl
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.store import Decision, LabelStore, PersonLabel
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, content_hash, iter_rows

SETS = ("pool", "valid", "test_indist", "test_balanced")
CONTROL_EVERY = 10
ROWS_PER_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Item:
    """One row of the queue.

    Attributes:
        blind: whether the teacher's answer is kept from the person, because the label is to be gold.
    """

    row: Row
    content_hash: str
    reasons: tuple[Reason, ...]
    answer: Answer | None
    opinions: tuple[Opinion, ...]
    blind: bool

    @property
    def shown_label(self) -> str | None:
        """The teacher's label, where the person sees it."""
        return None if self.blind or self.answer is None else self.answer.label

    @property
    def why(self) -> tuple[str, ...]:
        return tuple(reason.kind for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class Queue:
    """Rows to look at, and how many there are in the set.

    Attributes:
        pointed, others: rows of the set that a signal points at, and that none does.
    """

    of_set: str
    items: tuple[Item, ...]
    pointed: int
    others: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """A row that was looked through."""

    row_id: str
    content_hash: str
    reasons: tuple[Reason, ...]

    @property
    def blind(self) -> bool:
        return any(reason.kind == NO_GOLD for reason in self.reasons)


def build_queue(run: RunDir, names: Sequence[str], of_set: str, why: str, most: int) -> Queue:
    """The next rows to look at.

    Args:
        names: the task's labels.
        of_set: one of SETS.
        why: one of KINDS, or `all`.
        most: how many rows.

    Raises DataError where nothing is labelled yet, or there is no such set.
    """
    path = {"pool": run.pool, "valid": run.valid, **run.test_sets}[of_set]
    manifest = Manifest(run)
    number = manifest.figures("label").get("labeller")
    if number is None or not run.labels.exists():
        raise DataError("nothing is labelled yet", where=str(run.path), hint="mlxdistill run CONFIG, then review it")
    if not path.exists():
        raise DataError(f"this run has no {of_set} rows", where=str(path), hint="set data.test or data.valid")
    with LabelStore(run.labels) as store:
        chosen, people = voices(run, int(number)), store.people()
        left_out, suspicion = _filtered(store) if of_set == "pool" else (set(), {})
        left_out |= _tested(run) if of_set == "pool" else set()
        left_out |= _decided_before(people, manifest)
        wanted = {*KINDS, UNPARSABLE} if why == "all" else {why}
        signals = Signals(names, wanted, suspicion, _predictions(run, of_set, names))
        seen = list(_look_through(path, store, chosen, signals, left_out, blind=of_set != "pool" and why == "all"))
        part = _part(_ordered(seen), people, most)
        items = tuple(_items(path, store, chosen, part))
    pointed = sum(bool(each.reasons) for each in seen)
    return Queue(of_set, items, pointed, len(seen) - pointed)


def _filtered(store: LabelStore) -> tuple[set[str], dict[str, tuple[Decision, float]]]:
    """Rows that never teach, whatever their label, and those that a filter for noise points at."""
    left_out: set[str] = set()
    noise: list[Decision] = []
    for decision in store.decisions():
        if decision.filter.startswith(NOISE_FILTERS):
            noise.append(decision)
        elif not decision.kept and not is_about_labels(decision.filter):
            left_out.add(decision.row_id)
    return left_out, suspicions(noise)


def _tested(run: RunDir) -> set[str]:
    """Rows of test sets: without gold, some stay in the pool's file."""
    return {row.id for path in run.test_sets.values() if path.exists() for row in iter_rows(path)}


def _decided_before(people: Mapping[str, PersonLabel], manifest: Manifest) -> set[str]:
    """Rows that a person decided before the last run looked at them."""
    finished = [manifest.stages.get(stage, {}).get("finished") for stage in ("label", "filter", "eval")]
    last = max((datetime.datetime.fromisoformat(each) for each in finished if each), default=None)
    decided = {row_id: datetime.datetime.fromisoformat(entry.decided) for row_id, entry in people.items()}
    return {row_id for row_id, when in decided.items() if last is not None and when < last}


def _predictions(run: RunDir, of_set: str, names: Sequence[str]) -> dict[str, Prediction]:
    """The last student's, of a test set; nothing where there is none."""
    if of_set not in run.test_sets or not run.predictions.exists():
        return {}
    found = {}
    for line in read_jsonl(run.predictions):
        if line["system"] == "student" and line["set"] == of_set:
            label, shares = line["prediction"], line["probabilities"]
            sure = shares[names.index(label)] if shares and label in names else None
            found[line["id"]] = Prediction(label, sure)
    return found


def _look_through(
    path: Path, store: LabelStore, chosen: Voices, signals: Signals, left_out: Collection[str], *, blind: bool
) -> Iterator[_Seen]:
    """Every row that may be asked about. Texts pass by a page at a time: a pool may hold a million of them."""
    rows = (row for row in _rows(path) if row.id not in left_out)
    while page := list(itertools.islice(rows, ROWS_PER_PAGE)):
        hashes = {row.id: content_hash(row.text) for row in page}
        answers, opinions = chosen.answers(store, hashes), chosen.opinions(store, hashes)
        for row in page:
            if blind and row.gold is None:
                yield _Seen(row.id, hashes[row.id], (Reason(NO_GOLD, SENTENCES[NO_GOLD]),))
            elif row.id in answers or row.gold is not None:
                reasons = signals.reasons(row, answers.get(row.id), opinions.get(row.id, []))
                yield _Seen(row.id, hashes[row.id], reasons)


def _rows(path: Path) -> Iterator[Row]:
    """Those of the pool without their gold: nothing that teaches may come of it."""
    rows = iter_rows(path)
    return (replace(row, gold=None) for row in rows) if path.name == "pool.jsonl" else rows


def _ordered(seen: Sequence[_Seen]) -> list[_Seen]:
    by_chance = sorted(seen, key=lambda each: content_hash(each.row_id))
    pointed = [each for each in by_chance if each.reasons and not each.blind]
    pointed.sort(key=lambda each: -worth(each.reasons))
    control = Reason(CONTROL, SENTENCES[CONTROL])
    others = iter([replace(each, reasons=(control,)) for each in by_chance if not each.reasons])
    order = [each for each in by_chance if each.blind]
    for place, each in enumerate(pointed, start=1):
        order.append(each)
        if place % (CONTROL_EVERY - 1) == 0:
            order.extend(itertools.islice(others, 1))
    return [*order, *others]


def _part(order: Sequence[_Seen], people: Mapping[str, PersonLabel], most: int) -> Sequence[_Seen]:
    """The first part of so many rows that has one left to decide; none where every row is decided."""
    for start in range(0, len(order), most):
        part = order[start : start + most]
        if any(each.row_id not in people or people[each.row_id].content_hash != each.content_hash for each in part):
            return part
    return ()


def _items(path: Path, store: LabelStore, chosen: Voices, part: Sequence[_Seen]) -> Iterator[Item]:
    wanted = {each.row_id for each in part}
    rows = {row.id: row for row in _rows(path) if row.id in wanted}
    hashes = {each.row_id: each.content_hash for each in part}
    answers, opinions = chosen.answers(store, hashes), chosen.opinions(store, hashes)
    for each in part:
        said = tuple(opinions.get(each.row_id, ()))
        yield Item(rows[each.row_id], each.content_hash, each.reasons, answers.get(each.row_id), said, each.blind)
