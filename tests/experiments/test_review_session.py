"""Decisions: committed one by one, seen by every window, taken back, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from review_runs import answer, make_run, people_in, rows_of

from mlxdistill.experiments.review.queue import build_queue
from mlxdistill.experiments.review.session import SHOWN_CHARACTERS, Counts, Session
from mlxdistill.rundir.layout import RunDir
from mlxdistill.store import LabelReader, LabelStore, Stale
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.rows import Row

LABELS = ("ok", "toxic")
TASK = ClassificationTask("Is it toxic?", tuple(Label(name, name, name) for name in LABELS))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    rows = rows_of(30)
    answers = [answer(row.id, "ok", 0.6 if number < 20 else 0.99) for number, row in enumerate(rows)]
    return make_run(tmp_path, {"pool": rows}, answers)


@pytest.fixture
def store(run: RunDir) -> Iterator[LabelStore]:
    with LabelStore(run.labels) as opened:
        yield opened


def session_of(run: RunDir, store: LabelStore, of_set: str = "pool") -> Session:
    return Session(store, build_queue(run, LABELS, of_set, "all", 100), TASK)


def test_a_decision_is_in_the_store_at_once(run: RunDir, store: LabelStore) -> None:
    session = session_of(run, store)
    session.decide(0, 1, 0)
    session.decide(1, None, 0)
    first, second = (session.queue.items[place].row.id for place in (0, 1))
    assert people_in(run) == {first: "toxic", second: None}
    with LabelReader(run.labels) as reader:
        (entry,) = reader.people_history(first)
    assert (entry.of_set, entry.shown, entry.why) == ("pool", "ok", ("margin",))


def test_another_window_sees_it_and_cannot_decide_twice(run: RunDir, store: LabelStore) -> None:
    one, other = session_of(run, store), session_of(run, store)
    version = other.state()["version"]
    one.decide(0, 1, 0)
    with pytest.raises(Stale):
        other.decide(0, 0, 0)
    state = other.state(version)
    assert state["changes"] == {0: {"number": 1, "outcome": "changed", "label": 1}}
    other.decide(0, 0, 1)
    assert one.state(state["version"])["changes"] == {0: {"number": 2, "outcome": "accepted", "label": 0}}


def test_taking_back_goes_from_the_last_to_the_first(run: RunDir, store: LabelStore) -> None:
    session = session_of(run, store)
    session.decide(0, 1, 0)
    session.decide(1, 0, 0)
    session.decide(0, 0, 1)
    seen = []
    while (target := session.state()["undoable"]) is not None:
        session.undo(target["number"])
        seen.append((target["place"], session.state()["changes"][target["place"]]["label"]))
    assert seen == [(0, 1), (1, None), (0, None)]
    assert people_in(run) == {}
    assert session.counts() == Counts()


def test_what_was_not_the_last_cannot_be_taken_back(run: RunDir, store: LabelStore) -> None:
    session = session_of(run, store)
    session.decide(0, 1, 0)
    session.decide(1, 1, 0)
    with pytest.raises(Stale):
        session.undo(1)
    assert len(people_in(run)) == 2


def test_a_session_opened_anew_goes_on(run: RunDir, store: LabelStore) -> None:
    first = session_of(run, store)
    first.decide(0, 1, 0)
    first.decide(1, 1, 0)
    again = session_of(run, store)
    state = again.state()
    assert set(state["changes"]) == {0, 1}
    assert state["undoable"] == {"number": 2, "place": 1}


def test_shares_have_intervals_and_the_rest_is_estimated(run: RunDir, store: LabelStore) -> None:
    session = session_of(run, store)
    places = {
        kind: [place for place, item in enumerate(session.queue.items) if kind in item.why]
        for kind in ("margin", "control")
    }
    assert (len(places["margin"]), len(places["control"])) == (20, 10)
    for place in places["margin"][:8]:
        session.decide(place, 1, 0)
    for place in places["margin"][8:]:
        session.decide(place, 0, 0)
    for number, place in enumerate(places["control"][:5]):
        session.decide(place, int(number == 0), 0)
    session.decide(places["control"][5], None, 0)
    summary = session.summary()
    assert [summary[name] for name in ("decided", "accepted", "changed", "unsure", "labelled")] == [26, 16, 9, 1, 0]
    assert summary["share"]["value"] == 9 / 25
    assert summary["findings"] == [
        "9 of 25 of the teacher's answers changed: 36.0 % (95 % interval 20.2 to 55.5).",
        "Of those drawn at random from the 10 rows that nothing points at, 1 of 5: 20.0 % (95 % interval 3.6 to 62.4),"
        " which makes 0 to 6 wrong answers among them.",
        "Of the rows that something points at, 8 of 20: 40.0 % (95 % interval 21.9 to 61.3).",
    ]


def test_a_blind_row_says_nothing_of_the_teacher(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"test_indist": rows_of(1)}, [answer("row-0", "ok", 0.9)])
    with LabelStore(run.labels) as store:
        session = session_of(run, store, "test_indist")
        shown = session.row(0)
        session.decide(0, 0, 0)
        assert (shown["answer"], shown["opinions"], shown["blind"]) == (None, [], True)
        assert session.counts() == Counts(labelled=1)
        assert store.people()["row-0"].shown is None


def test_a_long_text_comes_in_parts(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"pool": [Row("long", "a" * 1_000_000)]}, [answer("long", "ok")])
    with LabelStore(run.labels) as store:
        session = session_of(run, store)
        shown = session.row(0)
        assert (len(shown["text"][0][0]), shown["characters"], shown["next"]) == (
            SHOWN_CHARACTERS,
            1_000_000,
            SHOWN_CHARACTERS,
        )
        assert session.row(0, 980_000)["next"] is None


def test_no_such_row_or_label(run: RunDir, store: LabelStore) -> None:
    session = session_of(run, store)
    for place, label in ((30, 0), (0, 2)):
        with pytest.raises(IndexError):
            session.decide(place, label, 0)
    assert people_in(run) == {}
