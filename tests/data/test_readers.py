import io
import json
import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdistill.data.csv_source import find_dialect
from mlxdistill.data.readers import read_source, source_files
from mlxdistill.errors import DataError
from mlxdistill.tasks.lines import BadLine, Record


def read(path, *wanted):
    return list(read_source(path, wanted).records)


def csv(tmp_path, content, name="rows.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


DIALECTS = {
    "comma": b'id,text,gold\n1,"a, ""b""\nc",ok\n2,d,\n',
    "crlf and byte order mark": b'\xef\xbb\xbfid,text,gold\r\n1,"a, ""b""\nc",ok\r\n2,d,\r\n',
    "semicolon": b'id;text;gold\n1;"a, ""b""\nc";ok\n2;d;\n',
    "tab": b'id\ttext\tgold\n1\t"a, ""b""\nc"\tok\n2\td\t\n',
    "pipe": b'id|text|gold\n1|"a, ""b""\nc"|ok\n2|d|\n',
    "backslash": b'id,text,gold\n1,"a, \\"b\\"\nc",ok\n2,d,\n',
    "single quotes": b"'id','text','gold'\n'1','a, \"b\"\nc','ok'\n'2','d',''\n",
    "spaces": b'id, text, gold\n1, "a, ""b""\nc", ok\n2, d, \n',
    "all quoted": b'"id","text","gold"\n"1","a, ""b""\nc","ok"\n"2","d",""\n',
    "blank lines": b'\nid,text,gold\n\n1,"a, ""b""\nc",ok\n\n\n2,d,\n\n',
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_csv_dialect_gives_the_same_rows(tmp_path, dialect):
    found = read(csv(tmp_path, DIALECTS[dialect]), "id", "text", "gold")
    assert [record.values for record in found] == [
        {"id": "1", "text": 'a, "b"\nc', "gold": "ok"},
        {"id": "2", "text": "d", "gold": ""},
    ]


def test_crlf_inside_quotes_is_kept_and_lines_are_counted_as_an_editor_does(tmp_path):
    found = read(csv(tmp_path, b'text\n"a\r\nb"\nc\n'), "text")
    assert found == [Record(2, {"text": "a\r\nb"}), Record(4, {"text": "c"})]


def test_the_wanted_columns_tell_the_delimiter_from_commas_in_a_name():
    assert find_dialect("when, where, why;text\n1;a\n", ["text"]).delimiter == ";"


def test_bad_csv_rows_are_named_and_the_rows_around_them_survive(tmp_path):
    path = csv(tmp_path, b'id,text\n1,a\n2,b,c\n3,\xff\n4\n5,"e\xff\n"\n6,f\n7,"never closed\n8,h\n')
    assert read(path, "id", "text") == [
        Record(2, {"id": "1", "text": "a"}),
        BadLine(3, "3 fields, where the header has 2"),
        BadLine(4, "not valid UTF-8"),
        BadLine(5, "1 fields, where the header has 2"),
        BadLine(6, "not valid UTF-8"),
        Record(8, {"id": "6", "text": "f"}),
        BadLine(9, "a quote is opened and not closed"),
        Record(10, {"id": "8", "text": "h"}),
    ]


OPEN = "a quote is opened and not closed"
OPEN_QUOTES = {
    "to the end": ('1,"never\n2,b\n3,c\n', [BadLine(2, OPEN), ("2", "b"), ("3", "c")]),
    "in the last line": ('1,a\n2,"never\n', [("1", "a"), BadLine(3, OPEN)]),
    "closed by the next text's quote": (
        '1,"never\n2,b\n3,"c, d"\n4,e\n',
        [BadLine(2, OPEN), ("2", "b"), ("3", "c, d"), ("4", "e")],
    ),
    "after a text of two lines": (
        '"1\none","never\n2,b\n3,"c\nd"\n',
        [BadLine(2, OPEN + ", in line 3"), ("2", "b"), ("3", "c\nd")],
    ),
    "one after the other": ('1,"never\n2,"again\n3,c\n', [BadLine(2, OPEN), BadLine(3, OPEN), ("3", "c")]),
    "beside quotes inside quotes": (
        '1,"he said "no""\n2,"a "b" c","d\n3,c\n',
        [("1", 'he said no""'), BadLine(3, OPEN), ("3", "c")],
    ),
    "before a long line": (
        f'1,"never\n2,b\n3,{"c" * 2**24}\n4,d\n',
        [BadLine(2, OPEN), ("2", "b"), BadLine(4, "longer than 16,777,216 bytes"), ("4", "d")],
    ),
}


@pytest.mark.parametrize("case", OPEN_QUOTES)
def test_a_quote_that_is_not_closed_costs_its_own_row_only(tmp_path, case):
    content, expected = OPEN_QUOTES[case]
    found = read(csv(tmp_path, "id,text\n" + content), "id", "text")
    assert [row if isinstance(row, BadLine) else (row.values["id"], row.values["text"]) for row in found] == expected


def test_what_follows_an_open_quote_is_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("mlxdistill.data.csv_source.MOST_LINE_BYTES", 2**14)
    lines = ["id,text\n", '0,"text\n', *(f"{index},text {index}\n" for index in range(1, 100_000))]
    records = read_source(csv(tmp_path, "".join(lines)), ["text"]).records
    tracemalloc.start()
    try:
        assert next(records) == BadLine(2, OPEN)
        assert tracemalloc.get_traced_memory()[1] < 2**19
    finally:
        tracemalloc.stop()
    assert [record.number for record in records] == list(range(3, 100_002))


@settings(deadline=None)
@given(
    st.lists(st.lists(st.text('a",\n ', max_size=6), min_size=2, max_size=2), min_size=1, max_size=8),
    st.integers(0, 8),
)
def test_well_formed_rows_are_read_as_written_before_an_open_quote_and_after_it(rows, place):
    import csv as writer

    def written(some):
        text = io.StringIO()
        writer.writer(text, lineterminator="\n").writerows([["x" + first, "x" + second] for first, second in some])
        return text.getvalue()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        content = 'id,text\n"i","""t"\n' + written(rows[:place]) + 'open,"a\n' + written(rows[place:])
        path.write_text(content, newline="")
        found = read(path, "id", "text")
    good = [list(record.values.values()) for record in found if isinstance(record, Record)][1:]
    assert good == [["x" + first, "x" + second] for first, second in rows]
    assert sum(isinstance(record, BadLine) for record in found) == 1


def test_a_csv_line_over_the_limit_is_refused_and_the_next_is_read(tmp_path):
    long = b"1," + b"a" * (17 * 2**20)
    assert read(csv(tmp_path, b"id,text\n" + long + b"\n2,b\n"), "text") == [
        BadLine(2, "longer than 16,777,216 bytes"),
        Record(3, {"id": "2", "text": "b"}),
    ]


def test_a_csv_text_longer_than_the_csv_module_s_own_limit_is_read(tmp_path):
    text = "a" * 200_000
    assert read(csv(tmp_path, f"text\n{text}\n"), "text") == [Record(2, {"text": text})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text,text\na,b\n", "two columns are named 'text'"),
        (b"text\ra\rb\r", "its lines end in CR alone"),
        ("text\na\n".encode("utf-16"), "UTF-16"),
        (b"\n \n", "no header"),
    ],
)
def test_csv_files_that_cannot_be_read_say_why(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(csv(tmp_path, content), "text")
    assert str(tmp_path) in caught.value.where


def test_parquet_and_datasets_folders_give_what_was_written(tmp_path):
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"id": [1, 2], "text": ["a\r\n", "b"], "gold": [1, -1], "unused": [0.5, None]}
    expected = [{"id": 1, "text": "a\r\n", "gold": 1}, {"id": 2, "text": "b", "gold": -1}]
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    source = read_source(tmp_path / "rows.parquet", ["id", "text", "gold"])
    assert source.columns == ("id", "text", "gold", "unused")
    assert source.rows == 2
    assert [record.values for record in source.records] == expected

    features = datasets.Features(
        id=datasets.Value("int64"),
        text=datasets.Value("string"),
        gold=datasets.ClassLabel(names=["ok", "toxic"]),
        unused=datasets.Value("float64"),
    )
    saved = datasets.Dataset.from_dict(columns, features=features)
    saved.save_to_disk(str(tmp_path / "saved"), num_shards=2)
    datasets.DatasetDict(train=saved, test=saved.select([0])).save_to_disk(str(tmp_path / "both"))
    datasets.DatasetDict(test=saved).save_to_disk(str(tmp_path / "test_only"))
    for folder in ("saved", "both", "both/train"):
        source = read_source(tmp_path / folder, ["id", "text", "gold"])
        assert source.class_names == {"gold": ("ok", "toxic")}
        assert source.rows == 2
        assert [record.values for record in source.records] == expected
    assert len(read(tmp_path / "both" / "test", "text")) == 1
    with pytest.raises(DataError, match="no split 'train'") as caught:
        read_source(tmp_path / "test_only", ["text"])
    assert caught.value.hint == f"name one of its splits: {tmp_path / 'test_only' / 'test'}"
    assert [path.name for path in source_files(tmp_path / "saved")] == [
        "dataset_info.json",
        "data-00000-of-00002.arrow",
        "data-00001-of-00002.arrow",
    ]


def test_a_parquet_string_that_is_not_utf_8_costs_its_own_row_only(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet", "text") == [
        Record(1, {"text": "a"}),
        BadLine(2, "not valid UTF-8"),
        Record(3, {"text": "c"}),
    ]


@pytest.mark.parametrize("name", ["rows.parquet", "saved/data.arrow"])
def test_damaged_tables_are_data_errors(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"no table")
    if name.startswith("saved"):
        path = path.parent
        (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
        (path / "dataset_info.json").write_text(json.dumps({"features": {"text": {}}}))
    with pytest.raises(DataError, match="not a readable"):
        read(path, "text")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("missing.jsonl", "no such file", "check the path"),
        ("rows.xlsx", "the suffix '.xlsx' is of no known format", "give .jsonl"),
        ("rows.json", "the suffix '.json'", "one JSON object a line"),
        ("rows.jsnl", "the suffix '.jsnl'", "did you mean .jsonl?"),
        ("rows", "no suffix", "give .jsonl"),
        ("empty.csv", "the file is empty", "check"),
        ("empty.jsonl", "the file is empty", "check"),
        ("empty.parquet", "the file is empty", "check"),
        ("folder", "a folder, and not a saved datasets folder", "name a file in it"),
        ("folder.jsonl", "a folder, and not a saved datasets folder", "name a file in it"),
    ],
)
def test_paths_that_hold_no_rows_say_what_to_do(tmp_path, name, message, hint):
    path = Path(tmp_path / name)
    if name.startswith("folder"):
        path.mkdir()
    elif name.startswith("empty"):
        path.touch()
    elif name.startswith("rows"):
        path.write_text("x")
    for function in (lambda: read(path, "text"), lambda: source_files(path)):
        with pytest.raises(DataError, match=message) as caught:
            function()
        assert caught.value.where == str(path)
        assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["closed/rows.jsonl", "closed/rows", "closed/saved", "closed", "both"])
def test_a_folder_that_this_user_may_not_search_is_said(name):
    script = """
import os, pathlib, sys, pyarrow.ipc
from mlxdistill.data.readers import read_source, source_files
from mlxdistill.errors import DataError
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for function in (lambda path: read_source(path, ["text"]), source_files):
    try:
        function(pathlib.Path(sys.argv[1]))
    except DataError as error:
        print(error.where, error.message, error.hint, sep="|")
"""
    with tempfile.TemporaryDirectory() as folder:
        closed = Path(folder) / "closed"
        inner = Path(folder) / "both" / "train"
        (closed / "saved").mkdir(parents=True)
        inner.mkdir(parents=True)
        (closed / "rows.jsonl").write_text('{"text": "a"}\n')
        (inner.parent / "dataset_dict.json").write_text('{"splits": ["train"]}')
        os.chmod(folder, 0o755)
        closed.chmod(0)
        inner.chmod(0)
        try:
            command = [sys.executable, "-c", script, str(Path(folder) / name)]
            result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        finally:
            closed.chmod(0o700)
            inner.chmod(0o700)
        where = inner if name == "both" else Path(folder) / name
    assert result.stderr == ""
    assert result.stdout == f"{where}|cannot be read: permission denied|check the path and its permissions\n" * 2


@pytest.mark.parametrize("state", [{}, {"_data_files": [{"filename": "gone.arrow"}]}, {"_data_files": 3}])
def test_a_saved_folder_without_its_data_is_a_data_error_before_anything_is_read(tmp_path, state):
    (tmp_path / "state.json").write_text(json.dumps(state))
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(DataError, match=r"no such file|not a readable datasets file"):
        source_files(tmp_path)
    with pytest.raises(DataError, match="not a readable datasets file"):
        read(tmp_path, "text")
