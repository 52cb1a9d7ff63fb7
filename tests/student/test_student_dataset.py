"""Which labels the training files carry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.errors import DataError
from mlxdistill.student.dataset import write_training_files
from mlxdistill.tasks.classification import ClassificationTask, Label, Prompt
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row

TASK = ClassificationTask("Which?", (Label("a", "", "yes"), Label("b", "", "no")))
PROMPT = Prompt("Text: ", "")


def written(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def test_training_rows_are_mlx_lm_chats_of_the_teachers_label(tmp_path: Path) -> None:
    rows = [Row("1", "one", gold="b")]
    answers = {"1": Answer("1", "a", (0.9, 0.1))}
    assert write_training_files(tmp_path, TASK, PROMPT, rows, rows, answers) == (1, 1, 0)
    assert written(tmp_path, "train.jsonl") == [
        {
            "messages": [{"role": "user", "content": "Text: one"}, {"role": "assistant", "content": "yes"}],
            "id": "1",
            "label": "a",
            "probabilities": [0.9, 0.1],
        }
    ]


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        (Answer("1", "a", (0.9, 0.1)), "b", ("a", [0.9, 0.1])),  # a whole opinion says more than one label
        (Answer("1", "a"), "b", ("b", None)),
        (Answer("1", None, outcome="unparsable"), "b", ("b", None)),
        (None, "b", ("b", None)),
        (Answer("1", "a"), None, ("a", None)),
    ],
)
def test_what_a_validation_row_carries(
    tmp_path: Path, answer: Answer | None, gold: str | None, expected: tuple[str, list[float] | None]
) -> None:
    answers = {"0": Answer("0", "a")} | ({} if answer is None else {"1": answer})
    write_training_files(tmp_path, TASK, PROMPT, [Row("0", "zero")], [Row("1", "one", gold=gold)], answers)
    (row,) = written(tmp_path, "valid.jsonl")
    assert (row["label"], row["probabilities"]) == expected


def test_validation_rows_that_nobody_labelled_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no validation row has a label"):
        write_training_files(tmp_path, TASK, PROMPT, [Row("0", "zero")], [Row("1", "one")], {"0": Answer("0", "a")})
