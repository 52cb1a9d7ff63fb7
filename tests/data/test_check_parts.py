"""What `data check` counts, against counting plainly."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdistill.data.check import columns as columns_room
from mlxdistill.data.check.columns import MOST_COLUMNS, ColumnProfiler, Distinct
from mlxdistill.data.check.duplicates import DuplicateFinder
from mlxdistill.data.check.examine import Examination, open_whole
from mlxdistill.data.check.gold import AnyGold, CountedGold
from mlxdistill.data.check.lengths import LengthCounter, Words
from mlxdistill.data.check.long_texts import MOST_TEXTS, LongTexts
from mlxdistill.data.check.overlap import overlap
from mlxdistill.data.check.warnings import warnings_of
from mlxdistill.data.fields import Columns
from mlxdistill.tasks.rows import Row, normalised


@given(st.lists(st.text(max_size=3), max_size=60))
def test_few_distinct_values_are_counted_exactly(values):
    distinct = Distinct()
    for value in values:
        distinct.add(value)
    assert (distinct.count, distinct.is_estimate) == (len(set(values)), False)


def test_many_distinct_values_are_estimated_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(columns_room, "MOST_KEPT", 2**11)
    distinct = Distinct()
    for number in range(50_000):
        distinct.add(f"value {number % 20_000}")
    assert distinct.is_estimate
    assert abs(distinct.count - 20_000) < 0.1 * 20_000
    assert len(distinct._kept) <= 2**11


def test_columns_are_told_by_what_their_cells_hold():
    profiler = ColumnProfiler(["always"])
    profiler.see({"always": "7", "mixed": 1, "empty": None})
    profiler.see({"always": "-0.5", "mixed": "one", "empty": " "})
    profiler.see({"always": "1e3", "mixed": True, "list": [1], "empty": float("nan")})
    found = {each.name: (dict(each.types), each.numeric, each.empty, each.distinct) for each in profiler.profiles()}
    assert found == {
        "always": ({"string": 3}, 3, 0, 3),
        "mixed": ({"number": 1, "string": 1, "boolean": 1}, 0, 0, 3),
        "empty": ({}, 0, 3, 0),
        "list": ({"list": 1}, 0, 2, 1),
    }
    assert not profiler.more


def test_a_column_for_every_line_does_not_fill_the_memory():
    profiler = ColumnProfiler(())
    for number in range(10 * MOST_COLUMNS):
        profiler.see({f"column {number}": number})
    assert len(profiler.profiles()) == MOST_COLUMNS
    assert profiler.more


@given(st.lists(st.tuples(st.sampled_from(["a", "A ", "b", "c"]), st.sampled_from([None, "x", "y"])), max_size=20))
def test_duplicates_and_conflicts_are_those_that_comparing_all_rows_finds(cells):
    finder = DuplicateFinder()
    first_gold: dict[str, str] = {}
    seen: set[str] = set()
    exact = conflicts = 0
    for number, (text, gold) in enumerate(cells):
        new = finder.see(Row(str(number), text, gold))
        key = normalised(text)
        assert new == (None if key in seen else key)
        exact += key in seen
        seen.add(key)
        if gold is not None:
            conflicts += first_gold.setdefault(key, gold) != gold
    found = finder.found(None)
    assert (found.exact, found.conflicting_gold) == (exact, conflicts)


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=40), st.integers(1, 3000))
def test_the_histogram_holds_every_row_once(lengths, most):
    class Given:
        unit = "words"

        def __init__(self) -> None:
            self.most: int | None = most

        def lengths(self, texts):
            return lengths

    counter = LengthCounter(Given())
    counter.see(["" for _ in lengths])
    found = counter.lengths()
    assert found is not None
    assert sum(bar.rows for bar in found.bars) == found.rows == len(lengths)
    assert found.longest == max(lengths)
    assert sorted(lengths)[(len(lengths) - 1) // 2] == found.median
    assert found.cut == sum(length > most for length in lengths)
    low = -1
    for bar in found.bars:
        assert bar.rows == sum(low < length <= (bar.up_to or 10**9) for length in lengths) or low == -1
        low = bar.up_to or 10**9


def test_only_texts_with_more_bytes_than_tokens_are_kept_and_a_sample_of_very_many():
    long = LongTexts(10)
    for number in range(1000):
        long.see("short")
        long.see("ééééé")
        long.see(f"éééééé {number}")
    assert long.count == 1000
    assert len(long.texts) == MOST_TEXTS
    assert len({int(text.split()[1]) // 100 for text in long.texts}) == 10


def test_an_overlap_is_exact_or_near_and_counts_rows():
    test = ["the parcel that i ordered has been opened and closed again by someone", "nothing like it at all"]
    rows = [test[0], test[0] + ".", "quite another sentence about the weather of tomorrow", test[1]]
    found = overlap(lambda: iter(rows), lambda: iter(test))
    assert (found.exact, found.near) == (2, 1)


def examined(path, progress, sample=10**9, gold="gold"):
    source = open_whole(path, ("text", gold))
    columns = Columns("text", gold)
    return Examination(source, columns, CountedGold(AnyGold()), Words(), (), sample, progress).findings()


def test_a_sample_is_of_about_the_size_asked_for_and_the_same_every_time(tmp_path, progress):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"text": "row {number * 7919}", "gold": 1}}\n' for number in range(4000)))
    found = examined(path, progress, sample=400)
    assert 300 < found.looked_at < 500
    assert found.lengths.rows == sum(found.languages.values()) == found.looked_at
    assert (found.rows, found.gold.counts) == (4000, {"1": 4000})
    assert examined(path, progress, sample=400) == found


def test_a_column_of_ids_is_no_column_of_classes(tmp_path, progress):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"text": "row {number * 7919}", "gold": {number}}}\n' for number in range(1200)))
    found = examined(path, progress)
    assert found.gold.too_many
    assert found.gold.counts == {}
    assert any("hardly classes" in line for line in warnings_of(found))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from(["ok", "toxic", ""]), min_size=1, max_size=30))
def test_classes_are_counted_as_they_stand(golds):
    counted = CountedGold(AnyGold(), ("ok",))
    for gold in golds:
        counted.count(counted.read(gold))
    found = counted.findings()
    expected = Counter(gold for gold in golds if gold)
    assert found.counts == {"ok": expected["ok"], **expected}
    assert found.without == golds.count("")
    assert found.absent == (() if expected["ok"] else ("ok",))


@pytest.mark.parametrize("parts", [("en", "en"), ("en", "de")])
def test_a_second_language_is_a_warning(tmp_path, progress, parts):
    sentences = {
        "en": "Could you please tell me where the nearest station is?",
        "de": "Können Sie mir bitte sagen, wo der nächste Bahnhof ist?",
    }
    path = tmp_path / "rows.csv"
    lines = [f'"{sentences[part]} {number * 331}",ok' for part in parts for number in range(20)]
    path.write_text("\n".join(["text,gold", *lines]), "utf-8")
    told = [line for line in warnings_of(examined(path, progress)) if "languages" in line]
    assert told == ([] if parts == ("en", "en") else ["rows in other languages than en: 20"])
