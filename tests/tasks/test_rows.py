"""Rows come back as they were written; a file that was edited is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.errors import DataError
from mlxdistill.tasks.rows import Row, count_rows, iter_rows, read_rows, write_rows

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
WHOLE = {"id": "b", "text": "text", "fields": None, "gold": None, "meta": {}}


@given(rows=st.lists(st.builds(Row, TEXT, TEXT, st.none() | TEXT, st.dictionaries(TEXT, TEXT, max_size=2)), max_size=3))
def test_rows_come_back_as_they_went(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(path, rows)
    assert read_rows(path) == rows
    assert count_rows(path) == len(rows)


def test_rows_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(WHOLE) + "\nbroken\n", "utf-8")
    rows = iter_rows(path)
    assert next(rows) == Row("b", "text")
    with pytest.raises(DataError, match=r"rows\.jsonl:2"):
        next(rows)


@pytest.mark.parametrize(
    "record",
    [{}, [], "text", {**WHOLE, "id": 1}, {**WHOLE, "text": None}, {**WHOLE, "gold": 1}, {**WHOLE, "meta": []}],
    ids=repr,
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, record: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(WHOLE)}\n{json.dumps(record)}\n")
    with pytest.raises(DataError, match="not a row") as caught:
        read_rows(path)
    assert caught.value.where == f"{path}:2"
    assert caught.value.hint
