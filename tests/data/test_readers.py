import json
from pathlib import Path

import pytest

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
        BadLine(9, "a quote is never closed; what follows is lost, to line 10"),
    ]


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
