"""Rationales learned beside labels, and rows that count more or less than others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_students import LABELS, PROMPT, train_here, train_request, write_rows

from mlxdistill.errors import DataError
from mlxdistill.student.base import load_guarded_tokenizer
from mlxdistill.student.batches import Batch
from mlxdistill.student.dataset import Rationales, write_training_files
from mlxdistill.student.encoding import RowEncoder, read_encoded, reading_notes
from mlxdistill.student.rationale import Rationale
from mlxdistill.student.targets import TargetBuilder, TargetSettings, label_weights
from mlxdistill.student.tokenizer import GuardedTokenizer
from mlxdistill.tasks.classification import ClassificationTask, Label, rationale_prompt
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row
from mlxdistill.tasks.token_logprobs import TokenLogprobs

TASK = ClassificationTask("Is this a complaint?", tuple(Label(name, "", written) for name, written in LABELS))
ROWS = [Row("1", "the parcel never came"), Row("2", "thank you very much"), Row("3", "how do I change it?")]
ANSWERS = {row.id: Answer(row.id, name) for row, name in zip(ROWS, ("bad", "ok", "unsure"), strict=True)}
WHY = {"1": "It never came, and nobody answers the phone.", "3": "A question."}
ADAPTER = ("adapters", "adapters.safetensors")


@pytest.fixture(scope="module")
def tokenizer(model_folder: Callable[[str], Path]) -> GuardedTokenizer:
    return load_guarded_tokenizer(model_folder("llama"), "tiny")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written(folder: Path, weight: float = 0.5, found: dict[str, Rationale] | None = None) -> list[dict[str, Any]]:
    reasons = {key: Rationale(text) for key, text in WHY.items()} if found is None else found
    learned = Rationales(lambda answer: reasons.get(answer.row_id), weight)
    counts = write_training_files(folder, TASK, PROMPT, ROWS, ROWS, ANSWERS, learned)
    assert counts == (3, 3, len(reasons))
    return lines(folder / "train.jsonl")


def encoder(tokenizer: GuardedTokenizer, max_tokens: int = 128) -> RowEncoder:
    return RowEncoder(tokenizer, labels=LABELS, prompt=PROMPT, max_tokens=max_tokens)


def test_a_rationale_is_a_second_example_of_its_row(tmp_path: Path) -> None:
    found = written(tmp_path)
    assert [(line["id"], line.get("kind")) for line in found] == [
        ("1", None),
        ("1", "rationale"),
        ("2", None),
        ("3", None),
        ("3", "rationale"),
    ]
    asked = rationale_prompt(PROMPT).content("the parcel never came")
    assert found[1] == {
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": WHY["1"]}],
        "id": "1",
        "kind": "rationale",
        "weight": 0.5,
    }
    assert asked.startswith(PROMPT.content("the parcel never came") + "\n")
    bare = tmp_path / "bare"
    write_training_files(bare, TASK, PROMPT, ROWS, ROWS, ANSWERS)
    assert [line for line in found if "kind" not in line] == lines(bare / "train.jsonl")
    assert (tmp_path / "valid.jsonl").read_bytes() == (bare / "valid.jsonl").read_bytes()


def test_what_the_teacher_thought_of_each_token_comes_along(tmp_path: Path) -> None:
    top = [(np.array([3, 1], np.int32), np.array([-0.25, -2.00004], np.float32))]
    kept = TokenLogprobs.pack([1], top, kept=2, tokenizer=["00c0ffee"])
    found = written(tmp_path, found={"2": Rationale('{"rationale": "x", "label": "ok"}', kept)})
    assert found[2]["logprobs"] == {"tokenizer": ["00c0ffee"], "tokens": [1], "top": [[[3, -0.25], [1, -2.0]]]}


def test_without_any_rationale_there_is_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no answer of the rows to learn from has a rationale"):
        written(tmp_path, found={})


def test_a_rationale_counts_as_much_as_a_usual_row_times_its_weight(
    tmp_path: Path, tokenizer: GuardedTokenizer
) -> None:
    written(tmp_path, weight=0.25)
    rows = read_encoded(tmp_path / "train.jsonl", encoder(tokenizer))
    labels = [row for row in rows if not row.is_rationale]
    reasons = [row for row in rows if row.is_rationale]
    usual = sum(row.targets for row in labels) / len(labels)
    assert [row.weight for row in labels] == pytest.approx([1.0] * 3)
    assert [row.weight * row.targets for row in reasons] == pytest.approx([0.25 * usual] * 2)
    assert reasons[0].targets > reasons[1].targets
    assert [(row.label, row.probabilities) for row in reasons] == [(None, None)] * 2
    weights = label_weights(rows, len(LABELS))
    assert weights == label_weights(labels, len(LABELS))
    assert sum(weights[row.label or 0] for row in labels) == pytest.approx(len(labels))


def test_a_step_of_rationales_alone_says_less_than_one_of_labels(tmp_path: Path, tokenizer: GuardedTokenizer) -> None:
    written(tmp_path, weight=0.25)
    rows = read_encoded(tmp_path / "train.jsonl", encoder(tokenizer))
    builder = TargetBuilder(encoder(tokenizer).trie, TargetSettings(0.5, 1.0))

    def say(places: tuple[int, ...]) -> float:
        """The sum of a step's shares of the mean."""
        made = builder.build(rows, Batch(places, 128))
        return float(made.weights.sum()) / builder.weight([rows[place] for place in places])

    assert say((1, 4)) == pytest.approx(0.25 * say((0, 2, 3)))
    assert say((0, 1, 2, 3, 4)) == pytest.approx(1)


def test_both_prompts_of_a_row_begin_alike_and_only_its_text_is_cut(tokenizer: GuardedTokenizer) -> None:
    text = "a card b payment " * 40
    request = rationale_prompt(PROMPT)
    messages = [{"role": "user", "content": request.content(text)}, {"role": "assistant", "content": WHY["1"]}]
    row = encoder(tokenizer, 100).encode({"messages": messages, "kind": "rationale"}, "f:1")
    assert row.truncated
    assert len(row.tokens) == 100
    whole = tokenizer._tokenizer.decode(row.tokens)
    assert f"{request.tail}<|im_end|>\n<|im_start|>assistant\n{WHY['1']}<|im_end|>" in whole
    label, _ = encoder(tokenizer, 100).prompt_tokens("r", text)
    shared = next(place for place, pair in enumerate(zip(label, row.tokens, strict=False)) if len(set(pair)) == 2)
    assert shared > len(tokenizer.encode_inside_text(PROMPT.head))


def test_a_rationale_too_long_for_the_student_is_left_out_and_told(tmp_path: Path, tokenizer: GuardedTokenizer) -> None:
    long = {"1": Rationale("because " * 200), "3": Rationale("A question.")}
    written(tmp_path, found=long)
    small = encoder(tokenizer, 100)
    rows = read_encoded(tmp_path / "train.jsonl", small)
    assert [row.is_rationale for row in rows] == [False, False, False, True]
    assert list(reading_notes(rows, small.left_out)) == [
        "1 rationales are longer than student.max_tokens allows, and are left out"
    ]


def test_a_training_with_rationales_is_chosen_by_labels(work: Path, model_folder: Callable[[str], Path]) -> None:
    path = work / "data" / "train.jsonl"
    rows = lines(path)
    for row in rows[::2]:
        request = rationale_prompt(PROMPT).content("the parcel never came")
        messages = [{"role": "user", "content": request}, {"role": "assistant", "content": "It never came."}]
        rows.append({"messages": messages, "id": row["id"], "kind": "rationale", "weight": 1.0})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    changes: dict[str, Any] = {"train": {"epochs": 2, "validations_per_epoch": 1, "learning_rate": 5e-3}}
    result, _ = train_here(train_request(model_folder("llama"), work, **changes))
    assert result.steps == 2 * -(-45 // 8)
    assert result.history[0].valid_accuracy is not None
    assert result.history[-1].loss is not None
    plain = work / "plain"
    write_rows(plain / "data" / "train.jsonl", 30)
    write_rows(plain / "data" / "valid.jsonl", 10, seed=1)
    without, _ = train_here(train_request(model_folder("llama"), plain, **changes))
    assert without.history[0].valid_loss != result.history[0].valid_loss


def rewrite(folder: Path, weights: list[Any]) -> Path:
    """A copy of the folder's data in which the training rows have these weights; None leaves one without."""
    work = folder / f"weighted-{len(list(folder.iterdir()))}"
    (work / "data").mkdir(parents=True)
    rows = lines(folder / "data" / "train.jsonl")
    for row, weight in zip(rows, weights, strict=True):
        row.update({} if weight is None else {"weight": weight})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (work / "data" / "train.jsonl").write_text(text, encoding="utf-8")
    (work / "data" / "valid.jsonl").write_bytes((folder / "data" / "valid.jsonl").read_bytes())
    return work


def test_weights_of_one_change_nothing_and_rows_of_weight_zero_are_not_there(
    work: Path, model_folder: Callable[[str], Path]
) -> None:
    def trained(folder: Path) -> bytes:
        train_here(train_request(model_folder("llama"), folder, train={"epochs": 1}))
        return folder.joinpath(*ADAPTER).read_bytes()

    assert trained(work) == trained(rewrite(work, [1] * 30))
    half = rewrite(work, [None] * 15 + [0] * 15)
    fewer = rewrite(work, [None] * 30)
    kept = (fewer / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:15]
    (fewer / "data" / "train.jsonl").write_text("".join(kept), encoding="utf-8")
    assert trained(half) == trained(fewer)
    assert trained(half) != trained(rewrite(work, [None] * 15 + [1e-3] * 15))


@pytest.mark.parametrize("weight", [-1, -0.001, float("nan"), float("inf"), "1", True, [1], 1e-30, 1e30, 10**400])
def test_a_weight_that_is_none_is_an_error_with_the_line(work: Path, tokenizer: GuardedTokenizer, weight: Any) -> None:
    path = rewrite(work, [None] * 4 + [weight] + [None] * 25) / "data" / "train.jsonl"
    with pytest.raises(DataError, match="`weight` is no number") as caught:
        read_encoded(path, encoder(tokenizer))
    assert caught.value.where == f"{path}:5"


def test_weights_that_are_all_zero_teach_nothing(work: Path, tokenizer: GuardedTokenizer) -> None:
    path = rewrite(work, [0] * 30) / "data" / "train.jsonl"
    with pytest.raises(DataError, match="every row has `weight` 0") as caught:
        read_encoded(path, encoder(tokenizer))
    assert caught.value.where == str(path)
