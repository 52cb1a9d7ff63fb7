"""Rows nearly the same are asked about once; what is copied follows what it was copied from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mlxdistill.config.models import TeacherConfig
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer, Progress
from mlxdistill.tasks.rows import Row, content_hash
from mlxdistill.teacher.duplicates import find_sources
from mlxdistill.teacher.label import LabelSummary, answers_of, label_rows

LABELS = ("ok", "toxic")
LONG = "please send me a new card because the old one was stolen on the train this morning"
POOL = [
    Row("first", LONG),
    Row("other", "what is the exchange rate"),
    Row("near", LONG + " too"),
    Row("shouted", LONG.upper() + "  "),
    Row("short", "hi"),
]
TESTS = [Row("test", LONG + "!"), Row("again", LONG + "!"), Row("test", LONG + "!")]


class Counting:
    """A labeller that says how long a text is, and keeps what it was asked."""

    samples = (0, 1)
    settings: dict[str, Any] | None = None

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def prepare(self, rows: int, settings: Mapping[str, Any] | None) -> None:
        pass

    def label(
        self, rows: Sequence[Row], done: frozenset[tuple[str, int]], progress: Progress
    ) -> Iterator[list[Answer]]:
        for row in rows:
            wave = []
            for sample in self.samples:
                if (row.id, sample) not in done:
                    self.asked.append((row.id, sample))
                    share = 1 / (2 + len(row.text) + sample)
                    wave.append(Answer(row.id, "toxic", (share, 1 - share), seconds=2.0, sample=sample))
            yield wave


def labelled(
    path: Path, pool: Sequence[Row], threshold: float | None, progress: Any
) -> tuple[LabelSummary, set[str], dict[str, list[Answer]]]:
    """What was summed up, the rows asked about, and all answers by row."""
    rows, labeller = [*pool, *TESTS], Counting()
    with LabelStore(path / "labels.sqlite") as store:
        number = store.labeller("teacher", "prompt", LABELS)
        sources = find_sources(pool, TESTS, threshold)
        summary = label_rows(labeller, number, rows, len(rows), store, progress, sources)
        found: dict[str, list[Answer]] = {}
        for answer in store.answers(number, {row.id: content_hash(row.text) for row in rows}):
            found.setdefault(answer.row_id, []).append(answer)
    assert len(labeller.asked) == len(set(labeller.asked))
    return summary, {row_id for row_id, _ in labeller.asked}, found


def test_near_duplicates_of_the_pool_take_the_first_ones_answer(tmp_path: Path, progress: Any) -> None:
    summary, asked, found = labelled(tmp_path, POOL, 0.8, progress)
    assert asked == {"first", "other", "short", "test"}
    assert (summary.rows, summary.new, summary.copied, summary.missing) == (7, 8, 3, 0)
    for row_id, source in (("near", "first"), ("shouted", "first"), ("again", "test")):
        assert [answer.copied_from for answer in found[row_id]] == [source, source]
        assert [answer.probabilities for answer in found[row_id]] == [a.probabilities for a in found[source]]
        assert [(answer.sample, answer.seconds) for answer in found[row_id]] == [(0, 0.0), (1, 0.0)]
    assert all(answer.copied_from is None for row_id in asked for answer in found[row_id])


def test_without_a_threshold_only_the_same_text_in_other_sets_is_copied(tmp_path: Path, progress: Any) -> None:
    summary, asked, _ = labelled(tmp_path, POOL, None, progress)
    assert asked == {row.id for row in [*POOL, *TESTS]} - {"again"}
    assert summary.copied == 1


def test_a_second_run_asks_nothing_and_keeps_the_copies(tmp_path: Path, progress: Any) -> None:
    _, _, before = labelled(tmp_path, POOL, 0.8, progress)
    summary, asked, found = labelled(tmp_path, POOL, 0.8, progress)
    assert not asked
    assert found == before
    assert (summary.new, summary.from_store, summary.copied) == (0, 8, 3)


def test_a_higher_threshold_asks_those_that_are_no_copies_any_more(tmp_path: Path, progress: Any) -> None:
    labelled(tmp_path, POOL, 0.8, progress)
    _, asked, found = labelled(tmp_path, POOL, 1.0, progress)
    assert asked == {"near"}
    assert [answer.copied_from for answer in found["near"]] == [None, None]
    assert [answer.copied_from for answer in found["shouted"]] == ["first", "first"]
    _, asked, found = labelled(tmp_path, POOL, 0.8, progress)
    assert not asked
    assert [answer.copied_from for answer in found["near"]] == [None, None]  # what was asked stays


def test_a_copy_follows_its_source(tmp_path: Path, progress: Any) -> None:
    labelled(tmp_path, POOL, 0.8, progress)
    changed = [Row("first", LONG + " and mine"), *POOL[1:]]
    _, asked, found = labelled(tmp_path, changed, 0.8, progress)
    assert asked == {"first"}
    assert found["near"][0].probabilities == found["first"][0].probabilities
    gone = [Row("first", "quite another text"), *POOL[1:]]
    _, asked, found = labelled(tmp_path, gone, 0.8, progress)
    assert asked == {"first", "near"}
    assert [answer.copied_from for answer in found["shouted"]] == ["near", "near"]


def test_a_stop_before_copying_loses_nothing(tmp_path: Path, progress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LabelStore, "copy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        labelled(tmp_path, POOL, 0.8, progress)
    summary, asked, found = labelled(tmp_path, POOL, 0.8, progress)
    assert not asked
    assert summary.copied == 3
    assert len(found) == 7


def test_a_test_row_that_is_in_the_pool_is_asked_itself() -> None:
    pool = [*POOL, Row("drawn", LONG + " now")]
    assert find_sources(pool, [pool[-1]], 0.8) == {"near": "first", "shouted": "first"}
    assert find_sources(reversed(pool), [pool[-1]], 0.8) == {"shouted": "drawn", "near": "drawn", "first": "drawn"}


def test_copied_answers_are_among_those_the_later_stages_read(tmp_path: Path, progress: Any) -> None:
    labelled(tmp_path, POOL, 0.8, progress)
    with LabelStore(tmp_path / "labels.sqlite") as store:
        number = store.labeller("teacher", "prompt", LABELS)
        found = answers_of(store, number, {row.id: content_hash(row.text) for row in POOL})
    assert {row_id: answer.copied_from for row_id, answer in found.items()} == {
        "first": None, "other": None, "near": "first", "shouted": "first", "short": None
    }  # fmt: skip


def test_a_log_is_never_copied_from() -> None:
    with pytest.raises(ValidationError, match="a `log` is only read"):
        TeacherConfig(log=("requests.jsonl",), near_duplicates=0.8)
