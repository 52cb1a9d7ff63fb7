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
    a = np.array([1] * both + [1] * a_only + [0] * b_only + [0] * neither, dtype=np.int64)
    b = np.array([1] * both + [0] * a_only + [1] * b_only + [0] * neither, dtype=np.int64)
    return Pair(a, b, clusters)


def test_better_and_worse_need_test_and_interval():
    worse = compare("student", "teacher", "test_balanced", "accuracy", pair_of(300, 5, 40, 55), FEW)
    assert worse["verdict"] == "student is worse"
    assert worse["difference"] == pytest.approx(-35 / 400)
    assert worse["ci"] == pytest.approx(tango_ends(5, 40, 400))
    assert (worse["n"], worse["test"], worse["a_only_right"], worse["b_only_right"]) == (400, "mcnemar", 5, 40)
    better = compare("student", "teacher", "test_balanced", "accuracy", pair_of(300, 40, 5, 55), FEW)
    assert better["verdict"] == "student is better"
    same = compare("student", "teacher", "test_balanced", "accuracy", pair_of(360, 12, 14, 14), FEW)
    assert same["verdict"] == "no significant difference"
    assert same["p_value"] > 0.05


def test_no_shared_row_gives_nulls_and_a_reason():
    entry = compare("student", "teacher", "test_indist", "accuracy", pair_of(0, 0, 0, 0), FEW)
    assert entry["n"] == 0
    assert entry["difference"] is entry["ci"] is entry["p_value"] is entry["verdict"] is entry["test"] is None
    assert entry["reason"] == "student and teacher have no scored row in common"


def test_groups_turn_a_clear_difference_into_noise():
    """40 rows only the teacher has right, but all in one of twenty groups."""
    clusters = np.concatenate([np.arange(360) % 19, np.full(40, 19)])
    rows = compare("student", "teacher", "s", "accuracy", pair_of(360, 0, 40, 0), FEW)
    grouped = compare("student", "teacher", "s", "accuracy", pair_of(360, 0, 40, 0, clusters), FEW)
    assert rows["verdict"] == "student is worse"
    assert grouped["verdict"] == "no significant difference"
    assert (grouped["method"], grouped["test"]) == ("cluster bootstrap", "sign flip by group")
    assert grouped["ci"][0] < rows["ci"][0]


def test_where_test_and_interval_differ_nothing_is_claimed():
    by_interval = compare("student", "teacher", "s", "accuracy", pair_of(30, 4, 0, 6), FEW)
    assert by_interval["ci"][0] > 0
    assert by_interval["p_value"] > 0.05
    assert by_interval["verdict"] == "no significant difference"
    clusters = np.concatenate([np.arange(24) % 8, np.arange(16) % 8])
    by_test = compare("student", "teacher", "s", "accuracy", pair_of(0, 24, 16, 0, clusters), FEW)
    assert by_test["p_value"] < 0.05
    assert by_test["ci"][0] < 0
    assert by_test["verdict"] == "no significant difference"


def test_agreement_is_never_called_better():
    entry = compare("student", "majority", "s", "agreement", pair_of(300, 40, 5, 55), FEW)
    assert entry["verdict"] == "student agrees more with the teacher"


def test_retention_holds_its_value_and_takes_chance_off():
    entry = retention(pair_of(350, 5, 10, 35), {"ok": 200, "toxic": 200}, FEW)
    assert entry["value"] == pytest.approx(355 / 360)
    assert entry["ci"][0] < 355 / 360 < entry["ci"][1]
    assert entry["chance"] == 0.5
    assert entry["above_chance"] == pytest.approx((355 - 200) / (360 - 200))
    assert entry["method"] == "paired bootstrap"


def test_retention_above_chance_is_null_where_the_teacher_is_not_above_it():
    entry = retention(pair_of(150, 30, 40, 0), {"ok": 200, "toxic": 20}, FEW)
    assert entry["above_chance"] is None
    assert entry["reason"] == "the teacher is not above chance"
    assert entry["value"] is not None
    assert retention(pair_of(0, 3, 0, 2), {"ok": 3, "toxic": 2}, FEW)["reason"] == "the teacher has no row right"
    assert retention(pair_of(0, 0, 0, 0), {"ok": 0}, FEW)["value"] is None


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        ((3600, 60, 62, 278), "yes"),
        ((3000, 20, 300, 680), "no"),
        ((360, 10, 14, 16), "undecided"),
        ((5, 0, 0, 0), "undecided"),
        ((1, 0, 0, 0), "undecided"),
        ((0, 0, 1, 0), "undecided"),
    ],
)
def test_replacement_asks_whether_the_interval_clears_the_margin(cells, verdict):
    entry = replacement(pair_of(*cells), 0.02, FEW)
    assert entry["verdict"] == verdict
    assert (entry["rows_needed"] is not None) == (verdict == "undecided")


@pytest.mark.parametrize("cells", [(360, 10, 14, 16), (355, 6, 21, 18), (5, 0, 0, 0), (360, 6, 12, 22)])
def test_rows_needed_are_the_fewest_that_decide(cells):
    entry = replacement(pair_of(*cells), 0.02, FEW)
    n, rows = sum(cells), entry["rows_needed"]
    assert rows > n

    def undecided(count):
        low, high = tango_ends(cells[1] * count / n, cells[2] * count / n, count)
        return low <= -0.02 <= high

    assert undecided(rows - 1)
    assert not undecided(rows)


def test_rows_needed_is_null_at_the_margin():
    entry = replacement(pair_of(380, 2, 10, 8), 0.02, FEW)
    assert entry["difference"] == pytest.approx(-0.02)
    assert entry["verdict"] == "undecided"
    assert entry["rows_needed"] is None


def test_replacement_with_groups_plans_by_the_groups():
    clusters = np.arange(400) % 40
    entry = replacement(pair_of(360, 10, 14, 16, clusters), 0.02, FEW)
    assert entry["method"] == "cluster bootstrap"
    assert entry["verdict"] == "undecided"
    assert entry["rows_needed"] > 400
    alone = replacement(pair_of(360, 10, 14, 16, np.zeros(400, dtype=np.int64)), 0.02, FEW)
    assert (alone["verdict"], alone["ci"], alone["rows_needed"]) == ("undecided", None, None)
    assert "no interval" in verdict_sentence(metrics_with(alone))


def test_without_a_balanced_set_replacement_is_undecided_with_a_reason():
    entry = replacement(None, 0.02, FEW)
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
    return compare("student", rival, set_name, "accuracy", pair_of(*cells), FEW)


def test_sentence_says_yes_and_no_with_the_interval():
    yes = verdict_sentence(metrics_with(replacement(pair_of(3600, 60, 62, 278), 0.02, FEW)))
    assert yes == (
        "The student may replace the teacher: on test_balanced its accuracy differs by -0.1 points "
        "(95 % interval -0.6 to +0.5), which is no more than 2 points below."
    )
    no = verdict_sentence(metrics_with(replacement(pair_of(3000, 20, 300, 680), 0.02, FEW)))
    assert no.startswith(
        "The student may not replace the teacher: on test_balanced its accuracy differs by -7.0 points"
    )


def test_sentence_says_undecided_first_and_how_many_rows_would_do():
    said = verdict_sentence(metrics_with(replacement(pair_of(360, 10, 14, 16), 0.02, FEW)))
    assert said.startswith("Undecided whether the student may replace the teacher")
    assert "about 2,500 rows would decide, 400 are there" in said
    for word in ("better", "worse"):
        assert word not in said


def test_sentence_begins_with_a_naive_baseline_that_is_not_beaten():
    entry = replacement(pair_of(3600, 60, 62, 278), 0.02, FEW)
    rivals = [against("majority", (200, 160, 5, 35)), against("tfidf_logreg", (340, 20, 18, 22))]
    said = verdict_sentence(metrics_with(entry, *rivals))
    assert said.startswith("The student does not beat every naive baseline: in accuracy on test_balanced it is within")
    assert "tfidf_logreg" in said
    assert "majority" not in said
    behind = verdict_sentence(metrics_with(entry, against("tfidf_logreg", (300, 5, 60, 35))))
    assert "it is below tfidf_logreg, by -13.8 points" in behind


def test_sentence_leaves_out_other_sets_and_systems():
    entry = replacement(pair_of(3600, 60, 62, 278), 0.02, FEW)
    others = [
        against("majority", (200, 2, 3, 15), "test_indist"),
        against("student_base", (300, 9, 9, 82)),
        against("tfidf_logreg", (200, 160, 5, 35)),
    ]
    assert verdict_sentence(metrics_with(entry, *others)).startswith("The student may replace")


def test_sentence_without_gold_speaks_of_agreement_only():
    agreement = wilson(186, 200).to_json()
    metrics = {
        "reference": "teacher",
        "sets": {"test_indist": {}},
        "systems": {"student": {"sets": {"test_indist": {"answered": 200, "agreement": agreement}}}},
        "comparisons": [compare("student", "tfidf_logreg", "test_indist", "agreement", pair_of(170, 16, 14, 0), FEW)],
        "replacement": None,
    }
    said = verdict_sentence(metrics)
    assert said.startswith(
        "The student does not beat every naive baseline: in agreement with the teacher on test_indist"
    )
    assert "the student agrees with the teacher on 93.0 % of test_indist (95 % interval 88.6 to 95.8)" in said
