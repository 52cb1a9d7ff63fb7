import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlxdistill.data import splits as module
from mlxdistill.data.deck import Cards, apportion
from mlxdistill.data.splits import Wanted, draw_balanced
from mlxdistill.errors import DataError
from mlxdistill.tasks.rows import Row

LABELS = ("ok", "toxic", "spam")


def rows_of(golds, groups=None):
    return [
        Row(f"r{index}", f"text {index}", gold, {} if groups is None else {"group": str(groups[index])})
        for index, gold in enumerate(golds)
    ]


def draw_splits(rows, labels, wanted, seed):
    """The sets as rows."""
    splits = module.draw_splits(Cards.of(rows, lambda row: row.gold, labels, seed), wanted)
    sets = {"valid": None, "test_indist": None, "test_balanced": None}
    sets |= {name: tuple(rows[place] for place in places) for name, places in splits.sets.items()}
    if sets["valid"] is not None:
        sets["valid"] = halved(sets["valid"], seed, labels)
    return SimpleNamespace(**sets, left_out=splits.left_out, notes=splits.notes)


def halved(rows, seed, labels=LABELS):
    calibrates = module.halved(Cards.of(rows, lambda row: row.gold, labels, seed))
    halves = ("selection", "calibration")
    return tuple(
        replace(row, meta={**row.meta, "half": halves[half]})
        for row, half in zip(rows, calibrates.astype(int), strict=True)
    )


def ids(rows):
    return [row.id for row in rows or ()]


def drawn_sets(splits):
    return {"valid": splits.valid, "test_indist": splits.test_indist, "test_balanced": splits.test_balanced}


@st.composite
def sources(draw, may_be_grouped=True):
    golds = draw(st.lists(st.sampled_from(LABELS), min_size=12, max_size=80))
    golds += list(LABELS)
    few = draw(st.integers(2, 40))
    groups = [draw(st.integers(0, few)) for _ in golds] if may_be_grouped and draw(st.booleans()) else None
    eighth = max(1, len(golds) // 8)
    wanted = Wanted(draw(st.integers(1, eighth)), draw(st.integers(1, eighth)), draw(st.integers(1, eighth)))
    return rows_of(golds, groups), wanted, draw(st.integers(0, 5))


def try_split(rows, wanted, seed):
    try:
        return draw_splits(rows, LABELS, wanted, seed)
    except DataError:
        assume(False)


@settings(deadline=None, max_examples=150)
@given(sources())
def test_splits_are_a_partition_balanced_and_keep_groups_whole(source):
    rows, wanted, seed = source
    splits = try_split(rows, wanted, seed)
    every = ids(splits.pool) + [name for drawn in drawn_sets(splits).values() for name in ids(drawn)]
    assert len(every) == len(set(every)) == len(rows) - splits.left_out
    assert set(every) <= set(ids(rows))
    assert len(splits.pool) * 2 >= len(rows) - 1
    balance = Counter(row.gold for row in splits.test_balanced)
    assert set(balance) == set(LABELS)
    assert len(set(balance.values())) == 1
    owners = {}
    for name, members in {"pool": splits.pool, **drawn_sets(splits)}.items():
        for row in members:
            assert owners.setdefault(row.meta.get("group", row.id), name) == name
    for name, count in wanted.counts.items():
        if name != "test_balanced":
            assert len(drawn_sets(splits)[name]) <= count


@settings(deadline=None, max_examples=80)
@given(sources(may_be_grouped=False))
def test_without_groups_sets_have_the_numbers_asked_for_and_the_source_s_proportions(source):
    rows, wanted, seed = source
    splits = try_split(rows, wanted, seed)
    assert splits.left_out == 0
    natural = Counter(row.gold for row in rows)
    for name in ("valid", "test_indist"):
        drawn = drawn_sets(splits)[name]
        assert len(drawn) == wanted.counts[name]
        counts = Counter(row.gold for row in drawn)
        for label in LABELS:
            if natural[label] >= 8:
                assert abs(counts[label] - len(drawn) * natural[label] / len(rows)) <= 1.5


@settings(deadline=None, max_examples=60)
@given(sources(), st.randoms(use_true_random=False))
def test_the_same_rows_and_seed_give_the_same_sets_in_any_order(source, random):
    rows, wanted, seed = source
    splits = try_split(rows, wanted, seed)
    assert draw_splits(rows, LABELS, wanted, seed) == splits
    shuffled = list(rows)
    random.shuffle(shuffled)
    again = draw_splits(shuffled, LABELS, wanted, seed)
    assert {name: set(ids(rows)) for name, rows in drawn_sets(again).items()} == {
        name: set(ids(rows)) for name, rows in drawn_sets(splits).items()
    }
    halves = {row.id: row.meta["half"] for row in splits.valid}
    assert {row.id: row.meta["half"] for row in again.valid} == halves


def test_another_seed_draws_other_rows():
    rows = rows_of(LABELS * 40)
    first, second = (draw_splits(rows, LABELS, Wanted(10, 10, 9), seed) for seed in (0, 1))
    assert ids(first.test_indist) != ids(second.test_indist)


def test_more_validation_rows_leave_the_test_sets_as_they_are():
    rows = rows_of(LABELS * 40)
    first, second = (draw_splits(rows, LABELS, Wanted(valid, 10, 9), 0) for valid in (5, 30))
    assert ids(first.test_indist) == ids(second.test_indist)
    assert ids(first.test_balanced) == ids(second.test_balanced)


def test_the_split_does_not_depend_on_the_process_s_hash_seed():
    program = (
        "import json\n"
        "from mlxdistill.data.deck import Cards\n"
        "from mlxdistill.data.splits import *\n"
        "from mlxdistill.tasks.rows import Row\n"
        "rows = [Row(str(i), str(i), 'ab'[i % 2], {'group': str(i % 37)}) for i in range(200)]\n"
        "s = draw_splits(Cards.of(rows, lambda row: row.gold, ('a', 'b'), 3), Wanted(10, 20, 10))\n"
        "print(json.dumps([x.tolist() for x in (s.pool, s.valid, s.test_indist, s.test_balanced)]))\n"
    )
    root = str(Path(__file__).parents[2])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1
    assert len(json.loads(outputs.pop())[1]) == 10


@settings(deadline=None, max_examples=80)
@given(st.lists(st.sampled_from(LABELS), min_size=1, max_size=60), st.integers(0, 3))
def test_halves_are_equal_in_size_and_in_each_class(golds, seed):
    rows = halved(rows_of(golds), seed)
    counts = Counter((row.gold, row.meta["half"]) for row in rows)
    assert [row.id for row in rows] == ids(rows_of(golds))
    for label in LABELS:
        assert abs(counts[label, "selection"] - counts[label, "calibration"]) <= 1
    sizes = Counter(row.meta["half"] for row in rows)
    assert abs(sizes["selection"] - sizes["calibration"]) <= 1


def test_halves_keep_groups_whole():
    rows = halved(rows_of(LABELS * 10, [index // 4 for index in range(30)]), 0)
    for group in {row.meta["group"] for row in rows}:
        assert len({row.meta["half"] for row in rows if row.meta["group"] == group}) == 1
    sizes = Counter(row.meta["half"] for row in rows)
    assert abs(sizes["selection"] - sizes["calibration"]) <= 4


def test_halves_are_balanced_in_each_class_when_a_group_mixes_classes():
    golds = ["ok"] + ["toxic"] * 6 + ["ok"] * 6 + ["toxic"] * 6
    groups = ["mixed"] * 7 + list(range(12))
    counts = Counter((row.gold, row.meta["half"]) for row in halved(rows_of(golds, groups), 0))
    assert counts["toxic", "selection"] == counts["toxic", "calibration"] == 6


@given(st.integers(0, 100), st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 50), min_size=1))
def test_apportioned_shares_add_up_and_are_within_one_of_the_exact_share(total, counts):
    shares = apportion(total, counts)
    everything = sum(counts.values())
    assert sum(shares.values()) == (total if everything else 0)
    for label, share in shares.items():
        exact = total * counts[label] / everything if everything else 0
        assert exact - 1 < share < exact + 1


def test_test_sets_take_one_row_of_each_group_when_there_are_enough_groups():
    rows = rows_of(["ok", "toxic"] * 100, [index // 2 for index in range(200)])
    splits = draw_splits(rows, ("ok", "toxic"), Wanted(valid=10, test_indist=20, test_balanced=10), 0)
    for drawn in (splits.test_indist, splits.test_balanced):
        groups = [row.meta["group"] for row in drawn]
        assert len(groups) == len(set(groups))
    assert splits.left_out == 30


def test_validation_takes_whole_groups_and_leaves_no_row_out():
    rows = rows_of(["ok", "toxic"] * 100, [index // 2 for index in range(200)])
    splits = draw_splits(rows, ("ok", "toxic"), Wanted(valid=10), 0)
    assert len({row.meta["group"] for row in splits.valid}) == 5
    assert len(splits.valid) == 10
    assert splits.left_out == 0


def test_few_large_groups_give_several_rows_each_and_leave_half_to_the_pool():
    rows = rows_of(["ok", "toxic"] * 200, [index // 20 for index in range(400)])
    splits = draw_splits(rows, ("ok", "toxic"), Wanted(valid=40, test_indist=40, test_balanced=40), 0)
    assert {name: len(drawn) for name, drawn in drawn_sets(splits).items()} == {
        "valid": 40,
        "test_indist": 40,
        "test_balanced": 40,
    }
    assert len(splits.pool) >= 200


def test_a_large_group_gives_a_row_only_where_small_ones_do_not_suffice():
    rows = rows_of(["ok", "toxic"] * 200, [0] * 100 + list(range(1, 301)))
    for seed in range(30):
        splits = draw_splits(rows, ("ok", "toxic"), Wanted(20, 20, 20), seed)
        assert {"0"} == {row.meta["group"] for row in splits.pool} & {"0"}
        assert splits.left_out == 0
    few = rows_of(["ok", "toxic"] * 200, [0] * 100 + [number // 50 for number in range(50, 350)])
    assert draw_splits(few, ("ok", "toxic"), Wanted(test_indist=20), 0).left_out > 0


def test_groups_that_are_too_large_for_a_set_are_an_error_that_says_so():
    rows = rows_of(["ok", "toxic"] * 50, [index // 50 for index in range(100)])
    with pytest.raises(DataError, match="the groups are too large") as caught:
        draw_splits(rows, ("ok", "toxic"), Wanted(4, 4, 4), 0)
    assert caught.value.where == "data.group"


def test_a_label_that_lies_in_large_groups_makes_the_balanced_set_smaller_for_every_label():
    golds = ["ok"] * 90 + ["toxic"] * 2 + ["ok"] * 3 + ["toxic"] * 18 + ["ok"] * 87
    groups = [*range(90), *["small"] * 5, *["large"] * 105]
    splits = draw_splits(rows_of(golds, groups), ("ok", "toxic"), Wanted(test_balanced=20), 0)
    assert Counter(row.gold for row in splits.test_balanced) == {"ok": 2, "toxic": 2}
    assert splits.notes == ("test_balanced has 2 rows a label, not 10: the groups with 'toxic' give no more",)
    assert len(splits.pool) + splits.left_out + 4 == 200


def test_a_rare_label_makes_the_balanced_set_smaller_for_every_label_and_is_named():
    rows = rows_of(["ok"] * 200 + ["toxic"] * 7)
    splits = draw_splits(rows, ("ok", "toxic"), Wanted(test_balanced=40), 0)
    assert Counter(row.gold for row in splits.test_balanced) == {"ok": 3, "toxic": 3}
    assert splits.notes == (
        "test_balanced has 3 rows a label, not 20: of the 7 rows of 'toxic' half at most are drawn",
    )


def test_every_label_gets_a_row_when_fewer_rows_than_labels_are_asked_for():
    splits = draw_splits(rows_of(LABELS * 10), LABELS, Wanted(test_balanced=2), 0)
    assert Counter(row.gold for row in splits.test_balanced) == dict.fromkeys(LABELS, 1)
    assert "3 rows, one a label, though data.test.balanced is 2" in splits.notes[0]


def test_a_label_without_gold_is_an_error_that_names_it():
    with pytest.raises(DataError, match="there is none of 'spam'") as caught:
        draw_splits(rows_of(["ok", "toxic"] * 20), LABELS, Wanted(test_balanced=6), 0)
    assert caught.value.where == "data.test.balanced"
    assert "give a file" in caught.value.hint


def test_sets_that_take_more_than_half_are_refused_with_numbers_that_would_do():
    rows = rows_of(["ok", "toxic"] * 50)
    with pytest.raises(DataError, match=r"take 60 rows .*, more than half of the 100 there are") as caught:
        draw_splits(rows, ("ok", "toxic"), Wanted(20, 20, 20), 0)
    assert "data.valid: 16, data.test.indist: 16, data.test.balanced: 16" in caught.value.hint
    draw_splits(rows, ("ok", "toxic"), Wanted(16, 16, 16), 0)


def test_rows_without_gold_go_to_the_pool_only_and_this_is_said():
    rows = rows_of((["ok", "toxic"] + [None] * 2) * 20)
    splits = draw_splits(rows, ("ok", "toxic"), Wanted(8, 8, 8), 0)
    for drawn in drawn_sets(splits).values():
        assert all(row.gold is not None for row in drawn)
    assert splits.notes == ("rows without gold, all of them in the pool: 40 of 80",)
    with pytest.raises(DataError, match="only 4 of 40 rows have gold"):
        draw_splits(rows_of((["ok"] + [None] * 9) * 4), ("ok", "toxic"), Wanted(5, 5), 0)


def test_without_gold_the_balanced_set_is_drawn_after_labelling():
    rows = rows_of([None] * 60, [index // 2 for index in range(60)])
    splits = draw_splits(rows, ("ok", "toxic"), Wanted(6, 6, 6), 0)
    assert splits.test_balanced is None
    assert len(splits.test_indist) == len(splits.valid) == 6
    assert "drawn from the teacher's answers" in splits.notes[0]
    label_of = {row.id: "toxic" if index % 3 == 0 else "ok" for index, row in enumerate(splits.pool) if index != 1}
    draw = draw_balanced(splits.pool, label_of, 6, 0, ("ok", "toxic"))
    assert Counter(label_of[row.id] for row in draw.test_balanced) == {"ok": 3, "toxic": 3}
    assert draw_balanced(splits.pool, label_of, 6, 0, ("ok", "toxic")) == draw


def test_a_label_the_teacher_never_gave_is_left_out_of_the_balanced_set_with_a_note():
    rows = rows_of([None] * 40)
    label_of = {row.id: LABELS[index % 2] for index, row in enumerate(rows)}
    draw = draw_balanced(rows, label_of, 9, 0, LABELS)
    assert Counter(label_of[row.id] for row in draw.test_balanced) == {"ok": 4, "toxic": 4}
    assert draw.notes == ("test_balanced has no row of 'spam': the teacher answered so for no row",)
    with pytest.raises(DataError, match="rows of two labels at least"):
        draw_balanced(rows, dict.fromkeys(label_of, "ok"), 9, 0, LABELS)
