import io
import json
import threading

import pytest

from mlxdistill.data.new_rows import batches_in_time, read_rows_to_label
from mlxdistill.errors import DataError, Interrupted
from mlxdistill.tasks.lines import BadLine
from mlxdistill.tasks.rows import Row, content_id


def test_rows_come_from_any_format_with_ids_where_there_are_some(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.jsonl").write_text('{"body": "a", "key": 1}\n{"body": "b"}\n')
    (tmp_path / "a.csv").write_text("key;body\n1;a\n;b\n")
    pq.write_table(pa.table({"key": [1, None], "body": ["a", "b"]}), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        rows = list(read_rows_to_label(tmp_path / name, "body", "key"))
        assert rows == [Row("1", "a"), Row(content_id("b"), "b")]


def test_an_id_column_that_the_new_rows_do_not_have_is_no_error(tmp_path):
    (tmp_path / "a.csv").write_text("text\na\n")
    assert list(read_rows_to_label(tmp_path / "a.csv", "text", "id")) == [Row(content_id("a"), "a")]


def test_without_a_text_column_logged_requests_and_the_column_text_are_read():
    logged = {"messages": [{"role": "user", "content": "a"}]}
    stream = io.BytesIO(f'{json.dumps(logged)}\n{{"text": "b"}}\n'.encode())
    assert [row.text for row in read_rows_to_label(None, None, None, stream=stream)] == ["a", "b"]


def test_bad_lines_stand_in_their_place():
    stream = io.BytesIO(b'{"text": "a"}\nnot json\n{"text": ""}\n{"text": "d", "id": []}\n{"text": "a"}\n')
    assert list(read_rows_to_label(None, "text", "id", stream=stream)) == [
        Row(content_id("a"), "a"),
        BadLine(2, "not JSON: Expecting value at character 1"),
        BadLine(3, "the text is empty"),
        BadLine(4, "the id is a list, not a string or number"),
        Row(content_id("a"), "a"),
    ]


def test_standard_input_is_read_line_by_line():
    class Endless(io.RawIOBase):
        """Gives lines for ever, as a pipe that stays open would."""

        def readable(self):
            return True

        def readinto(self, buffer):
            line = b'{"text": "a"}\n'
            buffer[: len(line)] = line
            return len(line)

    rows = read_rows_to_label(None, "text", None, stream=io.BufferedReader(Endless()))
    assert [next(rows).text for _ in range(3)] == ["a", "a", "a"]


def test_standard_input_is_the_default_stream(monkeypatch):
    import sys

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "a"}\n')))
    assert [row.text for row in read_rows_to_label(None, "text", None)] == ["a"]


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        (b'{"body": "a"}\n', "text", "standard input: no column 'text'; it has: body"),
        (b'{"body": "a"}\n', None, "standard input: no column 'text'; it has: body"),
        (b"\n", "text", "standard input: there are no rows"),
    ],
)
def test_input_without_a_text_is_an_error(content, column, message):
    with pytest.raises(DataError) as caught:
        list(read_rows_to_label(None, column, None, stream=io.BytesIO(content)))
    assert str(caught.value) == message
    assert caught.value.hint


def test_a_closed_standard_input_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        next(read_rows_to_label(None, "text", None))


def never() -> bool:
    return False


def test_items_that_come_fast_come_in_full_batches():
    assert [len(batch) for batch in batches_in_time(iter(range(600)), 256, 60.0, never)] == [256, 256, 88]
    assert list(batches_in_time(iter([]), 256, 60.0, never)) == []


def test_items_that_are_there_do_not_wait_for_one_that_is_not():
    answered = threading.Event()

    def items():
        yield from "ab"
        assert answered.wait(60)
        yield "c"

    seen = []
    for batch in batches_in_time(items(), 256, 0.01, never):
        seen += batch
        if len(seen) == 2:
            answered.set()
    assert seen == ["a", "b", "c"]


def test_what_goes_wrong_is_raised_after_the_items_before_it():
    def items():
        yield from "ab"
        raise DataError("cut off")

    batches = batches_in_time(items(), 256, 60.0, never)
    assert next(batches) == ("a", "b")
    with pytest.raises(DataError, match="cut off"):
        next(batches)


def test_waiting_ends_when_the_user_asks_to_stop():
    ended = threading.Event()

    def items():
        yield from "a"
        ended.wait(60)

    batches = batches_in_time(items(), 256, 0.01, lambda: bool(seen))
    seen = []
    seen += next(batches)
    with pytest.raises(Interrupted):
        next(batches)
    ended.set()
