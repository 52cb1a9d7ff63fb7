import math

import numpy as np
import pytest

from mlxdistill.evaluation.comparisons import compare
from mlxdistill.evaluation.samples import Pair
from mlxdistill.evaluation.scores import Resampling
from mlxdistill.evaluation.sentence import verdict_sentence
from mlxdistill.evaluation.verdict import replacement, retention
from mlxdistill.statistics.intervals import wilson
from mlxdistill.statistics.paired import tango_ends

FEW = Resampling(300, 0)


def pair_of(both, a_only, b_only, neither, clusters=None):
    """Rows of two classes in turn, so that they are as balanced as their number allows."""
    a = np.array([1] * both + [1] * a_only + [0] * b_only + [0] * neither, dtype=np.int64)
    b = np.array([1] * both + [0] * a_only + [1] * b_only + [0] * neither, dtype=np.int64)
    return Pair(a, b, np.arange(len(a)) % 2, ("ok", "toxic"), clusters)


def pair_by_class(counts, clusters=None):
    """From the counts of both, only the student, only the teacher, neither right, by label."""
    cells = np.concatenate([np.repeat(np.eye(4, dtype=np.int64), cells, axis=0) for cells in counts.values()])
    reference = np.repeat(np.arange(len(counts)), [sum(cells) for cells in counts.values()])
    return Pair(cells[:, 0] + cells[:, 1], cells[:, 0] + cells[:, 2], reference, tuple(counts), clusters)


LOGGED = {"ok": (170, 4, 11, 15), "toxic": (12, 1, 6, 1)}
"""Of a test_balanced of 200 rows each, those that a log answered."""


def judge(pair, margin=0.02):
    return replacement(pair, len(pair.reference), margin, FEW)


def test_better_and_worse_need_test_and_interval():
    worse = compare("student", "teacher", "test_balanced", "accuracy", pair_of(300, 5, 40, 55), 0, FEW)
    assert worse["verdict"] == "student is worse"
    assert worse["difference"] == pytest.approx(-35 / 400)
    assert worse["ci"] == pytest.approx(tango_ends(5, 40, 400))
    assert (worse["n"], worse["test"], worse["a_only_right"], worse["b_only_right"]) == (400, "mcnemar", 5, 40)
    better = compare("student", "teacher", "test_balanced", "accuracy", pair_of(300, 40, 5, 55), 0, FEW)
    assert better["verdict"] == "student is better"
    same = compare("student", "teacher", "test_balanced", "accuracy", pair_of(360, 12, 14, 14), 0, FEW)
    assert same["verdict"] == "no significant difference"
    assert same["p_value"] > 0.05


def test_no_shared_row_gives_nulls_and_a_reason():
    entry = compare("student", "teacher", "test_indist", "accuracy", pair_of(0, 0, 0, 0), 0, FEW)
    assert entry["n"] == 0
    assert entry["difference"] is entry["ci"] is entry["p_value"] is entry["verdict"] is entry["test"] is None
    assert entry["reason"] == "student and teacher have no scored row in common"


def test_groups_turn_a_clear_difference_into_noise():
    """40 rows only the teacher has right, but all in one of twenty groups."""
    clusters = np.concatenate([np.arange(360) % 19, np.full(40, 19)])
    rows = compare("student", "teacher", "s", "accuracy", pair_of(360, 0, 40, 0), 0, FEW)
    grouped = compare("student", "teacher", "s", "accuracy", pair_of(360, 0, 40, 0, clusters), 0, FEW)
    assert rows["verdict"] == "student is worse"
    assert grouped["verdict"] == "no significant difference"
    assert (grouped["method"], grouped["test"]) == ("cluster bootstrap", "sign flip by group")
    assert grouped["ci"][0] < rows["ci"][0]


def test_where_test_and_interval_differ_nothing_is_claimed():
    by_interval = compare("student", "teacher", "s", "accuracy", pair_of(30, 4, 0, 6), 0, FEW)
    assert by_interval["ci"][0] > 0
    assert by_interval["p_value"] > 0.05
    assert by_interval["verdict"] == "no significant difference"
    clusters = np.concatenate([np.arange(24) % 8, np.arange(16) % 8])
    by_test = compare("student", "teacher", "s", "accuracy", pair_of(0, 24, 16, 0, clusters), 0, FEW)
    assert by_test["p_value"] < 0.05
    assert by_test["ci"][0] < 0
    assert by_test["verdict"] == "no significant difference"


def test_agreement_is_never_called_better():
    entry = compare("student", "majority", "s", "agreement", pair_of(300, 40, 5, 55), 0, FEW)
    assert entry["verdict"] == "student agrees more with the teacher"


def test_retention_holds_its_value_and_takes_chance_off():
    entry = retention("test_balanced", pair_of(350, 5, 10, 35), 400, FEW)
    assert entry["value"] == pytest.approx(355 / 360)
    assert entry["ci"][0] < 355 / 360 < entry["ci"][1]
    assert (entry["metric"], entry["chance"]) == ("accuracy", 0.5)
    assert entry["above_chance"] == pytest.approx((355 - 200) / (360 - 200))
    assert entry["method"] == "paired bootstrap"
    assert "class_counts" not in entry


def test_retention_above_chance_has_an_interval_of_its_own():
    entry = retention("test_balanced", pair_of(350, 5, 10, 35), 400, FEW)
    (low, high), (above_low, above_high) = entry["ci"], entry["above_chance_ci"]
    assert above_low < entry["above_chance"] < above_high
    assert above_high - above_low > 1.5 * (high - low)
    near = retention("test_balanced", pair_of(10, 3, 2, 7), 22, FEW)
    assert near["above_chance"] == pytest.approx((13 - 11) / (12 - 11))
    assert near["above_chance_ci"] is None
    assert near["reason"] == "the teacher is too near chance for an interval"


def test_retention_above_chance_is_null_where_the_teacher_is_not_above_it():
    common = {"ok": (140, 30, 30, 0), "toxic": (10, 0, 10, 0)}
    entry = retention("test_indist", pair_by_class(common), 220, FEW)
    assert entry["above_chance"] is entry["above_chance_ci"] is None
    assert entry["chance"] == 200 / 220
    assert entry["reason"] == "the teacher is not above chance"
    assert entry["value"] is not None
    assert retention("test_indist", pair_of(0, 3, 0, 2), 5, FEW)["reason"] == "the teacher has no row right"
    nothing = retention("test_indist", pair_of(0, 0, 0, 0), 5, FEW)
    assert nothing["value"] is nothing["above_chance_ci"] is None


def test_chance_is_that_of_the_rows_both_answered():
    """The set has as many of each class; the log answered ten times as many of one."""
    entry = retention("test_indist", pair_by_class(LOGGED), 400, FEW)
    assert (entry["metric"], entry["chance"]) == ("accuracy", 200 / 220)
    assert entry["class_counts"] == {"ok": 200, "toxic": 20}


def test_shared_rows_that_are_not_balanced_are_judged_by_balanced_accuracy():
    kept, verdict = retention("test_balanced", pair_by_class(LOGGED), 400, FEW), judge(pair_by_class(LOGGED))
    student, teacher = (174 / 200 + 13 / 20) / 2, (181 / 200 + 18 / 20) / 2
    assert kept["metric"] == verdict["metric"] == "balanced_accuracy"
    assert kept["value"] == pytest.approx(student / teacher)
    assert kept["chance"] == 0.5
    assert kept["above_chance"] == pytest.approx((student - 0.5) / (teacher - 0.5))
    assert verdict["difference"] == pytest.approx(student - teacher)
    assert verdict["method"] == kept["method"] == "stratified paired bootstrap"
    low, high = verdict["ci"]
    accuracy = compare("student", "teacher", "test_balanced", "accuracy", pair_by_class(LOGGED), 400, FEW)
    assert high - low > 2 * (accuracy["ci"][1] - accuracy["ci"][0]), "20 rows decide about half of the score"
    assert accuracy["class_counts"] == {"ok": 200, "toxic": 20}


@pytest.mark.parametrize(
    ("toxic", "margin", "verdict"),
    [((12, 1, 6, 1), 0.02, "undecided"), ((2, 0, 17, 1), 0.02, "no"), ((19, 0, 0, 1), 0.2, "yes")],
)
def test_a_balanced_difference_is_judged_by_its_interval(toxic, margin, verdict):
    entry = judge(pair_by_class({"ok": (181, 4, 4, 11), "toxic": toxic}), margin)
    assert entry["verdict"] == verdict
    if verdict == "undecided":
        distance = entry["difference"] + margin
        n = 220 * ((entry["ci"][1] - entry["difference"]) / distance) ** 2
        assert entry["rows_needed"] == math.ceil(n) > 220


def test_a_balanced_difference_of_groups_resamples_groups():
    clusters = np.arange(220) % 30
    entry = judge(pair_by_class(LOGGED, clusters))
    assert (entry["metric"], entry["method"]) == ("balanced_accuracy", "cluster bootstrap")
    kept = retention("test_balanced", pair_by_class(LOGGED, clusters), 400, FEW)
    assert kept["above_chance_ci"][0] < kept["above_chance"] < kept["above_chance_ci"][1]
    alone = judge(pair_by_class(LOGGED, np.zeros(220, np.int64)))
    assert (alone["verdict"], alone["ci"], alone["rows_needed"]) == ("undecided", None, None)


def test_a_class_that_no_shared_row_has_leaves_no_verdict():
    pair = pair_by_class({"ok": (90, 2, 3, 5), "toxic": (0, 0, 0, 0), "spam": (80, 2, 3, 5)})
    entry = judge(pair)
    assert entry["verdict"] is entry["difference"] is entry["ci"] is entry["rows_needed"] is None
    assert entry["reason"] == "none of the rows of test_balanced that both answered is of 'toxic'"
    assert verdict_sentence(metrics_with(entry)) == (
        "No verdict on whether the student may replace the teacher: none of the rows of test_balanced that both "
        "answered is of 'toxic'."
    )
    kept = retention("test_balanced", pair, 400, FEW)
    assert (kept["metric"], kept["chance"]) == ("balanced_accuracy", 0.5)


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        ((3600, 60, 62, 278), "yes"),
        ((3000, 20, 300, 680), "no"),
        ((360, 10, 14, 16), "undecided"),
        ((6, 0, 0, 0), "undecided"),
        ((2, 0, 0, 0), "undecided"),
        ((0, 0, 2, 0), "undecided"),
    ],
)
def test_replacement_asks_whether_the_interval_clears_the_margin(cells, verdict):
    entry = judge(pair_of(*cells))
    assert entry["verdict"] == verdict
    assert (entry["rows_needed"] is not None) == (verdict == "undecided")


@pytest.mark.parametrize("cells", [(360, 10, 14, 16), (355, 6, 21, 18), (6, 0, 0, 0), (360, 6, 12, 22)])
def test_rows_needed_are_the_fewest_that_decide(cells):
    entry = judge(pair_of(*cells))
    n, rows = sum(cells), entry["rows_needed"]
    assert rows > n

    def undecided(count):
        low, high = tango_ends(cells[1] * count / n, cells[2] * count / n, count)
        return low <= -0.02 <= high

    assert undecided(rows - 1)
    assert not undecided(rows)


def test_rows_needed_is_null_at_the_margin():
    entry = judge(pair_of(380, 2, 10, 8))
    assert entry["difference"] == pytest.approx(-0.02)
    assert entry["verdict"] == "undecided"
    assert entry["rows_needed"] is None


def test_replacement_with_groups_plans_by_the_groups():
    clusters = np.arange(400) % 40
    entry = judge(pair_of(360, 10, 14, 16, clusters))
    assert entry["method"] == "cluster bootstrap"
    assert entry["verdict"] == "undecided"
    assert entry["rows_needed"] > 400
    alone = judge(pair_of(360, 10, 14, 16, np.zeros(400, dtype=np.int64)))
    assert (alone["verdict"], alone["ci"], alone["rows_needed"]) == ("undecided", None, None)
    assert "no interval" in verdict_sentence(metrics_with(alone))


def test_without_a_balanced_set_replacement_is_undecided_with_a_reason():
    entry = replacement(None, 0, 0.02, FEW)
    assert entry["verdict"] == "undecided"
    assert "test_balanced" in entry["reason"]
    assert verdict_sentence(metrics_with(entry)).startswith("Undecided")


def metrics_with(entry, *comparisons):
    return {
        "reference": "gold",
        "sets": {"test_indist": {}, "test_balanced": {}},
        "systems": {},
        "comparisons": list(comparisons),
        "replacement": entry,
    }


def against(rival, cells, set_name="test_balanced"):
    return compare("student", rival, set_name, "accuracy", pair_of(*cells), 0, FEW)


def test_sentence_says_yes_and_no_with_the_interval():
    yes = verdict_sentence(metrics_with(judge(pair_of(3600, 60, 62, 278))))
    assert yes == (
        "The student may replace the teacher: on test_balanced its accuracy differs by −0.1 points "
        "(95 % interval −0.6 to +0.5), which is no more than 2 points below."
    )
    no = verdict_sentence(metrics_with(judge(pair_of(3000, 20, 300, 680))))
    assert no.startswith(
        "The student may not replace the teacher: on test_balanced its accuracy differs by −7.0 points"
    )


def test_sentence_says_undecided_first_and_how_many_rows_would_do():
    said = verdict_sentence(metrics_with(judge(pair_of(360, 10, 14, 16))))
    assert said.startswith("Undecided whether the student may replace the teacher")
    assert "about 2,500 rows would decide, 400 are there" in said
    for word in ("better", "worse"):
        assert word not in said


def test_sentence_begins_with_a_naive_baseline_that_is_not_beaten():
    entry = judge(pair_of(3600, 60, 62, 278))
    rivals = [against("majority", (200, 160, 5, 35)), against("tfidf_logreg", (340, 20, 18, 22))]
    said = verdict_sentence(metrics_with(entry, *rivals))
    assert said.startswith("The student does not beat every naive baseline: in accuracy on test_balanced it is within")
    assert "tfidf_logreg" in said
    assert "majority" not in said
    behind = verdict_sentence(metrics_with(entry, against("tfidf_logreg", (300, 5, 60, 35))))
    assert "it is below tfidf_logreg, by −13.8 points" in behind


def test_sentence_leaves_out_other_sets_and_systems():
    entry = judge(pair_of(3600, 60, 62, 278))
    others = [
        against("majority", (200, 2, 3, 15), "test_indist"),
        against("student_base", (300, 9, 9, 82)),
        against("tfidf_logreg", (200, 160, 5, 35)),
    ]
    assert verdict_sentence(metrics_with(entry, *others)).startswith("The student may replace")


def test_sentence_names_naive_baselines_that_are_ahead_on_the_other_set():
    entry = judge(pair_of(3600, 60, 62, 278))
    ahead = [against(rival, (300, 5, 60, 35), "test_indist") for rival in ("majority", "tfidf_logreg")]
    said = verdict_sentence(metrics_with(entry, *ahead, against("majority", (200, 160, 5, 35))))
    assert said.startswith("The student may replace the teacher")
    assert said.endswith("below. On test_indist the student is worse than majority and tfidf_logreg.")
    both = verdict_sentence(metrics_with(entry, ahead[0], against("tfidf_logreg", (300, 5, 60, 35))))
    assert "below tfidf_logreg, by −13.8 points" in both
    assert both.endswith("On test_indist the student is worse than majority.")


def test_sentence_says_which_rows_both_answered():
    entry = replacement(pair_by_class(LOGGED), 400, 0.02, FEW)
    metrics = metrics_with(entry) | {"sets": {"test_balanced": {"n": 400}}}
    assert (
        "on test_balanced, on the 220 of 400 rows both answered (ok 200, toxic 20), its balanced accuracy differs by "
        "−14.3 points"
    ) in verdict_sentence(metrics)
    many = {f"label {place}": (3 + place, 0, 1, 0) for place in range(8)}
    entry = replacement(pair_by_class(many), 400, 0.02, FEW)
    assert "rows both answered (4 to 11 of each label)," in verdict_sentence(metrics | {"replacement": entry})


def test_sentence_without_gold_speaks_of_agreement_only():
    agreement = wilson(186, 200).to_json()
    metrics = {
        "reference": "teacher",
        "sets": {"test_indist": {}},
        "systems": {"student": {"sets": {"test_indist": {"answered": 200, "agreement": agreement}}}},
        "comparisons": [
            compare("student", "tfidf_logreg", "test_indist", "agreement", pair_of(170, 16, 14, 0), 0, FEW)
        ],
        "replacement": None,
    }
    said = verdict_sentence(metrics)
    assert said.startswith(
        "The student does not beat every naive baseline: in agreement with the teacher on test_indist"
    )
    assert "the student agrees with the teacher on 93.0 % of test_indist (95 % interval 88.6 to 95.8)" in said
