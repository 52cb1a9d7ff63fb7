import pytest

from mlxdistill.data.fields import Columns, GoldLabels, MadeRow, RowMaker, Unusable
from mlxdistill.errors import DataError
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.lines import BadLine, Record
from mlxdistill.tasks.rows import Row, content_id

TASK = ClassificationTask("Decide.", (Label("ok", "", "fine"), Label("toxic", "", "toxic")))
YES_NO = GoldLabels(TASK, {"false": "ok", "true": "toxic"})
NUMBERS = GoldLabels(TASK, {"0": "ok", "1.0": "toxic"})
NAMES = GoldLabels(TASK, {})


@pytest.mark.parametrize(
    ("labels", "value", "expected"),
    [
        (YES_NO, True, "toxic"),
        (YES_NO, "False", "ok"),
        (YES_NO, "TRUE ", "toxic"),
        (YES_NO, "ok", "ok"),
        (NUMBERS, 1, "toxic"),
        (NUMBERS, 0.0, "ok"),
        (NUMBERS, "1", "toxic"),
        (NUMBERS, "0.0", "ok"),
        (NAMES, "toxic", "toxic"),
        (NAMES, "fine", "ok"),
        (NAMES, "Toxic", "toxic"),
        (NAMES, None, None),
        (NAMES, "", None),
        (NAMES, " ", None),
        (NAMES, float("nan"), None),
    ],
)
def test_gold_values(labels, value, expected):
    assert labels.read(value) == expected


@pytest.mark.parametrize(
    ("labels", "value", "reason"),
    [
        (NAMES, "tox", "the gold value 'tox' means no label"),
        (NUMBERS, True, "the gold value 'true' means no label"),
        (NUMBERS, 2, "the gold value '2' means no label"),
        (NAMES, float("inf"), "the gold value 'inf' means no label"),
        (NAMES, "x" * 50, f"the gold value '{'x' * 40}...' means no label"),
        (NAMES, "a\nb\ud800", r"the gold value 'a\nb\ud800' means no label"),
        (NAMES, ["ok"], "the gold value is a list"),
    ],
)
def test_unknown_gold_values_are_named_in_at_most_40_characters(labels, value, reason):
    with pytest.raises(Unusable) as caught:
        labels.read(value)
    assert str(caught.value) == reason


def test_class_numbers_are_read_by_their_names_unless_mapped():
    names = ("toxic", "ok")
    assert NAMES.read(0, names) == "toxic"
    assert NAMES.read(-1, names) is None
    assert NUMBERS.read(0, names) == "ok"
    with pytest.raises(Unusable, match="'2'"):
        NAMES.read(2, names)


def test_the_mapping_comes_before_the_labels_names():
    swapped = GoldLabels(TASK, {"ok": "toxic", "toxic": "ok"})
    assert (swapped.read("ok"), swapped.read("toxic")) == ("toxic", "ok")


def test_labels_that_differ_only_in_case_are_told_apart():
    task = ClassificationTask("", (Label("A", "", "upper"), Label("a", "", "lower")))
    labels = GoldLabels(task, {})
    assert (labels.read("A"), labels.read("a")) == ("A", "a")


def test_gold_values_for_a_label_the_task_does_not_have_are_refused():
    with pytest.raises(DataError, match="no label 'bad' in the task") as caught:
        GoldLabels(TASK, {"1": "bad"})
    assert caught.value.where == "data.gold_values"


def make(values, **columns):
    maker = RowMaker(Columns(**{"text": "text", **columns}), NAMES)
    return maker.make(Record(3, values), {})


def test_a_row_keeps_its_text_as_given():
    text = "  e\u0301\r\n "
    assert make({"text": text}) == MadeRow(3, Row(content_id(text), text), False)


def test_ids_groups_and_logged_answers_come_along():
    values = {
        "text": "a",
        "key": 7.0,
        "customer": 12,
        "gold": "toxic",
        "messages": [{"role": "user", "content": "?"}],
        "response": "ok",
    }
    row = Row("7", "a", "toxic", {"group": "12", "answer": "ok"})
    assert make(values, id="key", gold="gold", group="customer") == MadeRow(3, row, True)


def test_empty_ids_and_groups_count_as_none():
    made = make({"text": "a", "id": "", "group": None}, id="id", group="group")
    assert made == MadeRow(3, Row(content_id("a"), "a"), False)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "no column 'text'"),
        ({"text": None}, "the text is missing"),
        ({"text": ""}, "the text is empty"),
        ({"text": 3}, "the text is a number, not a string"),
        ({"text": "\udfff"}, "the text holds half a surrogate pair"),
        ({"text": "a", "id": True}, "the id is a boolean, not a string or number"),
        ({"text": "a", "id": "i" * 201}, "the id is longer than 200 characters"),
        ({"text": "a", "id": "\ud800"}, "the id holds half a surrogate pair"),
        ({"text": "a", "group": {}}, "the group is an object"),
        ({"text": "a", "group": "\0"}, "the group holds a NUL character"),
        ({"text": "a", "messages": [], "response": "\ud800"}, "the answer holds half a surrogate pair"),
    ],
)
def test_records_that_give_no_row(values, reason):
    assert make(values, id="id", group="group") == BadLine(3, reason)
