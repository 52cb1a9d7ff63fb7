"""Splits by date: nothing that is learned from was written after what chooses, and that before what tests."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlxdistill.config.data import DataConfig
from mlxdistill.data.deck import Cards
from mlxdistill.data.ingest import ingest
from mlxdistill.data.splits import Wanted, draw_balanced
from mlxdistill.data.time_splits import draw_by_time
from mlxdistill.data.times import shown_time
from mlxdistill.errors import DataError
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.rows import Row, read_rows

LABELS = ("ok", "toxic")
TASK = ClassificationTask("Decide.", tuple(Label(name, "", name) for name in LABELS))
DAY = 24 * 3600 * 1000


def cards_of(golds, groups=None):
    rows = [
        Row(f"r{number}", "", gold, {} if groups is None else {"group": str(groups[number])})
        for number, gold in enumerate(golds)
    ]
    return Cards.of(rows, lambda row: row.gold, LABELS, 0)


@st.composite
def sources(draw):
    golds = draw(st.lists(st.sampled_from([*LABELS, "ok", None]), min_size=60, max_size=200))
    assume(min(golds.count(label) for label in LABELS) >= 15)
    times = draw(
        st.lists(st.integers(0, draw(st.sampled_from([20, 10_000]))), min_size=len(golds), max_size=len(golds))
    )
    few = draw(st.integers(20, 400))
    groups = [draw(st.integers(0, few)) for _ in golds] if draw(st.booleans()) else None
    counts = st.none() | st.integers(1, 8)
    return cards_of(golds, groups), np.array(times), Wanted(draw(counts), draw(counts), draw(counts))


@pytest.mark.parametrize("wanted", [Wanted(None, 60, None), Wanted(30, 60, None)])
def test_groups_that_leave_nothing_to_learn_from_are_named(wanted):
    cards = cards_of([LABELS[number % 2] for number in range(600)], [number % 10 for number in range(600)])
    with pytest.raises(DataError, match="none is left to learn from") as caught:
        draw_by_time(cards, np.arange(600), wanted)
    assert caught.value.where == "data.group"


@settings(deadline=None, max_examples=150)
@given(sources())
def test_sets_follow_one_another_in_time_and_every_row_is_accounted_for(source):
    cards, times, wanted = source
    try:
        splits = draw_by_time(cards, times, wanted)
    except DataError as error:
        assume(False)
        raise error
    places = [place for places in splits.sets.values() for place in places.tolist()]
    assert len(places) == len(set(places)) == len(cards) - splits.left_out - splits.left_out_by_time
    assert len(splits.pool) > 0
    tests = [places for places in (splits.test_balanced, splits.test_indist) if places is not None]
    order = [[splits.pool], [] if splits.valid is None else [splits.valid], tests]
    present = [np.concatenate(part) for part in order if part]
    for earlier, later in itertools.pairwise(present):
        assert times[earlier].max() < times[later].min()
    owners = {}
    for name, members in splits.sets.items():
        for unit in cards.units[members].tolist():
            assert owners.setdefault(unit, name) == name
    if splits.test_balanced is not None:
        assert len(set(Counter(cards.classes[splits.test_balanced].tolist()).values())) == 1
    for name, count in wanted.counts.items():
        if name != "test_balanced":
            assert len(splits.sets[name]) <= count
    again = draw_by_time(cards, times, wanted)
    assert all(np.array_equal(again.sets[name], members) for name, members in splits.sets.items())


def test_windows_are_as_late_as_they_can_be():
    golds = (["ok"] * 4 + ["toxic"]) * 100
    times = np.arange(500) * DAY
    splits = draw_by_time(cards_of(golds), times, Wanted(valid=50, test_indist=20, test_balanced=20))
    assert {name: len(places) for name, places in splits.sets.items()} == {
        "pool": 384,
        "valid": 50,
        "test_indist": 20,
        "test_balanced": 20,
    }
    # ten toxic rows for the one set and four for the other take the last 66 rows
    assert splits.test_balanced.min() >= 434
    assert splits.valid.tolist() == list(range(384, 434))
    assert splits.pool.tolist() == list(range(384))
    assert (splits.left_out, splits.left_out_by_time) == (0, 26)
    assert splits.notes == (
        f"by data.time: test_balanced and test_indist from {shown_time(434 * DAY)} on",
        f"by data.time: valid from {shown_time(384 * DAY)} on",
        f"by data.time: the pool ends at {shown_time(383 * DAY)}",
    )


def test_a_label_that_is_rare_of_late_makes_the_balanced_set_smaller_and_is_named():
    golds = ["ok", "toxic"] * 150 + ["ok"] * 97 + ["toxic"] * 3
    splits = draw_by_time(cards_of(golds), np.arange(400), Wanted(valid=40, test_balanced=40))
    assert Counter(splits.test_balanced.tolist()).keys() >= {397, 398, 399}
    assert len(splits.test_balanced) == 6
    assert splits.notes[0] == (
        "test_balanced has 3 rows a label, not 20: the latest 100 rows have no more of 'toxic' for it"
    )
    with pytest.raises(DataError, match="among the latest 100 rows is none of 'toxic'") as caught:
        draw_by_time(cards_of(["ok", "toxic"] * 150 + ["ok"] * 100), np.arange(400), Wanted(40, None, 40))
    assert caught.value.where == "data.time"


def test_rows_before_a_set_that_are_of_a_unit_with_a_row_in_it_are_left_out():
    groups = [*range(90), *range(10)]
    splits = draw_by_time(cards_of(["ok", "toxic"] * 50, groups), np.arange(100), Wanted(test_indist=10))
    assert splits.test_indist.tolist() == list(range(90, 100))
    assert splits.pool.tolist() == list(range(10, 90))
    assert (splits.left_out, splits.left_out_by_time) == (10, 0)


def test_rows_of_one_time_are_not_torn_apart_and_one_time_alone_is_an_error():
    times = np.repeat(np.arange(10), 10)
    splits = draw_by_time(cards_of([None] * 100), times, Wanted(valid=5, test_indist=5))
    assert set(times[splits.test_indist]) == {9}
    assert set(times[splits.valid]) == {8}
    assert splits.pool.tolist() == list(range(80))
    assert splits.left_out_by_time == 10
    with pytest.raises(DataError, match="cannot be split by it") as caught:
        draw_by_time(cards_of([None] * 100), np.zeros(100, np.int64), Wanted(valid=5))
    assert caught.value.where == "data.time"


def test_without_gold_the_balanced_set_is_drawn_from_the_latest_labelled_rows():
    rows = [Row(f"r{number}", "", None, {"time": shown_time(number * DAY)}) for number in range(200)]
    label_of = {row.id: "toxic" if number % 10 == 0 else "ok" for number, row in enumerate(rows)}
    drawn = draw_balanced(rows, label_of, 8, 0, LABELS)
    assert Counter(label_of[row.id] for row in drawn.test_balanced) == {"ok": 4, "toxic": 4}
    assert min(int(row.id[1:]) for row in drawn.test_balanced) >= 160
    late = {row.id: "toxic" if number < 60 else "ok" for number, row in enumerate(rows)}
    with pytest.raises(DataError, match="among the latest 100 rows is none of 'toxic'"):
        draw_balanced(rows, late, 8, 0, LABELS)


def test_ingest_splits_by_the_column_and_puts_lines_without_a_time_aside(tmp_path, progress):
    source, test = tmp_path / "rows.jsonl", tmp_path / "test.jsonl"
    rows = [
        {
            "id": f"r{n}",
            "text": f"{n * 7919} {n**3}",
            "gold": LABELS[n % 2],
            "when": f"2024-{1 + n // 28:02d}-{1 + n % 28:02d}",
        }
        for n in range(200)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in [*rows[::-1], {**rows[0], "id": "x", "when": "later"}]))
    test.write_text(
        "".join(json.dumps({"id": f"t{n}", "text": f"test {n}{n}", "gold": LABELS[n]}) + "\n" for n in (0, 1))
    )
    config = DataConfig(
        source=str(source),
        fields={"text": "text", "gold": "gold", "id": "id"},
        time="when",
        valid=20,
        test={"indist": 20, "balanced": str(test)},
    )
    run = RunDir(tmp_path / "run")
    summary = ingest(config, TASK, run, progress)
    assert summary.bad_lines == 1
    assert summary.first_bad_lines[0].startswith(f"{source}:201 the time is no date that can be read")
    ends = {
        name: [row.meta["time"] for row in read_rows(getattr(run, name))] for name in ("pool", "valid", "test_indist")
    }
    assert max(ends["pool"]) < min(ends["valid"]) <= max(ends["valid"]) < min(ends["test_indist"])
    assert sum(size.n for size in summary.sets.values()) + summary.left_out + summary.left_out_by_time == 200 + 2
    assert [row.meta for row in read_rows(run.test_balanced)] == [{}, {}]
    with pytest.raises(DataError, match="no column 'whem'") as caught:
        ingest(config.model_copy(update={"time": "whem"}), TASK, run, progress)
    assert "data.time" in caught.value.hint
