"""Near duplicates never lie on two sides: not of a drawn split, not of a given one, not of a set drawn later."""

from __future__ import annotations

import itertools
import json
import random
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlxdistill.config.data import DataConfig
from mlxdistill.data.deck import Cards, joined_units
from mlxdistill.data.ingest import IngestSummary, ingest
from mlxdistill.data.splits import draw_balanced
from mlxdistill.errors import DataError, MlxDistillError
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.rows import Row, normalised, read_rows
from mlxdistill.text.shingles import shingles

TASK = ClassificationTask("Decide.", (Label("ok", "", "ok"), Label("toxic", "", "toxic")))
WORDS = ["".join(random.Random(number).choices("abcdefghijklmnop", k=3 + number % 6)) for number in range(900)]


def jaccard(ours: set[str], theirs: set[str]) -> float:
    return len(ours & theirs) / len(ours | theirs)


def text_of(chance: random.Random, words: int = 14) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def config(source: Path, **more: Any) -> DataConfig:
    fields = {"text": "text", "gold": "gold", "id": "id"}
    return DataConfig(
        **{
            "source": str(source),
            "fields": fields,
            "valid": 12,
            "test": {"indist": 12, "balanced": 12},
            **more,
        }
    )


def sets_of(run: RunDir, summary: IngestSummary) -> dict[str, list[Row]]:
    return {name: read_rows(run.pool.with_name(f"{name}.jsonl")) for name in summary.sets}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


def copied_rows(seed: int, count: int = 160) -> list[dict[str, Any]]:
    """Rows, a third of them copies of an earlier one with a word added."""
    chance = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        text = text_of(chance)
        if rows and chance.random() < 0.3:
            text = chance.choice(rows)["text"] + " " + chance.choice(WORDS)[:3]
        rows.append(
            {"id": f"r{number}", "text": text, "gold": chance.choice(["ok", "ok", "toxic"]), "who": number % 120}
        )
    return rows


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10_000), st.sampled_from([0.6, 0.8]), st.sampled_from([None, "who"]))
def test_no_pair_at_the_threshold_lies_across_splits_and_every_row_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, seed: int, threshold: float, group: str | None
) -> None:
    class Silent:
        def advance(self, done: int, total: int, **figures: float) -> None: ...
        def note(self, message: str) -> None: ...

    folder = tmp_path_factory.mktemp("rows")
    rows = copied_rows(seed)
    run = RunDir(folder / "run")
    settings = config(write(folder / "rows.jsonl", rows), near_duplicates=threshold, group=group)
    try:
        summary = ingest(settings, TASK, run, Silent())
    except DataError as error:
        assume("too large" not in error.message)
        raise
    sets = sets_of(run, summary)
    side = {row.id: name for name, members in sets.items() for row in members}
    assert len(side) == sum(size.n for size in summary.sets.values())
    assert len(side) + summary.left_out + summary.duplicates == len(rows)
    found = {row["id"]: shingles(normalised(row["text"])) for row in rows}
    for one, other in itertools.combinations([row for row in rows if row["id"] in side], 2):
        if side[one["id"]] != side[other["id"]]:
            assert jaccard(found[one["id"]], found[other["id"]]) < threshold
            assert group is None or one["who"] != other["who"]


def test_a_thousand_rows_of_one_template_are_on_one_side(tmp_path: Path, run: RunDir, progress: Any) -> None:
    chance = random.Random(0)
    template = text_of(chance, 40)
    rows = [
        {"id": f"r{number}", "text": f"{template} {text_of(chance, 3)}" if number % 3 == 0 else text_of(chance)}
        for number in range(3000)
    ]
    for number, row in enumerate(rows):
        row["gold"] = ("ok", "toxic")[number % 2]
    summary = ingest(config(write(tmp_path / "rows.jsonl", rows)), TASK, run, progress)
    assert (summary.near_duplicates, summary.near_duplicate_sets) == (1000, 1)
    sets = sets_of(run, summary)
    assert [name for name, members in sets.items() if any(row.meta.get("component") for row in members)] == ["pool"]
    assert {row.meta["component"] for row in sets["pool"] if "component" in row.meta} == {"r0"}


def test_rows_of_the_source_that_are_nearly_a_given_set_s_are_left_out_and_counted(
    tmp_path: Path, run: RunDir, progress: Any
) -> None:
    chance = random.Random(1)
    source = [
        {"id": f"r{number}", "text": text_of(chance), "gold": ("ok", "toxic")[number % 2]} for number in range(80)
    ]
    test = [{"id": f"t{number}", "text": text_of(chance), "gold": ("ok", "toxic")[number % 2]} for number in range(6)]
    source[3]["text"] = test[0]["text"] + " x"
    source[4]["text"] = test[0]["text"] + " xy"
    source[5]["text"] = test[1]["text"].upper()
    valid = [{"id": "v0", "text": text_of(chance), "gold": "ok"}, {"id": "v1", "text": "b", "gold": "toxic"}]
    source[6]["text"] = "y " + valid[0]["text"]
    settings = {
        "valid": str(write(tmp_path / "valid.jsonl", valid)),
        "test": {"indist": str(write(tmp_path / "test.jsonl", test)), "balanced": 4},
    }
    path = write(tmp_path / "rows.jsonl", source)
    summary = ingest(config(path, **settings), TASK, run, progress)
    left = {row.id for name in ("pool", "test_balanced") for row in sets_of(run, summary)[name]}
    assert {row["id"] for row in source} - left == {"r3", "r4", "r5", "r6"}
    assert (summary.overlapping, summary.decontaminated) == (1, 3)
    assert summary.notes[-1] == "rows taken out of the source because a given set has nearly their text: 3"
    without = ingest(config(path, near_duplicates=None, **settings), TASK, run, progress)
    assert (without.overlapping, without.decontaminated, without.near_duplicates) == (1, 0, 0)


def test_rows_with_near_duplicates_name_their_component_and_the_others_do_not(
    tmp_path: Path, run: RunDir, progress: Any
) -> None:
    chance = random.Random(2)
    rows = [{"id": f"r{number}", "text": text_of(chance), "gold": ("ok", "toxic")[number % 2]} for number in range(90)]
    rows[7]["text"] = rows[2]["text"] + " a"
    rows[8]["text"] = rows[7]["text"] + "b c"
    summary = ingest(config(write(tmp_path / "rows.jsonl", rows)), TASK, run, progress)
    named = {row.id: row.meta.get("component") for members in sets_of(run, summary).values() for row in members}
    assert {row_id: component for row_id, component in named.items() if component} == {
        row_id: "r2" for row_id in ("r2", "r7", "r8") if row_id in named
    }
    assert (summary.near_duplicates, summary.near_duplicate_sets) == (3, 1)


def test_the_same_rows_in_another_order_give_the_same_sets(tmp_path: Path, progress: Any) -> None:
    rows = copied_rows(3)
    sides = []
    for number, order in enumerate((rows, rows[::-1])):
        run = RunDir(tmp_path / f"run{number}")
        summary = ingest(config(write(tmp_path / "rows.jsonl", order)), TASK, run, progress)
        sides.append({row.id: name for name, members in sets_of(run, summary).items() for row in members})
    assert sides[0] == sides[1]


def test_groups_that_near_duplicates_join_are_one_unit() -> None:
    units = np.array([30, 10, 30, 20, 20, 50], np.uint64)
    components = np.array([0, 1, 2, 1, 4, 0])  # row 3 is like row 1, row 5 like row 0
    assert joined_units(units, components).tolist() == [30, 10, 30, 10, 10, 30]
    assert joined_units(units, np.arange(6)) is units


def test_cards_of_rows_join_groups_and_components() -> None:
    rows = [
        Row("a", "", None, {"group": "g"}),
        Row("b", "", None, {"group": "g", "component": "b"}),
        Row("c", "", None, {"component": "b"}),
        Row("d", "", None, {}),
    ]
    units = Cards.of(rows, lambda row: None, ("ok",), 0).units
    assert len({*units[:3].tolist()}) == 1
    assert len(set(units.tolist())) == 2


def test_a_balanced_set_drawn_after_labelling_takes_one_row_of_a_component_and_its_other_rows_are_known_by_it() -> None:
    rows = [
        Row(f"r{number}", "", None, {"component": f"c{number // 4}"} if number < 80 else {}) for number in range(160)
    ]
    drawn = draw_balanced(rows, {row.id: ("ok", "toxic")[n % 2] for n, row in enumerate(rows)}, 20, 0, ("ok", "toxic"))
    components = Counter(row.meta["component"] for row in drawn.test_balanced if row.meta)
    assert components
    assert set(components.values()) == {1}


def test_components_too_large_to_draw_from_are_an_error_that_names_the_key(
    tmp_path: Path, run: RunDir, progress: Any
) -> None:
    rows = [
        {"id": f"r{number}", "text": " ".join([*WORDS[:40], WORDS[50 + number]]), "gold": ("ok", "toxic")[number % 2]}
        for number in range(200)
    ]
    with pytest.raises(DataError, match="too large") as caught:
        ingest(config(write(tmp_path / "rows.jsonl", rows)), TASK, run, progress)
    assert caught.value.where == "data.near_duplicates"
    assert "data.near_duplicates: null or higher" in caught.value.hint
    assert not run.pool.exists()


def test_memory_does_not_grow_with_the_texts(tmp_path: Path, run: RunDir, progress: Any) -> None:
    chance = random.Random(4)
    body = [text_of(chance, 2400) for _ in range(40)]
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        for number in range(500):
            row = {"id": number, "text": f"{number} {body[number % 40][number:]}", "gold": ("ok", "toxic")[number % 2]}
            file.write(json.dumps(row) + "\n")
    assert path.stat().st_size > 5_000_000
    ingest(config(write(tmp_path / "few.jsonl", copied_rows(0))), TASK, run, progress)  # imports
    tracemalloc.start()
    summary = ingest(config(path, near_duplicates=None), TASK, run, progress)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(size.n for size in summary.sets.values()) == 500
    assert peak < 2_500_000


def test_a_full_disk_is_an_error_a_user_can_mend(
    tmp_path: Path, run: RunDir, progress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlxdistill.data.spool import RowSpool

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RowSpool, "append", full)
    with pytest.raises(MlxDistillError, match="cannot write: no space left on device") as caught:
        ingest(config(write(tmp_path / "rows.jsonl", copied_rows(0))), TASK, run, progress)
    assert caught.value.where == str(run.pool.parent)
    assert "free some disk space" in caught.value.hint
