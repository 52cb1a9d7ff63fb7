"""What a filter lets a row teach instead of its answer is kept with the decision."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mlxdistill.store import Decision, LabelReader, LabelStore
from mlxdistill.store.migrations import MIGRATIONS

DECISIONS = [
    Decision("a", "noise", True, "likely bad: learned as that", 0.125, label="bad"),
    Decision("b", "noise", True, "likely bad: both are learned", 0.25, probabilities=(0.25, 0.75)),
    Decision("c", "noise", True, "likely bad: counts less", 0.25, weight=0.25),
    Decision("d", "noise", False, "likely bad", 0.0),
    Decision("e", "noise", True, "fine"),
]


def test_treatments_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with LabelStore(path) as store:
        store.add_filtering(DECISIONS)
        assert list(store.decisions()) == DECISIONS
    with LabelReader(path) as reader:
        assert [reader.decisions_about(item.row_id) for item in DECISIONS] == [[(1, item)] for item in DECISIONS]
    assert [item.row_id for item in DECISIONS if item.is_treatment] == ["a", "b", "c"]


def test_decisions_from_before_there_were_treatments_stay(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    connection = sqlite3.connect(path)
    for step in MIGRATIONS[:6]:
        step(connection)
    connection.execute("INSERT INTO decisions VALUES (1, 'a', 'length', 1, 'within the limits', 3.0)")
    connection.execute("PRAGMA user_version = 6")
    connection.commit()
    connection.close()
    with LabelStore(path) as store:
        assert list(store.decisions()) == [Decision("a", "length", True, "within the limits", 3.0)]
