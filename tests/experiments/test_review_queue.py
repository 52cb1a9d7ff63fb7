"""Which rows a person is asked about, in which order, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from review_runs import answer, finish, make_run, rows_of

from mlxdistill.errors import DataError
from mlxdistill.experiments.review.queue import Queue, build_queue
from mlxdistill.rundir.layout import RunDir
from mlxdistill.store import Decision, LabelStore, Verdict
from mlxdistill.tasks.rows import Row, content_hash, write_rows

LABELS = ("ok", "toxic")


def queue_of(run: RunDir, of_set: str = "pool", why: str = "all", most: int = 100) -> Queue:
    return build_queue(run, LABELS, of_set, why, most)


def why_of(queue: Queue) -> dict[str, tuple[str, ...]]:
    return {item.row.id: item.why for item in queue.items}


def ids(queue: Queue) -> list[str]:
    return [item.row.id for item in queue.items]


def test_a_low_margin_comes_before_a_sure_answer(tmp_path: Path) -> None:
    shares = {"row-0": 0.99, "row-1": 0.55, "row-2": 0.7, "row-3": 0.99}
    run = make_run(tmp_path, {"pool": rows_of(4)}, [answer(row, "ok", share) for row, share in shares.items()])
    queue = queue_of(run)
    assert ids(queue)[:2] == ["row-1", "row-2"]
    assert [item.why for item in queue.items] == [("margin",), ("margin",), ("control",), ("control",)]
    assert queue.items[0].reasons[0].sentence == "Low margin: ok 55 %, toxic 45 %."
    assert (queue.pointed, queue.others) == (2, 2)


def test_what_a_filter_for_noise_named_and_what_it_trusts_least(tmp_path: Path) -> None:
    scores = {f"row-{number}": number / 100 for number in range(100)}  # row-0 is least spoken for
    decisions = [
        Decision(row_id, "noise", True, "not among the likely mislabelled", score) for row_id, score in scores.items()
    ]
    decisions[50] = Decision("row-50", "noise", False, "likely toxic, by the labels of other rows", 0.5)
    decisions[60] = Decision("row-60", "noise", True, "learned as that", 0.6, label="toxic")
    run = make_run(tmp_path, {"pool": rows_of(100)}, [answer(row, "ok", 0.99) for row in scores], decisions=decisions)
    queue = queue_of(run, why="mislabelled")
    pointed = [row_id for row_id, why in why_of(queue).items() if why == ("mislabelled",)]
    assert pointed == ["row-0", "row-1", "row-2", "row-3", "row-4", "row-50", "row-60"]
    assert "likely toxic, by the labels of other rows" in queue.items[5].reasons[0].sentence


def test_opinions_that_differ(tmp_path: Path) -> None:
    rows = rows_of(3)
    first = [answer(row.id, "ok", sample=0) for row in rows]
    second = [answer("row-0", "ok", sample=0), answer("row-1", "toxic", sample=0), answer("row-2", "toxic", sample=0)]
    second.append(answer("row-2", "toxic", sample=1))
    run = make_run(
        tmp_path, {"pool": rows}, [answer(row.id, "ok", 0.99) for row in rows], opinions={"a": first, "b": second}
    )
    queue = queue_of(run, why="disagreement")
    assert ids(queue) == ["row-2", "row-1", "row-0"]
    assert queue.items[0].reasons[0].sentence == "Opinions that differ: 2 of 3."
    assert [(each.who, each.label, each.times, each.of) for each in queue.items[0].opinions] == [
        ("a", "ok", 1, 1),
        ("b", "toxic", 2, 2),
    ]
    assert queue.items[2].why == ("control",)


def test_answers_that_name_no_label_are_asked_about(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"pool": rows_of(2)}, [answer("row-0", None), answer("row-1", "ok", 0.99)])
    assert why_of(queue_of(run)) == {"row-0": ("unparsable",), "row-1": ("control",)}


def test_every_tenth_is_drawn_at_random_from_the_rest(tmp_path: Path) -> None:
    answers = [answer(f"row-{number}", "ok", 0.6 if number < 30 else 0.99) for number in range(60)]
    queue = queue_of(make_run(tmp_path, {"pool": rows_of(60)}, answers), most=30)
    controls = [place for place, item in enumerate(queue.items) if item.why == ("control",)]
    assert controls == [9, 19, 29]
    by_chance = sorted((f"row-{number}" for number in range(30, 60)), key=content_hash)
    assert [ids(queue)[place] for place in controls] == by_chance[:3]


def test_the_same_run_gives_the_same_queue(tmp_path: Path) -> None:
    answers = [answer(f"row-{number}", "ok", 0.6) for number in range(40)]
    run = make_run(tmp_path, {"pool": rows_of(40)}, answers)
    assert queue_of(run) == queue_of(run)


def test_rows_that_never_teach_are_not_asked_about(tmp_path: Path) -> None:
    rows = rows_of(5)
    decisions = [
        Decision("row-0", "exact_duplicates", False, "the same text as row-1"),
        Decision("row-1", "min_confidence", False, "confidence under 0.8", 0.6),
    ]
    sets = {"pool": rows, "test_balanced": [rows[2]]}
    answers = [answer(row.id, "ok", 0.6) for row in rows[:4]]  # row-4 was never asked
    run = make_run(tmp_path, sets, answers, decisions=decisions)
    assert set(ids(queue_of(run))) == {"row-1", "row-3"}


def test_gold_of_the_pool_plays_no_part(tmp_path: Path) -> None:
    run = make_run(
        tmp_path, {"pool": rows_of(2, gold="toxic")}, [answer("row-0", "ok", 0.99), answer("row-1", "ok", 0.99)]
    )
    queue = queue_of(run)
    assert [item.why for item in queue.items] == [("control",)] * 2
    assert all(item.row.gold is None for item in queue.items)


def predicted(row_id: str, label: str, share: float, system: str = "student") -> dict:
    return {
        "id": row_id,
        "set": "test_indist",
        "system": system,
        "prediction": label,
        "probabilities": [share, 1 - share] if label == "ok" else [1 - share, share],
        "gold": None,
        "correct": None,
    }


def test_mistakes_of_the_last_student_the_surest_first(tmp_path: Path) -> None:
    rows = [*rows_of(2, gold="ok"), *rows_of(2, 2, gold="toxic")]
    said = [predicted("row-0", "toxic", 0.6), predicted("row-1", "ok", 0.9), predicted("row-2", "ok", 0.97)]
    answers = [answer(row.id, str(row.gold), 0.99) for row in rows[:3]] + [answer("row-3", "ok", 0.99)]
    run = make_run(
        tmp_path, {"test_indist": rows}, answers, predictions=[*said, predicted("row-1", "toxic", 1, "other")]
    )
    queue = queue_of(run, "test_indist", "mistake")
    assert ids(queue) == ["row-2", "row-0", "row-3", "row-1"]
    sentences = [item.reasons[0].sentence for item in queue.items]
    assert sentences[0] == "A mistake of the last student: it said ok (97 %), gold is toxic."
    assert sentences[2] == "A mistake of the teacher: it said ok, gold is toxic."
    assert queue.items[0].row.gold == "toxic"
    assert not queue.items[0].blind


def test_without_gold_the_student_is_held_against_the_teacher(tmp_path: Path) -> None:
    said = [predicted("row-0", "toxic", 0.8), predicted("row-1", "ok", 0.8)]
    answers = [answer("row-0", "ok", 0.99), answer("row-1", "ok", 0.99)]
    run = make_run(tmp_path, {"test_indist": rows_of(2)}, answers, predictions=said)
    queue = queue_of(run, "test_indist", "mistake")
    assert queue.items[0].reasons[0].sentence == "The last student disagrees with the teacher: it said toxic (80 %)."


def test_test_rows_without_gold_come_in_random_order_and_blind(tmp_path: Path) -> None:
    rows = rows_of(40)
    answers = [answer(row.id, "ok", 0.51 if number < 10 else 0.99) for number, row in enumerate(rows)]
    run = make_run(tmp_path, {"test_indist": [*rows, Row("gold", "Known.", "ok")]}, answers)
    queue = queue_of(run, "test_indist")
    blind = [item for item in queue.items if item.blind]
    assert {item.row.id for item in blind} == {row.id for row in rows}
    assert all(item.why == ("no_gold",) and item.shown_label is None for item in blind)
    order = [item.row.id for item in blind]
    assert order == sorted(order, key=content_hash)
    assert queue.items[-1].row.id == "gold"


def decide(run: RunDir, row: Row, label: str | None = "toxic") -> None:
    with LabelStore(run.labels) as store:
        store.decide(Verdict(row.id, content_hash(row.text), "pool", label))


def test_decided_rows_stay_until_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(6)
    run = make_run(tmp_path, {"pool": rows}, [answer(row.id, "ok", 0.6) for row in rows])
    before = ids(queue_of(run))
    decide(run, rows[0])
    decide(run, rows[1], None)
    assert ids(queue_of(run)) == before
    monkeypatch.setattr("mlxdistill.rundir.manifest._now", lambda: "2999-01-01T00:00:00+00:00")
    finish(run, "filter")
    assert set(ids(queue_of(run))) == {row.id for row in rows[2:]}


def test_the_next_part_follows_when_one_is_decided(tmp_path: Path) -> None:
    rows = rows_of(7)
    run = make_run(tmp_path, {"pool": rows}, [answer(row.id, "ok", 0.6) for row in rows])
    everything = ids(queue_of(run))
    by_id = {row.id: row for row in rows}
    seen: list[str] = []
    for size in (3, 3, 1, 0):
        part = ids(queue_of(run, most=3))
        assert len(part) == size
        for row_id in part:
            decide(run, by_id[row_id])
        seen += part
    assert seen == everything


def test_a_label_for_another_text_is_none(tmp_path: Path) -> None:
    rows = rows_of(1)
    run = make_run(tmp_path, {"pool": rows}, [answer("row-0", "ok", 0.6)])
    decide(run, Row("row-0", "It read otherwise."))
    assert ids(queue_of(run, most=1)) == ["row-0"]


def test_nothing_labelled_or_no_such_set(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_rows(run.pool, rows_of(1))
    with pytest.raises(DataError, match="nothing is labelled yet"):
        queue_of(run)
    with pytest.raises(DataError, match="no test_balanced rows"):
        queue_of(make_run(tmp_path / "run", {"pool": rows_of(1)}, []), "test_balanced")
