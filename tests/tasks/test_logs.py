import json
from pathlib import Path

import pytest

from mlxdistill.errors import DataError
from mlxdistill.tasks.lines import BadLine
from mlxdistill.tasks.logs import LoggedAnswer, logged_answer, logged_text, read_log
from mlxdistill.tasks.rows import content_id

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

MESSAGES = [
    {"role": "system", "content": "classify"},
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "ok"},
    {"role": "user", "content": "last"},
]
RESPONSE = {"choices": [{"message": {"role": "assistant", "content": "toxic"}}]}


@pytest.mark.parametrize(
    ("record", "text", "answer"),
    [
        ({"request": {"messages": MESSAGES}, "response": RESPONSE}, "last", "toxic"),
        ({"messages": MESSAGES, "response": "toxic"}, "last", "toxic"),
        ({"messages": MESSAGES, "response": RESPONSE}, "last", "toxic"),
        ({"messages": [*MESSAGES, {"role": "assistant", "content": "toxic"}]}, "last", "toxic"),
        ({"custom_id": "1", "response": {"status_code": 200, "body": RESPONSE}}, None, "toxic"),
        ({"request": {"body": {"messages": MESSAGES}}, "response": {"body": RESPONSE}}, "last", "toxic"),
        ({"request": {"prompt": "last"}, "response": {"choices": [{"text": "toxic"}]}}, "last", "toxic"),
        ({"request": {"messages": MESSAGES}, "response": {"message": {"content": "toxic"}}}, "last", "toxic"),
        ({"request": {"messages": MESSAGES}, "response": {"error": {"code": 500}}}, "last", None),
        ({"request": {"messages": MESSAGES}, "response": {"choices": []}}, "last", None),
        ({"request": {"messages": "none"}, "response": 3}, None, None),
        ({"text": "a", "response": "a column of another meaning"}, None, None),
    ],
)
def test_shapes(record, text, answer):
    assert logged_text(record) == text
    assert logged_answer(record) == answer


def test_parts_of_a_message_and_arguments_of_a_tool_call_are_read():
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "b"}]
    call = {"content": None, "tool_calls": [{"function": {"arguments": '{"label": "ok"}'}}]}
    record = {
        "request": {"messages": [{"role": "user", "content": parts}]},
        "response": {"choices": [{"message": call}]},
    }
    assert logged_text(record) == "a\nb"
    assert logged_answer(record) == '{"label": "ok"}'


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_read_log_gives_ids_answers_and_bad_lines(tmp_path):
    good = {"request": {"messages": MESSAGES}, "response": RESPONSE}
    path = write(
        tmp_path / "log.jsonl",
        {"id": 7, **good},
        {"id": None, **good},
        {"id": "c", **good, "response": {}},
        {"id": "d", **good, "response": ""},
        {"id": ["e"], **good},
        {"id": "f", **good, "response": "\ud800"},
    )
    assert list(read_log(path, text_column=None, id_column="id")) == [
        LoggedAnswer("7", "last", "toxic"),
        LoggedAnswer(content_id("last"), "last", "toxic"),
        BadLine(3, "the answer is missing"),
        LoggedAnswer("d", "last", ""),
        BadLine(5, "the id is a list, not a string or number"),
        BadLine(6, "the answer holds half a surrogate pair"),
    ]


def test_output_of_the_batch_api_is_known_by_its_custom_id(tmp_path):
    path = write(tmp_path / "out.jsonl", {"custom_id": "r1", "response": {"body": RESPONSE}})
    assert list(read_log(path, text_column="text", id_column=None)) == [LoggedAnswer("r1", None, "toxic")]


def test_a_log_beside_the_source_need_not_have_the_source_s_columns(tmp_path):
    openai = {"request": {"messages": MESSAGES}, "response": RESPONSE}
    log = write(tmp_path / "log.jsonl", openai, {"body": " ", **openai}, {"body": "the column's", **openai})
    by_text = LoggedAnswer(content_id("last"), "last", "toxic")
    assert list(read_log(log, text_column="body", id_column="key")) == [
        by_text,
        by_text,
        LoggedAnswer(content_id("the column's"), "the column's", "toxic"),
    ]
    log = write(tmp_path / "log.jsonl", {"key": 1, **openai}, {"key": 2, "body": "a", **openai})
    assert list(read_log(log, text_column="body", id_column="key")) == [
        LoggedAnswer("1", None, "toxic"),
        by_text,
        LoggedAnswer("2", "a", "toxic"),
    ]
    batch = write(tmp_path / "out.jsonl", {"custom_id": "r1", "response": {"body": RESPONSE}})
    assert list(read_log(batch, text_column="body", id_column="key")) == [LoggedAnswer("r1", None, "toxic")]


def test_a_log_without_answers_does_not_blame_the_columns(tmp_path):
    log = write(tmp_path / "log.jsonl", {"request": {"messages": MESSAGES}, "response": {"error": {"code": 500}}})
    with pytest.raises(DataError, match="no logged answer can be used; the first: the answer is missing"):
        list(read_log(log, text_column="body", id_column="key"))


def test_a_wrong_id_column_and_a_file_that_is_no_log_are_errors(tmp_path):
    log = write(tmp_path / "log.jsonl", {"key": 1, "response": {"choices": [{"text": "ok"}]}})
    with pytest.raises(DataError, match="no column 'id'; it has: key, response"):
        list(read_log(log, text_column=None, id_column="id"))
    with pytest.raises(DataError, match="no column 'body'; it has: key, response"):
        list(read_log(log, text_column="body", id_column=None))
    rows = write(tmp_path / "rows.jsonl", {"text": "a"})
    with pytest.raises(DataError, match="no logged answer can be used") as caught:
        list(read_log(rows, text_column="text", id_column=None))
    assert caught.value.where == f"{rows}:1"


@pytest.mark.skipif(
    not SHARED.exists(), reason="reads public data sets, which the project does not carry, from ../shared/data"
)
def test_the_case_study_s_log_is_read_whole():
    answers = list(read_log(SHARED / "jigsaw" / "test.indist.1.gpt4_log.jsonl", text_column="text", id_column="id"))
    assert len(answers) == 220
    assert all(isinstance(answer, LoggedAnswer) and "is_bad" in answer.answer for answer in answers)
