"""The list of rows that are asked about: each once, in pages, with what answering them took."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxdistill.store import LabelStore, labels
from mlxdistill.tasks.protocols import Answer


def test_rows_come_back_once_each_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "ROWS_PER_PAGE", 2)
    wanted = {name: name.upper() for name in ("b", "é", "a", "Z", "c")}
    with LabelStore(tmp_path / "labels.sqlite") as store:
        store.begin_asking()
        store.ask(wanted)
        store.ask({"a": "A", "": "nothing"})
        pages = list(store.asked_rows())
        store.begin_asking()
        assert list(store.asked_rows()) == []
    assert [len(page) for page in pages] == [2, 2, 2]
    assert {row: digest for page in pages for row, digest in page.items()} == {**wanted, "": "nothing"}


def test_the_time_of_all_answers_to_the_rows_on_the_list_counts(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        number = store.labeller("t", "p", ["x", "y"])
        answers = [Answer(row, "x", seconds=0.5, sample=sample) for row in "abc" for sample in (0, 1)]
        store.add(number, answers, {"a": "1", "b": "1", "c": "1"})
        store.begin_asking()
        store.ask({"a": "1", "b": "1", "c": "another text", "d": "1"})
        assert store.asked_speed(number, (0, 1)) == (2, 2.0)
        assert store.asked_speed(number, (1, 2)) == (2, 1.0)  # sample 0 is from when other samples were wanted
        assert store.asked_speed(store.labeller("u", "p", ["x", "y"]), (0,)) == (0, 0.0)
        assert [(answer.row_id, answer.sample) for answer in store.answers(number, {"b": "1"}, (1, 2))] == [("b", 1)]
