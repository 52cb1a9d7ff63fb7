"""What a careless user gives: each mistake one line with its place and its mend, and what only looks wrong works."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlx_lm import fuse
from tiny_students import LABELS, PROMPT, Reporter, make_model, train_here, train_request, write_rows

from mlxdistill.errors import DataError, ModelError
from mlxdistill.student.child import open_predictor
from mlxdistill.student.requests import PredictQuestion, PredictRequest

ModelFolder = Callable[[str], Path]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.mark.parametrize(("train_rows", "valid_rows"), [(3, 10), (1, 1)])
def test_fewer_rows_than_a_batch_holds_are_learned(
    model_folder: ModelFolder, tmp_path: Path, train_rows: int, valid_rows: int
) -> None:
    write_rows(tmp_path / "data" / "train.jsonl", train_rows)
    write_rows(tmp_path / "data" / "valid.jsonl", valid_rows, seed=1)
    result, reporter = train_here(train_request(model_folder("llama"), tmp_path, train={"learning_rate": 3e-3}))
    assert result.steps == 2
    assert reporter.sent[0].rows == train_rows
    assert [event.step for event in result.history] == [1, 2]
    assert result.history[1].loss < result.history[0].loss


def predicted(model: Path, adapter: Path, texts: list[str], max_tokens: int = 128) -> list[Any]:
    reporter: Any = Reporter()
    answer = open_predictor(PredictRequest(str(model), adapter, None, LABELS, PROMPT, max_tokens), reporter)
    answer(PredictQuestion(tuple((str(number), text) for number, text in enumerate(texts))), reporter)
    return [answer for wave in reporter.sent for answer in wave]


def test_a_label_that_no_row_teaches_is_said_and_keeps_its_probability(model_folder: ModelFolder, work: Path) -> None:
    train = work / "data" / "train.jsonl"
    write(train, [row for row in rows_of(train) if row["label"] != "unsure"])
    settings = {"epochs": 1, "class_balance": True}
    result, reporter = train_here(train_request(model_folder("llama"), work, train=settings))
    assert reporter.notes == ["no row teaches the label 'unsure': the student will hardly give it"]
    assert result.best_valid_loss is not None
    (answer,) = predicted(model_folder("llama"), work / "adapters", ["the parcel never came"])
    assert len(answer.probabilities) == len(LABELS)
    assert sum(answer.probabilities) == pytest.approx(1)


def test_rows_are_cut_to_what_the_model_was_made_for(model_folder: ModelFolder, work: Path) -> None:
    """Also where `student.max_tokens` allows more; in training and in prediction alike."""
    model = work / "model"
    shutil.copytree(model_folder("llama"), model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 40}))
    result, reporter = train_here(train_request(model, work, train={"epochs": 1}))
    assert 0 < result.truncated < 40
    assert f"{result.truncated} rows lost the end of their text (the model was made for no more than 40 tokens)" in (
        reporter.notes
    )
    assert reporter.sent[0].longest_row <= 40
    answers = predicted(model, work / "adapters", ["please " * 100, "thanks"])
    assert [answer.outcome for answer in answers] == ["truncated", "answered"]


EXAMPLE = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "bad"}], "label": "bad"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"messages": [', "not valid JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"prompt": "private words", "completion": ""}', "not an answer"),
        ('{"prompt": "private words", "completion": " \\n"}', "not an answer"),
        ('{"prompt": "private words", "completion": null}', "without text `content`"),
        ('{"prompt": "private words"}', "no conversation"),
        ('{"prompt": "cut \\ud83d", "completion": "bad"}', "half of a character"),
        (json.dumps({**EXAMPLE, "label": "worst"}), "'worst', which is no label of the task"),
        (json.dumps({**EXAMPLE, "probabilities": [0.5, float("nan"), 0.2, 0.3]}), "do not sum to 1"),
        (json.dumps({**EXAMPLE, "probabilities": [0.5, 0.5, 0.5, -0.5]}), "do not sum to 1"),
        (json.dumps({**EXAMPLE, "probabilities": [0.5, 0.5]}), "does not fit the labels"),
        (json.dumps({**EXAMPLE, "probabilities": "0.5"}), "does not fit the labels"),
    ],
)
@pytest.mark.parametrize("file", ["train", "valid"])
def test_a_bad_line_is_named_without_its_text(
    model_folder: ModelFolder, work: Path, file: str, line: str, message: str
) -> None:
    path = work / "data" / f"{file}.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], line, *lines[4:]]) + "\n")
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        train_here(train_request(model_folder("llama"), work))
    assert caught.value.where == f"{path}:5"
    assert caught.value.hint
    assert "private" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("file", "content", "message", "hint"),
    [
        ("train", b"", "no rows", "a row is"),
        ("train", b"\n \n", "no rows", "a row is"),
        ("valid", b"", "no rows", "remove it"),
        ("train", b'{"text": "caf\xe9"}\n', "not UTF-8", "save the file as UTF-8"),
        ("train", None, "no such file", "a data folder holds train.jsonl and valid.jsonl"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    model_folder: ModelFolder, work: Path, file: str, content: bytes | None, message: str, hint: str
) -> None:
    path = work / "data" / f"{file}.jsonl"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        train_here(train_request(model_folder("llama"), work))
    assert caught.value.where == str(path)
    assert hint in (caught.value.hint or "")


def test_a_base_that_was_fused_is_a_base_like_any_other(
    model_folder: ModelFolder, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained, fused by mlx-lm, and trained on: the loss starts where it was."""
    train = {"epochs": 2, "learning_rate": 3e-3}
    first, _ = train_here(train_request(model_folder("llama"), work, train=train))
    options = ["--model", model_folder("llama"), "--adapter-path", work / "adapters", "--save-path", work / "fused"]
    monkeypatch.setattr(sys, "argv", ["fuse", *map(str, options)])
    fuse.main()
    again = train_request(work / "fused", work, train={**train, "epochs": 1, "learning_rate": 1e-6})
    second, reporter = train_here(again)
    assert "anew" in reporter.notes[0]
    assert second.best_valid_loss == pytest.approx(first.best_valid_loss, rel=1e-3)


def test_an_adapter_is_no_base_and_another_models_adapter_is_refused(model_folder: ModelFolder, work: Path) -> None:
    train_here(train_request(model_folder("llama"), work, train={"epochs": 1}))
    with pytest.raises(ModelError, match="an adapter, not a whole model") as caught:
        train_here(train_request(work / "adapters", work))
    assert "name the model it was trained on" in (caught.value.hint or "")
    with pytest.raises(ModelError, match="does not fit this model") as caught:
        predicted(make_model(work / "small", layers=1), work / "adapters", ["text"])
    assert caught.value.where == str(work / "adapters")
    assert "model it was trained on" in (caught.value.hint or "")
