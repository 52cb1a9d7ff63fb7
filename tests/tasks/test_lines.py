import io
import tracemalloc

import pytest

from mlxdistill.errors import DataError
from mlxdistill.tasks.lines import (
    BadLine,
    BadLines,
    Record,
    bounded_lines,
    json_records,
    open_file,
    text_fault,
    wrong_column,
)


def records(content, most_bytes=2**20):
    return list(json_records(io.BytesIO(content), "rows.jsonl", most_bytes))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "\xff"}', "not valid UTF-8 at byte 11"),
        (b'{"text": "a\x00b"}', "holds a NUL byte"),
        (b'{"text": "a"', "not JSON: Expecting ',' delimiter at character 13"),
        (b'["a"]', "a list, where a JSON object was expected"),
        (b'"a"', "a string, where a JSON object was expected"),
        (b"null", "null, where a JSON object was expected"),
        (b'{"gold": NaN}', "not JSON: NaN is no JSON number"),
        (b'{"gold": -Infinity}', "not JSON: -Infinity is no JSON number"),
        (b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_a_bad_line_is_named_and_the_lines_around_it_survive(line, reason):
    content = b'{"text": "before"}\n' + line + b'\n{"text": "after"}\n'
    assert records(content) == [
        Record(1, {"text": "before"}),
        BadLine(2, reason),
        Record(3, {"text": "after"}),
    ]


def test_an_integer_of_too_many_digits_is_a_bad_line():
    found = records(b'{"gold": ' + b"9" * 10_000 + b'}\n{"a": 1}\n')
    assert isinstance(found[0], BadLine)
    assert found[1] == Record(2, {"a": 1})


def test_byte_order_mark_crlf_blank_lines_and_a_missing_last_line_end_are_tolerated():
    content = b'\xef\xbb\xbf{"a": "x\\r\\n"}\r\n\r\n  \n{"a": "y"}'
    assert records(content) == [Record(1, {"a": "x\r\n"}), Record(4, {"a": "y"})]


def test_utf_16_is_named_as_such():
    with pytest.raises(DataError, match="UTF-16") as caught:
        records('{"a": 1}\n'.encode("utf-16"))
    assert caught.value.hint == "save it as UTF-8"


def test_a_line_of_exactly_the_limit_passes_and_one_byte_more_does_not():
    lines = list(bounded_lines(io.BytesIO(b"1234\n12345\n1234"), "x", most_bytes=4))
    assert [getattr(line, "content", None) for line in lines] == [b"1234\n", None, b"1234"]
    assert lines[1] == BadLine(2, "longer than 4 bytes")


def test_a_50_mb_line_is_refused_without_holding_more_than_the_limit(tmp_path):
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(50):
            file.write(b"a" * 2**20)
        file.write(b'"}\n{"text": "after"}\n')
    tracemalloc.start()
    try:
        with open_file(path) as file:
            found = list(json_records(file, str(path)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [BadLine(1, "longer than 16,777,216 bytes"), Record(2, {"text": "after"})]
    assert peak < 40 * 2**20


@pytest.mark.parametrize("kind", ["missing", "folder", "empty"])
def test_files_that_cannot_be_read_are_data_errors_with_their_path(tmp_path, kind):
    path = tmp_path / "rows.jsonl"
    expected = {"missing": "no such file", "folder": "a folder", "empty": "empty"}[kind]
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    with pytest.raises(DataError, match=expected) as caught:
        open_file(path)
    assert caught.value.where == str(path)
    assert caught.value.hint


def test_a_misspelt_file_name_gets_the_nearest_one(tmp_path):
    (tmp_path / "train.jsonl").write_text("{}")
    with pytest.raises(DataError) as caught:
        open_file(tmp_path / "trian.jsonl")
    assert caught.value.hint == f"did you mean {tmp_path / 'train.jsonl'}?"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("fine", None),
        ("  fine\r\n", None),
        ("\U0001f600", None),
        (None, "the text is missing"),
        (3, "the text is a number, not a string"),
        ([], "the text is a list, not a string"),
        (" \n", "the text is empty"),
        ("a\0", "the text holds a NUL character"),
        ("a\ud800", "the text holds half a surrogate pair"),
    ],
)
def test_text_faults(value, fault):
    assert text_fault(value) == fault


def test_wrong_column_names_the_columns_and_the_nearest():
    error = wrong_column("coment", "data.fields.text", ["id", "Comment"], "a.csv")
    assert str(error) == "a.csv: no column 'coment'; it has: id, Comment"
    assert error.hint == "did you mean 'Comment'? set data.fields.text"


def test_wrong_column_does_not_show_the_text_of_a_file_without_header():
    text = "a long private message that stands where a header should be"
    error = wrong_column("text", "data.fields.text", [text, "ok"], "a.csv")
    assert "private" not in str(error) + error.hint


def test_bad_lines_are_counted_and_the_first_are_shown():
    bad = BadLines(strict=False)
    for number in range(1, 1201):
        bad.add("rows.jsonl", BadLine(number, "the text is empty"))
    assert bad.records[-1] == {"file": "rows.jsonl", "line": 1200, "reason": "the text is empty"}
    assert len(bad.first) == 20
    assert bad.note("rows/bad_lines.jsonl") == (
        "lines that cannot be used: 1,200 (rows/bad_lines.jsonl); the first: rows.jsonl:1 the text is empty"
    )
    with pytest.raises(DataError, match="the text is empty") as raised:
        BadLines(strict=True).add("rows.jsonl", BadLine(3, "the text is empty"))
    assert raised.value.where == "rows.jsonl:3"
