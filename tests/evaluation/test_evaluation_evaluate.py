import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from mlxdistill.config.models import EvaluateConfig
from mlxdistill.errors import DataError
from mlxdistill.evaluation.baselines import TrainingRow, baseline_answers
from mlxdistill.evaluation.evaluate import checked_metrics, evaluate, recompute, write_evaluation
from mlxdistill.evaluation.records import SystemAnswers
from mlxdistill.evaluation.sentence import verdict_sentence
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row

LABELS = ("ok", "toxic", "spam")
CONFIG = EvaluateConfig(bootstrap=100)


def rows_of(count, seed=0, groups=None, gold=True, name="r"):
    rng = np.random.default_rng(seed)
    places = rng.integers(0, len(LABELS), size=count)
    return [
        Row(
            f"{name}{number}",
            f"text {LABELS[place]} {number % 7}",
            LABELS[place] if gold else None,
            {"group": int(rng.integers(groups))} if groups else {},
        )
        for number, place in enumerate(places)
    ]


def system_of(sets, accuracy, seed, unparsable=0.0, share=1.0):
    """Answers that are right about as often as asked, some of them unparsable or missing."""
    rng = np.random.default_rng(seed)
    answers = {}
    for name, rows in sets.items():
        answers[name] = {}
        for row in rows:
            draw = rng.random(3)
            if draw[0] > share:
                answers[name][row.id] = Answer(row.id, None, outcome="missing")
            elif draw[1] < unparsable:
                answers[name][row.id] = Answer(row.id, None, outcome="unparsable")
            else:
                probabilities = np.sort(rng.dirichlet(np.ones(3)))[::-1]
                right = LABELS.index(row.text.split()[1])
                first = right if draw[2] < accuracy else (right + 1) % 3
                order = [first, *[place for place in range(3) if place != first]]
                shares = np.empty(3)
                shares[order] = probabilities
                answers[name][row.id] = Answer(row.id, LABELS[first], tuple(shares))
    return SystemAnswers(answers, rows_per_second=12.5, peak_memory_bytes=1 << 20)


def evaluated(sets, config=CONFIG, **student):
    training = [TrainingRow(row.text, row.text.split()[1], row.gold) for row in rows_of(60, seed=9)]
    systems = {
        "teacher": system_of(sets, 0.93, 1, share=0.95),
        "student": system_of(sets, 0.9, 2, **student),
        **baseline_answers(config.baselines, training, sets, LABELS),
    }
    return evaluate(sets, systems, LABELS, config)


SETS = {"test_indist": rows_of(90, seed=1), "test_balanced": rows_of(120, seed=2)}


def test_metrics_have_the_documented_shape():
    metrics = evaluated(SETS, unparsable=0.05).metrics
    assert list(metrics)[:4] == ["schema", "task", "labels", "reference"]
    assert (metrics["schema"], metrics["task"], metrics["reference"]) == (1, "classification", "gold")
    assert metrics["labels"] == list(LABELS)
    assert metrics["sets"]["test_balanced"]["n"] == 120
    assert sum(metrics["sets"]["test_balanced"]["class_counts"].values()) == 120
    assert set(metrics["systems"]) == {"teacher", "student", "majority", "tfidf_logreg", "tfidf_logreg_gold"}
    assert metrics["systems"]["student"]["rows_per_second"] == 12.5
    assert metrics["systems"]["student"]["peak_memory_bytes"] == 1 << 20
    entry = metrics["systems"]["student"]["sets"]["test_balanced"]
    assert {"answered", "accuracy", "balanced_accuracy", "macro_f1", "auroc", "ece", "per_class", "confusion"} <= set(
        entry
    )
    assert [(c["a"], c["b"], c["set"]) for c in metrics["comparisons"]][:2] == [
        ("student", "teacher", "test_indist"),
        ("student", "teacher", "test_balanced"),
    ]
    assert len(metrics["comparisons"]) == 8
    assert set(metrics["retention"]) == {"test_indist", "test_balanced"}
    assert metrics["replacement"]["set"] == "test_balanced"
    assert isinstance(verdict_sentence(metrics), str)


def test_missing_answers_are_not_answered_and_comparisons_use_the_shared_rows():
    metrics = evaluated(SETS).metrics
    teacher, student = (metrics["systems"][name]["sets"]["test_balanced"] for name in ("teacher", "student"))
    assert teacher["answered"] < 120
    assert student["answered"] == 120
    assert metrics["comparisons"][1]["n"] == metrics["replacement"]["n"] == teacher["answered"]


@pytest.mark.parametrize("groups", [None, 15])
def test_every_number_can_be_recomputed_from_the_predictions(tmp_path, groups):
    sets = {"test_indist": rows_of(60, 1, groups), "test_balanced": rows_of(80, 2, groups)}
    run = RunDir(tmp_path)
    evaluation = evaluated(sets, unparsable=0.05)
    write_evaluation(run, evaluation)
    written = json.loads(run.metrics.read_text())
    assert written == evaluation.metrics
    assert recompute(run) == written
    lines = run.predictions.read_text().splitlines()
    run.predictions.write_text("\n".join(reversed(lines)) + "\n")
    assert recompute(run) == written
    changed = json.loads(lines[0])
    changed["prediction"] = next(label for label in LABELS if label != changed["prediction"])
    run.predictions.write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    assert recompute(run) != written


def calibration_error(rows):
    """Written out: over 15 bins, each with its lower end left out, the gap between mean probability and share right."""
    top = np.array([max(row["probabilities"]) for row in rows])
    right = np.array([LABELS[int(np.argmax(row["probabilities"]))] == row["gold"] for row in rows])
    total = 0.0
    for number in range(15):
        inside = (top * 15 > number) & (top * 15 <= number + 1)
        if inside.any():
            total += inside.sum() / len(rows) * abs(top[inside].mean() - right[inside].mean())
    return total


@pytest.mark.parametrize("groups", [None, 12])
def test_scikit_learn_finds_the_same_in_the_predictions_file(tmp_path, groups):
    run = RunDir(tmp_path)
    sets = {"test_indist": rows_of(90, 1, groups), "test_balanced": rows_of(120, 2, groups)}
    write_evaluation(run, evaluated(sets, unparsable=0.1))
    lines = [json.loads(line) for line in run.predictions.read_text().splitlines()]
    assert set(lines[0]) - {"group"} == {"id", "set", "system", "prediction", "probabilities", "gold", "correct"}
    written = json.loads(run.metrics.read_text())
    for name, set_name in [(name, set_name) for name in written["systems"] for set_name in sets]:
        rows = [line for line in lines if (line["system"], line["set"]) == (name, set_name)]
        gold, said = [row["gold"] for row in rows], [row["prediction"] or "?" for row in rows]
        entry = written["systems"][name]["sets"][set_name]
        assert entry["accuracy"]["value"] == accuracy_score(gold, said) == np.mean([row["correct"] for row in rows])
        matrix = confusion_matrix(gold, said, labels=[*LABELS, "?"])[:3]
        assert entry["confusion"] == matrix.tolist()
        of_class = precision_recall_fscore_support(gold, said, labels=LABELS, zero_division=np.nan)
        for place, label in enumerate(LABELS):
            for measure, values in zip(("precision", "recall", "f1"), of_class, strict=False):
                found = entry["per_class"][label][measure]
                assert found["value"] == values[place] if found else np.isnan(values[place])
            assert entry["per_class"][label]["support"] == of_class[3][place]
        expected = f1_score(gold, said, labels=sorted(set(gold) | set(said) - {"?"}), average="macro", zero_division=0)
        assert entry["macro_f1"]["value"] == pytest.approx(expected)
        if "?" not in said:
            assert entry["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(gold, said))
        known = [row for row in rows if row["probabilities"]]
        areas = [
            roc_auc_score([row["gold"] == label for row in known], [row["probabilities"][place] for row in known])
            for place, label in enumerate(LABELS)
        ]
        assert entry["auroc"]["value"] == pytest.approx(np.mean(areas))
        assert entry["ece"]["value"] == pytest.approx(calibration_error(known), rel=1e-12)


def test_groups_travel_with_the_predictions_and_name_the_method():
    sets = {"test_indist": [], "test_balanced": rows_of(80, 2, groups=12)}
    evaluation = evaluated(sets)
    assert {record.group for record in evaluation.records} == {str(number) for number in range(12)}
    entry = evaluation.metrics["systems"]["student"]["sets"]["test_balanced"]
    assert entry["accuracy"]["method"] == entry["macro_f1"]["method"] == "cluster bootstrap"
    assert evaluation.metrics["comparisons"][1]["method"] == "cluster bootstrap"
    assert evaluation.metrics["retention"]["test_balanced"]["method"] == "cluster bootstrap"


def test_a_group_for_every_row_is_no_group():
    rows = [Row(row.id, row.text, row.gold, {"group": row.id}) for row in SETS["test_balanced"]]
    entry = evaluated({"test_balanced": rows}).metrics["systems"]["student"]["sets"]["test_balanced"]
    assert entry["accuracy"]["method"] == "wilson"


def test_rows_without_gold_are_counted_and_left_out():
    rows = rows_of(50, 3) + rows_of(7, 4, gold=False, name="bare")
    evaluation = evaluated({"test_balanced": rows})
    assert evaluation.metrics["sets"]["test_balanced"]["n"] == 50
    assert evaluation.metrics["sets"]["test_balanced"]["without_gold"] == 7
    assert evaluation.metrics["systems"]["student"]["sets"]["test_balanced"]["answered"] == 50
    bare = [record for record in evaluation.records if record.id.startswith("bare")]
    assert bare
    assert all(record.to_json()["correct"] is None for record in bare)


def test_without_gold_only_agreement_with_the_teacher_is_given(tmp_path):
    sets = {"test_indist": rows_of(100, 5, gold=False)}
    evaluation = evaluated(sets)
    metrics = evaluation.metrics
    assert metrics["reference"] == "teacher"
    assert metrics["systems"]["teacher"]["sets"]["test_indist"] == {"answered": metrics["sets"]["test_indist"]["n"]}
    student = metrics["systems"]["student"]["sets"]["test_indist"]
    assert set(student) == {"answered", "agreement"}
    said = {record.id: record.prediction for record in evaluation.records if record.system == "teacher"}
    same = [
        record.prediction == said[record.id]
        for record in evaluation.records
        if record.system == "student" and record.id in said
    ]
    assert student["agreement"]["value"] == pytest.approx(np.mean(same))
    assert metrics["retention"] == {}
    assert metrics["replacement"] is None
    assert {entry["b"] for entry in metrics["comparisons"]} == {"majority", "tfidf_logreg", "tfidf_logreg_gold"} - (
        set() if "tfidf_logreg_gold" in metrics["systems"] else {"tfidf_logreg_gold"}
    )
    assert "accuracy" not in json.dumps(metrics)
    assert "agrees with the teacher on" in verdict_sentence(metrics)
    write_evaluation(RunDir(tmp_path), evaluation)
    assert recompute(RunDir(tmp_path)) == metrics
    assert metrics["sets"]["test_indist"]["without_teacher"] == 100 - metrics["sets"]["test_indist"]["n"] > 0


def test_gold_by_people_is_said_to_be_theirs(tmp_path):
    bare = rows_of(60, 5, gold=False)
    labelled = [Row(row.id, row.text, "ok", {**row.meta, "gold_by": "person"}) for row in bare[:40]]
    evaluation = evaluated({"test_indist": [*labelled, *bare[40:]]})
    metrics = evaluation.metrics
    assert metrics["reference"] == "person"
    size = metrics["sets"]["test_indist"]
    assert (size["n"], size["without_gold"], size["gold_by_people"]) == (40, 20, 40)
    assert metrics["systems"]["student"]["sets"]["test_indist"]["accuracy"]["ci"]
    assert metrics["replacement"]["verdict"] in (None, "undecided")
    assert "the test rows have no gold" not in verdict_sentence(metrics)
    write_evaluation(RunDir(tmp_path), evaluation)
    assert recompute(RunDir(tmp_path)) == metrics


def test_gold_that_people_dispute_counts_and_is_counted(tmp_path):
    rows = rows_of(50, 3)
    doubted = [Row(row.id, row.text, row.gold, {**row.meta, "disputed": "ok"}) for row in rows[:4]]
    evaluation = evaluated({"test_indist": [*doubted, *rows[4:]]})
    assert evaluation.metrics["reference"] == "gold"
    assert evaluation.metrics["sets"]["test_indist"]["disputed_gold"] == 4
    plain = evaluated({"test_indist": rows}).metrics
    assert evaluation.metrics["systems"]["student"] == plain["systems"]["student"]
    write_evaluation(RunDir(tmp_path), evaluation)
    assert recompute(RunDir(tmp_path)) == evaluation.metrics


def test_a_log_that_answered_one_class_more_is_judged_by_balanced_accuracy(tmp_path):
    """As a recorded teacher that has 200 of the ok rows of a balanced set and 20 of the toxic ones."""
    labels = ("ok", "toxic")
    rows = [Row(f"r{number}", "text", labels[number % 2]) for number in range(400)]
    answers = {row.id: Answer(row.id, row.gold if int(row.id[1:]) % 7 else "ok") for row in rows}
    logged = [row for row in rows if row.gold == "ok" or int(row.id[1:]) < 40]
    systems = {
        "teacher": SystemAnswers({"test_balanced": {row.id: Answer(row.id, row.gold) for row in logged}}),
        "student": SystemAnswers({"test_balanced": answers}),
        "majority": SystemAnswers({"test_balanced": {row.id: Answer(row.id, "ok") for row in rows}}),
    }
    evaluation = evaluate({"test_balanced": rows}, systems, labels, CONFIG)
    metrics = evaluation.metrics
    shared = {"ok": 200, "toxic": 20}
    missed = sum(int(row.id[1:]) % 7 == 0 for row in logged if row.gold == "toxic")
    for entry in (metrics["replacement"], metrics["retention"]["test_balanced"]):
        assert (entry["metric"], entry["n"], entry["class_counts"]) == ("balanced_accuracy", 220, shared)
    assert metrics["replacement"]["difference"] == pytest.approx(-missed / 20 / 2)
    assert metrics["retention"]["test_balanced"]["chance"] == 0.5
    by_rival = {entry["b"]: entry for entry in metrics["comparisons"]}
    assert by_rival["teacher"]["class_counts"] == shared
    assert "class_counts" not in by_rival["majority"]
    assert "on the 220 of 400 rows both answered (ok 200, toxic 20)" in verdict_sentence(metrics)
    write_evaluation(RunDir(tmp_path), evaluation)
    assert checked_metrics(RunDir(tmp_path)) == metrics


def test_set_sizes_follow_from_the_predictions(tmp_path):
    """Nothing of them is taken from metrics.json but how many rows nobody answered."""
    run, rows = RunDir(tmp_path), rows_of(40, 3) + rows_of(7, 4, gold=False, name="bare")
    sets = {"test_indist": rows, "test_balanced": rows_of(30, 5)}
    answered = {name: rows[:-2] for name, rows in sets.items()}
    systems = {"teacher": system_of(answered, 0.9, 1), "student": system_of(answered, 0.9, 2)}
    write_evaluation(run, evaluate(sets, systems, LABELS, CONFIG))
    written = json.loads(run.metrics.read_text())
    assert written["sets"]["test_indist"]["n"] == 40
    assert written["sets"]["test_indist"]["without_gold"] == 5
    assert [size["unanswered"] for size in written["sets"].values()] == [2, 2]
    assert written["sets"]["test_balanced"]["n"] == sum(written["sets"]["test_balanced"]["class_counts"].values()) == 28
    sizes = written["sets"]
    broken = {"n": 999, "class_counts": {}, "without_gold": 1}
    written["sets"] = {name: size | broken for name, size in sizes.items()}
    run.metrics.write_text(json.dumps(written))
    assert recompute(run)["sets"] == sizes


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("systems", "student", "sets", "test_balanced", "accuracy", "value"), 0.999, "accuracy.value is 0.999, and"),
        (("sets", "test_indist", "class_counts", "ok"), 1000, "sets.test_indist.class_counts.ok is 1000, and"),
        (("comparisons", 1, "verdict"), "student is better", r"comparisons\[1\].verdict is \"student is better\", and"),
        (("replacement", "rows_needed"), True, "replacement.rows_needed is true, and"),
        (("retention", "test_balanced", "ci"), None, "retention.test_balanced.ci is null, and .* gives entries"),
        (("systems", "extra"), {"sets": {}, "rows_per_second": 1, "peak_memory_bytes": 1}, "systems.extra.sets"),
    ],
)
def test_a_number_that_does_not_follow_from_the_predictions_is_named(tmp_path, keys, value, message):
    run = RunDir(tmp_path)
    write_evaluation(run, evaluated(SETS))
    metrics = checked_metrics(run)
    *path, last = keys
    place = metrics
    for key in path:
        place = place[key]
    place[last] = value
    run.metrics.write_text(json.dumps(metrics))
    with pytest.raises(DataError, match=message) as caught:
        checked_metrics(run)
    assert caught.value.where == str(run.metrics)
    assert str(run.metrics.parent) in caught.value.hint


def test_the_last_digit_of_another_machine_is_no_difference(tmp_path):
    run = RunDir(tmp_path)
    write_evaluation(run, evaluated(SETS))
    metrics = checked_metrics(run)
    metrics["systems"]["student"]["sets"]["test_balanced"]["accuracy"]["value"] *= 1 + 1e-15
    run.metrics.write_text(json.dumps(metrics))
    assert checked_metrics(run) == metrics


def test_a_prediction_changed_on_disk_is_found(tmp_path):
    run = RunDir(tmp_path)
    write_evaluation(run, evaluated(SETS))
    lines = [json.loads(line) for line in run.predictions.read_text().splitlines()]
    student = next(line for line in lines if line["system"] == "student" and line["prediction"])
    student["prediction"] = next(label for label in LABELS if label != student["prediction"])
    run.predictions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=r"systems\.student\.sets\.test_indist"):
        checked_metrics(run)
    run.predictions.write_text("".join(json.dumps(line | {"system": "other"}) + "\n" for line in lines[:1]))
    with pytest.raises(DataError, match=r"predictions\.jsonl gives"):
        checked_metrics(run)
    run.predictions.write_text(json.dumps(lines[0] | {"prediction": "strange"}) + "\n")
    with pytest.raises(DataError, match="'strange' is not a label of the task"):
        checked_metrics(run)


def test_the_same_row_may_stand_in_both_sets():
    rows = rows_of(30, 6)
    metrics = evaluated({"test_indist": rows, "test_balanced": rows}).metrics
    assert metrics["sets"]["test_indist"] == metrics["sets"]["test_balanced"]


def test_systems_that_share_no_row_are_not_compared():
    rows = rows_of(20, 7)
    halves = {"test_balanced": rows[:10]}, {"test_balanced": rows[10:]}
    systems = {"teacher": system_of(halves[0], 0.9, 1), "student": system_of(halves[1], 0.9, 2)}
    metrics = evaluate({"test_balanced": rows}, systems, LABELS, CONFIG).metrics
    assert metrics["comparisons"][0]["reason"]
    assert metrics["retention"]["test_balanced"]["value"] is None
    assert metrics["replacement"]["verdict"] == "undecided"
    assert verdict_sentence(metrics).startswith("Undecided")


@pytest.mark.parametrize("without", ["student", "teacher"])
def test_a_missing_system_leaves_the_others_scored(without):
    systems = {"teacher": system_of(SETS, 0.9, 1), "student": system_of(SETS, 0.9, 2)}
    del systems[without]
    metrics = evaluate(SETS, systems, LABELS, CONFIG).metrics
    assert metrics["retention"] == {}
    assert metrics["replacement"]["verdict"] == "undecided"
    assert metrics["comparisons"] == []
    assert verdict_sentence(metrics).startswith("Undecided")


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_small_and_degenerate_sets_never_crash_and_recompute(tmp_path_factory, data):
    count = data.draw(st.integers(0, 5))
    gold = [data.draw(st.sampled_from([*LABELS, None])) for _ in range(count)]
    groups = data.draw(st.lists(st.sampled_from([None, "g", "h"]), min_size=count, max_size=count))
    rows = [Row(f"r{n}", "text", gold[n], {"group": groups[n]}) for n in range(count)]
    systems = {}
    for name in ("teacher", "student", "majority"):
        answers = {}
        for row in rows:
            label = data.draw(st.sampled_from([*LABELS, None, "missing"]))
            outcome = "missing" if label == "missing" else "answered" if label else "unparsable"
            probabilities = tuple(float(label == other) for other in LABELS) if outcome == "answered" else None
            answers[row.id] = Answer(row.id, label if outcome == "answered" else None, probabilities, outcome)
        systems[name] = SystemAnswers({"test_balanced": answers})
    evaluation = evaluate({"test_balanced": rows, "test_indist": []}, systems, LABELS, CONFIG)
    run = RunDir(tmp_path_factory.mktemp("run"))
    write_evaluation(run, evaluation)
    assert recompute(run) == json.loads(run.metrics.read_text()) == evaluation.metrics
    assert verdict_sentence(evaluation.metrics)


def test_an_id_twice_is_refused_with_its_place():
    rows = [Row("one", "a", "ok"), Row("one", "b", "ok")]
    with pytest.raises(DataError, match="there twice") as caught:
        evaluate({"test_indist": rows}, {}, LABELS, CONFIG)
    assert caught.value.where == "test_indist, row one"


def test_a_gold_label_of_another_task_is_refused_with_the_mend():
    with pytest.raises(DataError, match="'bad' is not a label of the task") as caught:
        evaluate({"test_indist": [Row("one", "a", "bad")]}, {}, LABELS, CONFIG)
    assert "data.gold_values" in caught.value.hint


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer("one", "bad"), "the answer 'bad' is not a label"),
        (Answer("one", "ok", (0.5, 0.5)), "2 class probabilities for 3 labels"),
        (Answer("one", "ok", (float("nan"), 0.5, 0.5)), "not a number"),
    ],
)
def test_answers_for_another_task_are_refused_with_system_and_row(answer, message):
    systems = {"student": SystemAnswers({"test_indist": {"one": answer}})}
    with pytest.raises(DataError, match=message) as caught:
        evaluate({"test_indist": [Row("one", "a", "ok")]}, systems, LABELS, CONFIG)
    assert caught.value.where == "test_indist, row one, student"


def test_no_gold_and_no_teacher_is_refused():
    sets = {"test_indist": rows_of(3, gold=False)}
    with pytest.raises(DataError, match="no test row has gold"):
        evaluate(sets, {"student": system_of(sets, 0.9, 1)}, LABELS, CONFIG)


def test_damaged_files_are_refused_with_their_place(tmp_path):
    run = RunDir(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        recompute(run)
    write_evaluation(run, evaluated(SETS))
    metrics = run.metrics.read_text()
    run.metrics.write_text('{"schema": 1}')
    with pytest.raises(DataError, match="not a metrics file"):
        recompute(run)
    run.metrics.write_text(metrics)
    run.predictions.write_text(run.predictions.read_text() + '{"id": "one"}\n')
    with pytest.raises(DataError, match="not a prediction") as caught:
        recompute(run)
    assert caught.value.where.startswith(f"{run.predictions}:")
