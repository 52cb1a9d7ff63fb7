"""Wrong labels are found from the other rows' labels; what becomes of them is what was asked for."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdistill.config.filter import NoiseAction
from mlxdistill.filters import out_of_fold as oof_module
from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.dynamics import Course, Dynamics, read_courses
from mlxdistill.filters.noise import Noise, label_scores, opinions, together
from mlxdistill.filters.out_of_fold import FOLDS, folds, out_of_fold, term_features
from mlxdistill.store import Decision
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row

LABELS = ("ok", "bad")
WORDS = {
    "ok": ["please", "thanks", "parcel", "arrived", "well"],
    "bad": ["angry", "broken", "awful", "refund", "worst"],
}
COMMON = ["the", "a", "my", "it", "was", "and", "order", "today"]
ACTIONS: tuple[NoiseAction, ...] = get_args(NoiseAction)


def teaching(count: int = 120, wrong: int = 6, seed: int = 0) -> tuple[list[Candidate], set[str]]:
    """Rows of a third `bad`, and the ids of those that are labelled wrongly."""
    chance = random.Random(seed)
    rows, errors = [], set()
    for number in range(count):
        label = "bad" if number % 3 == 0 else "ok"
        text = " ".join([*chance.choices(WORDS[label], k=4), *chance.choices(COMMON, k=6)])
        name = f"row{number}"
        if number % (count // wrong) == 0:
            errors.add(name)
            label = LABELS[1 - LABELS.index(label)]
        rows.append(Candidate(Row(name, text), Answer(name, label)))
    return rows, errors


def noise(**changes: Any) -> Noise:
    return replace(Noise(0.05, "drop", LABELS), **changes)


def named(decisions: list[Decision]) -> set[str]:
    return {decision.row_id for decision in decisions if not decision.kept or decision.is_treatment}


@pytest.fixture(scope="module")
def rows() -> list[Candidate]:
    return teaching()[0]


@pytest.mark.parametrize("score", ["self_confidence", "margin", "confident_joint"])
def test_planted_errors_are_named(rows: list[Candidate], score: Any) -> None:
    _, errors = teaching()
    assert named(list(noise(score=score)(rows))) == errors


def test_gold_is_never_looked_at(rows: list[Candidate]) -> None:
    with_gold = [replace(row, row=replace(row.row, gold="ok")) for row in rows]
    assert list(noise()(with_gold)) == list(noise()(rows))


def test_only_rows_that_are_spoken_against_are_named(rows: list[Candidate]) -> None:
    _, errors = teaching()
    found = named(list(noise(share=0.5)(rows)))
    assert errors <= found
    assert len(found) < 15


def test_each_class_gives_at_most_its_share() -> None:
    candidates, _ = teaching(wrong=40)  # every third row: all `bad` ones are labelled ok
    taught = {row.row.id: row.answer.label for row in candidates if row.answer}
    dropped = named(list(noise(share=0.1, action="drop_per_class")(candidates)))
    for label in LABELS:
        most = 0.1 * sum(value == label for value in taught.values())
        assert sum(taught[name] == label for name in dropped) <= most + 0.5


def test_teachers_own_probabilities_are_heard(rows: list[Candidate]) -> None:
    """Of two labels that other rows speak against alike, the one that the teacher doubted is named."""
    copies = [
        Candidate(Row(name, "awful broken refund worst"), Answer(name, "ok", (share, 1 - share)))
        for name, share in (("sure", 0.999), ("doubted", 0.55))
    ]
    sure = [replace(row, answer=replace(row.answer, probabilities=_certain(row))) for row in rows]
    decisions = {decision.row_id: decision for decision in noise()([*sure, *copies])}
    assert decisions["doubted"].score < decisions["sure"].score
    assert not decisions["doubted"].kept


def _certain(row: Candidate) -> tuple[float, ...]:
    return tuple(0.95 if row.answer and row.answer.label == label else 0.05 for label in LABELS)


def test_treatments_say_what_is_learned_instead(rows: list[Candidate]) -> None:
    _, errors = teaching()
    taught = {row.row.id: row.answer.label for row in rows if row.answer}
    for action in ("weigh", "soften", "flip"):
        decisions = [decision for decision in noise(action=action)(rows) if decision.row_id in errors]
        assert all(decision.kept for decision in decisions)
        for decision in decisions:
            other = LABELS[1 - LABELS.index(taught[decision.row_id])]
            assert decision.reason.startswith(f"likely {other}, ")
            assert (decision.weight is not None) == (action == "weigh")
            assert (decision.probabilities is not None) == (action == "soften")
            assert decision.label == (other if action == "flip" else None)
            if decision.weight is not None:
                assert 0 < decision.weight < 0.5
            if decision.probabilities is not None:
                assert LABELS[int(np.argmax(decision.probabilities))] == other
                assert sum(decision.probabilities) == pytest.approx(1)


def test_a_persons_label_teaches_and_is_not_named(rows: list[Candidate]) -> None:
    _, errors = teaching()
    by_person = min(errors)
    people = [replace(row, by_person=row.row.id == by_person) for row in rows]
    for action in ACTIONS:
        found = named(list(noise(share=0.1, action=action)(people)))
        assert by_person not in found
        assert errors - {by_person} <= found


def test_copies_and_groups_do_not_vouch_for_each_other() -> None:
    """Five copies of one wrongly labelled text: in other folds, each would speak for the others."""
    rows, _ = teaching(wrong=1)
    wrong = [
        Candidate(
            Row(f"copy{number}", f"awful broken refund worst never angry {number}"), Answer(f"copy{number}", "ok")
        )
        for number in range(5)
    ]
    grouped = [replace(row, row=replace(row.row, meta={"group": "one customer"})) for row in wrong]
    assert len(set(together(wrong)[:5])) == 1
    assert len(set(together(grouped))) == 1
    assert {f"copy{number}" for number in range(5)} <= named(list(noise(share=0.1)([*rows, *wrong])))


@given(
    st.lists(st.tuples(st.sampled_from(["ok", "bad", None]), st.text(max_size=12), st.booleans()), max_size=30),
    st.sampled_from(ACTIONS),
    st.sampled_from([0.1, 0.9]),
)
@settings(max_examples=30, deadline=None)
def test_no_row_is_invented_lost_or_moved(given_rows: list[Any], action: NoiseAction, share: float) -> None:
    candidates = [
        Candidate(Row(str(place), text), Answer(str(place), label) if label or place % 2 else None, by_person)
        for place, (label, text, by_person) in enumerate(given_rows)
    ]
    courses = {str(place): Course(label or "ok", (-1.0, -1.0)) for place, (label, _, _) in enumerate(given_rows)}
    for decide in (
        Noise(share, action, LABELS),
        *([Dynamics(share, action, LABELS, courses)] if action in ACTIONS[:3] else []),
    ):
        first = list(decide(candidates))
        assert [decision.row_id for decision in first] == [row.row.id for row in candidates]
        assert first == list(decide(candidates))
        assert not any(
            row.by_person and decision.row_id in named(first) for row, decision in zip(candidates, first, strict=True)
        )


def test_what_nothing_can_be_said_about_is_kept_with_that_reason() -> None:
    rows, _ = teaching()
    few = Candidate(Row("few", "quite another thing"), Answer("few", "strange"))
    unlabelled = Candidate(Row("none", "no label"), Answer("none", None))
    decisions = {
        decision.row_id: decision for decision in Noise(0.05, "drop", (*LABELS, "strange"))([*rows, few, unlabelled])
    }
    assert (decisions["few"].kept, decisions["few"].reason) == (True, "too few rows of its label to judge it by")
    assert (decisions["none"].kept, decisions["none"].reason) == (True, "no label to doubt")
    alone = list(noise()([few, unlabelled][1:]))
    assert [decision.kept for decision in alone] == [True]


def test_probabilities_are_from_other_folds_only(rows: list[Candidate], monkeypatch: pytest.MonkeyPatch) -> None:
    """What labels the rows of a fold have changes nothing of what is said of them."""
    features = term_features([row.row.text for row in rows])
    taught = np.array([LABELS.index(row.answer.label or "") for row in rows if row.answer])
    groups = np.arange(len(rows))
    fold_of = folds(taught, groups, 3)
    assert np.bincount(fold_of, minlength=FOLDS).tolist() == [len(rows) // FOLDS] * FOLDS
    monkeypatch.setattr(
        oof_module, "folds", lambda labels, *rest: fold_of if len(labels) == len(rows) else folds(labels, *rest)
    )
    shares = out_of_fold(features, taught, 2, groups, 3)
    assert np.allclose(shares.sum(axis=1), 1)
    assert (shares.argmax(axis=1) == taught).mean() > 0.85
    inside = fold_of == 0
    changed = np.where(inside, 1 - taught, taught)
    found = out_of_fold(features, changed, 2, groups, 3)
    assert np.allclose(found[inside], shares[inside])
    assert not np.allclose(found[~inside], shares[~inside], atol=0.1)


def test_a_label_too_rare_to_be_drawn_is_judged_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oof_module, "TUNING_ROWS", 10)
    rows = [Candidate(Row(str(place), f"fine parcel {place}"), Answer(str(place), "ok")) for place in range(200)]
    rare = [Candidate(Row(f"r{place}", f"awful {place} broken"), Answer(f"r{place}", "bad")) for place in range(5)]
    decisions = list(noise()([*rows, *rare]))
    assert all(decision.score is not None for decision in decisions)


def test_dense_features_serve_as_well(rows: list[Candidate]) -> None:
    _, errors = teaching()

    def states(texts: Any) -> Any:
        return np.array(
            [[sum(word in WORDS[label] for word in text.split()) for label in LABELS] for text in texts], np.float32
        )

    assert named(list(noise(features=states)(rows))) == errors


def test_three_labels() -> None:
    words = {"a": "apple pear plum", "b": "bus train tram", "c": "cat dog cow"}
    chance = random.Random(1)
    rows = []
    for number in range(90):
        label = "abc"[number % 3]
        text = " ".join([*chance.choices(words[label].split(), k=3), *chance.choices(COMMON, k=3)])
        rows.append(Candidate(Row(str(number), text), Answer(str(number), "b" if number == 0 else label)))
    found = [decision for decision in Noise(0.011, "flip", ("a", "b", "c"))(rows) if decision.is_treatment]
    assert [(decision.row_id, decision.label) for decision in found] == [("0", "a")]


def test_scores_are_those_of_confident_learning() -> None:
    shares = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55], [np.nan, np.nan]])
    taught = np.array([0, 0, 1, 0, 1])
    own, suspect = label_scores(shares, taught, "self_confidence")
    assert own[:4].tolist() == [0.9, 0.6, 0.8, 0.45]
    assert suspect.tolist() == [False, False, False, True, False]
    margin, _ = label_scores(shares, taught, "margin")
    assert margin[:4] == pytest.approx([0.8, 0.2, 0.6, -0.1])
    # Thresholds are the means 0.65 and 0.8: the fourth row reaches neither, so it is in no cell of the joint.
    assert not label_scores(shares, taught, "confident_joint")[1].any()
    shares[3] = (0.1, 0.9)
    assert label_scores(shares, taught, "confident_joint")[1].tolist() == [False, False, False, True, False]


def test_opinions_of_a_single_row_say_nothing() -> None:
    assert np.isnan(opinions(teaching()[0][:1], LABELS, term_features, 0)).all()


def test_dynamics_name_what_was_learned_late_or_forgotten(tmp_path: Any) -> None:
    margins = {"good": (1.0, 3.0), "late": (3.0, -1.0, -3.0), "forgotten": (1.0, 1.0, -2.0), "right": (-9.0, 4.0)}
    rows = [Candidate(Row(name, name), Answer(name, "ok")) for name in (*margins, "unknown", "relabelled", "stopped")]
    courses = {name: Course("ok", values) for name, values in margins.items()}
    courses |= {"relabelled": Course("bad", (-9.0, -9.0)), "stopped": Course("ok", (-9.0,))}
    decisions = {decision.row_id: decision for decision in Dynamics(0.34, "drop", LABELS, courses)(rows)}
    assert [name for name, decision in decisions.items() if not decision.kept] == ["late", "forgotten"]
    assert courses["forgotten"].score == -0.5 - 1
    assert courses["late"].score == -2 - 1
    for name in ("unknown", "relabelled", "stopped"):
        assert decisions[name].reason == "the training before knows nothing of it"
    weighed = {decision.row_id: decision for decision in Dynamics(0.17, "weigh", LABELS, courses)(rows)}
    assert weighed["late"].weight == pytest.approx(1 / (1 + np.exp(3.0)))


def test_a_record_is_read_as_it_was_written(tmp_path: Any) -> None:
    path = tmp_path / "dynamics.jsonl"
    path.write_text('{"id": "a", "label": "ok", "loss": [1.0, null], "margin": [0.5, null]}\n')
    assert read_courses(path) == {"a": Course("ok", (0.5,))}
    with pytest.raises(Exception, match="no training of this folder"):
        read_courses(tmp_path / "none.jsonl")
    path.write_text('{"id": "a"}\n')
    with pytest.raises(Exception, match="not a row's course") as caught:
        read_courses(path)
    assert caught.value.where == f"{path}:1"
