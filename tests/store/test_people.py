"""Labels by people: added to, never rewritten, and whole whatever happens."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdistill.store import LabelReader, LabelStore, Stale, Verdict


def verdict(row_id: str, label: str | None, of_set: str = "pool", digest: str = "hash") -> Verdict:
    return Verdict(row_id, digest, of_set, label, "ok", ("margin",))


def standing(path: Path) -> dict[str, str | None]:
    with LabelReader(path) as reader:
        return {row_id: entry.label for row_id, entry in reader.people().items()}


def test_what_was_decided_last_stands_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with LabelStore(path) as store:
        first = store.decide(verdict("a", "ok"))
        second = store.decide(verdict("a", "toxic"), first.number)
        store.decide(verdict("b", None))
    assert standing(path) == {"a": "toxic", "b": None}
    with LabelReader(path) as reader:
        history = reader.people_history("a")
    assert [(entry.label, entry.previous, entry.undoes) for entry in history] == [
        ("ok", None, None),
        ("toxic", 1, None),
    ]
    assert (second.content_hash, second.of_set, second.shown, second.why) == ("hash", "pool", "ok", ("margin",))
    assert history[0].decided <= history[1].decided


def test_nobody_decides_over_what_they_have_not_seen(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        store.decide(verdict("a", "ok"), 0)
        for seen in (0, 2):
            with pytest.raises(Stale):
                store.decide(verdict("a", "toxic"), seen)
        assert store.people()["a"].label == "ok"
        store.decide(verdict("a", "toxic"), 1)


def test_only_what_stands_is_taken_back(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        store.decide(verdict("a", "ok"))
        store.decide(verdict("a", "toxic"))
        with pytest.raises(Stale):
            store.undo(1)
        undone = store.undo(2)
        assert (undone.undoes, undone.label) == (2, "ok")
        for number in (2, 3, 99):
            with pytest.raises(Stale):
                store.undo(number)
        store.undo(1)
        assert store.people() == {}
        store.decide(verdict("a", None))
        store.undo(5)
        assert store.people() == {}
        assert len(store.people_history()) == 6


@settings(deadline=None, max_examples=40)
@given(steps=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["ok", "toxic", None, "undo"])), max_size=14))
def test_it_is_a_stack_of_each_row(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str | None]]
) -> None:
    stacks: dict[str, list[tuple[int, str | None]]] = {"a": [], "b": [], "c": []}
    with LabelStore(tmp_path_factory.mktemp("store") / "labels.sqlite") as store:
        for row_id, step in steps:
            if step != "undo":
                stacks[row_id].append((store.decide(verdict(row_id, step)).number, step))
            elif stacks[row_id]:
                store.undo(stacks[row_id].pop()[0])
        expected = {row_id: stack[-1][1] for row_id, stack in stacks.items() if stack}
        assert {row_id: entry.label for row_id, entry in store.people().items()} == expected


def test_the_fingerprint_follows_labels_of_the_sets_alone(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"

    def changed(work: Callable[[LabelStore], object]) -> bool:
        with LabelStore(path) as store, LabelReader(path) as reader:
            before = reader.people_fingerprint(("pool",))
            work(store)
            return reader.people_fingerprint(("pool",)) != before

    assert not changed(lambda store: store.decide(verdict("a", None)))
    assert not changed(lambda store: store.decide(verdict("b", "ok", "test_indist")))
    assert changed(lambda store: store.decide(verdict("c", "ok")))
    assert changed(lambda store: store.decide(verdict("c", "toxic")))
    assert changed(lambda store: store.decide(verdict("c", "toxic", digest="another text")))
    assert not changed(lambda store: store.decide(verdict("c", "toxic", digest="another text")))
    with LabelStore(path) as store, LabelReader(path) as reader:
        for number in (6, 5, 4, 3):
            store.undo(number)
        assert reader.people_fingerprint(("pool",)) is None


def test_a_store_of_before_gets_the_table(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    LabelStore(path).__enter__().__exit__()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE people")
        connection.execute("ALTER TABLE decisions DROP COLUMN weight")
        connection.execute("ALTER TABLE decisions DROP COLUMN label")
        connection.execute("ALTER TABLE decisions DROP COLUMN probabilities")
        connection.execute("PRAGMA user_version = 5")
        connection.commit()
    assert standing(path) == {}
    with LabelStore(path) as store:
        store.decide(verdict("a", "ok"))
    assert standing(path) == {"a": "ok"}


def test_a_process_that_is_killed_keeps_what_it_decided(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom mlxdistill.store import LabelStore, Verdict\n"
        "store = LabelStore(Path(sys.argv[1])).__enter__()\n"
        "for number in range(20): store.decide(Verdict(str(number), 'h', 'pool', 'ok'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode == -9
    assert len(standing(path)) == 20
