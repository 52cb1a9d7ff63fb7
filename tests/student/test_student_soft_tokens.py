"""A teacher's log-probabilities as targets: whose tokenizer, which tokens, how much of what, and the loss they make."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_students import CORPUS, LABELS, PROMPT, train_here, train_request

from mlxdistill.errors import DataError, ModelError
from mlxdistill.student.base import load_base, load_guarded_tokenizer
from mlxdistill.student.batches import Batch
from mlxdistill.student.child import _check_vocabulary
from mlxdistill.student.encoding import EncodedRow, RowEncoder, read_encoded, reading_notes
from mlxdistill.student.soft_tokens import GivenLogprobs, SoftTokens, soft_tokens
from mlxdistill.student.targets import TargetBuilder, TargetSettings
from mlxdistill.student.tokenizer import GuardedTokenizer
from mlxdistill.tasks.token_logprobs import PROBES, tokenizer_marks
from mlxdistill.teacher.sampling import likeliest

END, VOCABULARY = 99, 100


@pytest.fixture(scope="module")
def tokenizer(model_folder: Callable[[str], Path]) -> GuardedTokenizer:
    return load_guarded_tokenizer(model_folder("llama"), "tiny")


def marks_of(tokenizer: GuardedTokenizer) -> list[str]:
    return list(tokenizer_marks(tokenizer.encode_inside_text))


def record(own: GuardedTokenizer, text: str, answer: str, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A row with the log-probabilities of a teacher that thinks at random, of the answer's own tokens among others."""
    chance = np.random.default_rng(seed)
    tokens = own.encode_answer(own.frame(("user", "assistant")), answer)
    top = []
    for token in tokens:
        logits = chance.normal(0, 2, own.size).astype(np.float32)
        logits[token] = 8
        ids, logprobs = likeliest(logits, 5)
        top.append([[int(each), float(value)] for each, value in zip(ids, logprobs, strict=True)])
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    logprobs = {"tokenizer": marks_of(own), "tokens": tokens, "top": top, **changes}
    return {"messages": messages, "id": f"row{seed}", "logprobs": logprobs}


def plain(tokenizer: GuardedTokenizer, **settings: Any) -> RowEncoder:
    return RowEncoder(tokenizer, labels=(), prompt=None, max_tokens=128, **settings)


@st.composite
def opinions(draw: st.DrawFn) -> GivenLogprobs:
    count, width = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    numbers = st.lists(st.integers(0, VOCABULARY + 9), min_size=width, max_size=width, unique=True)
    ids = np.array([draw(numbers) for _ in range(count)], np.int32)
    shares = np.array([[draw(st.floats(0.01, 1)) for _ in range(width)] for _ in range(count)])
    shares *= np.array([[draw(st.floats(0.1, 1))] for _ in range(count)]) / shares.sum(axis=1, keepdims=True)
    return GivenLogprobs((), tuple(draw(st.integers(0, 98)) for _ in range(count)), ids, np.log(shares))


@given(opinions())
def test_the_likeliest_are_made_to_sum_to_one_and_others_teach_the_written_token(given_: GivenLogprobs) -> None:
    soft = soft_tokens(given_, END, VOCABULARY)
    held = []
    for place, written in enumerate((*given_.tokens, END)):
        found: dict[int, float] = {}
        for token, share in zip(soft.ids[place].tolist(), soft.probabilities[place].tolist(), strict=True):
            found[token] = found.get(token, 0.0) + share
        expected = {written: 1.0}
        if place < len(given_.tokens):
            pairs = zip(given_.ids[place].tolist(), np.exp(given_.logprobs[place]).tolist(), strict=True)
            known = {token: share for token, share in pairs if token < VOCABULARY}
            if written in known:
                expected = {token: share / sum(known.values()) for token, share in known.items()}
                held.append(sum(known.values()))
        assert sum(found.values()) == pytest.approx(1, abs=1e-6)
        assert {token: share for token, share in found.items() if share} == pytest.approx(expected, abs=1e-6)
    assert soft.held == pytest.approx(np.mean(held) if held else 1.0)


@given(opinions(), st.floats(0, 1), st.sampled_from([0.5, 1.0, 2.0]))
def test_targets_mix_the_teachers_distribution_with_the_written_token(
    given_: GivenLogprobs, weight: float, temperature: float
) -> None:
    soft = soft_tokens(given_, END, VOCABULARY)
    answer = (*given_.tokens, END)
    row = EncodedRow("r", (7, 7, *answer), 2, soft=soft, weight=0.5)
    plain_row = EncodedRow("p", (7, 8, 9), 2)
    made = TargetBuilder(None, TargetSettings(weight, temperature)).build([plain_row, row], Batch((0, 1), 16))
    assert made.tokens.shape[1] == 8
    assert made.weights[: 1 + len(answer)].tolist() == [1.0] + [0.5] * len(answer)
    assert made.tokens[0, made.target[0] > 0].tolist() == [9]
    for place, written in enumerate(answer):
        powered = soft.probabilities[place].astype(np.float64) ** (1 / temperature)
        expected = {written: 1 - weight}
        for token, share in zip(soft.ids[place].tolist(), (powered / powered.sum()).tolist(), strict=True):
            expected[token] = expected.get(token, 0.0) + weight * share
        found: dict[int, float] = {}
        for token, share in zip(made.tokens[1 + place].tolist(), made.target[1 + place].tolist(), strict=True):
            found[token] = found.get(token, 0.0) + share
        assert {token: share for token, share in found.items() if share > 1e-7} == pytest.approx(
            {token: share for token, share in expected.items() if share > 1e-7}, abs=1e-6
        )
        assert made.tokens[1 + place, made.hard[1 + place]] == written


def test_rows_without_soft_targets_are_as_wide_as_ever(tokenizer: GuardedTokenizer) -> None:
    rows = [EncodedRow("p", (7, 8, 9), 2)]
    made = TargetBuilder(None, TargetSettings(0.5, 1.0)).build(rows, Batch((0,), 16))
    assert made.tokens.shape == (16, 1)


def write(folder: Path, records: list[dict[str, Any]], valid: list[dict[str, Any]]) -> Path:
    (folder / "data").mkdir(exist_ok=True)
    for name, lines in (("train", records), ("valid", valid)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "data" / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def some_records(tokenizer: GuardedTokenizer, count: int) -> list[dict[str, Any]]:
    answers = [line.split(".")[0][:25] for line in CORPUS]
    return [record(tokenizer, CORPUS[n % 5][: 9 + n], answers[n % 5], n) for n in range(count)]


def numpy_loss(base: Any, tokenizer: GuardedTokenizer, records: list[dict[str, Any]], soft: float) -> float:
    """From the records themselves: dense distributions, a plain log-softmax, row by row, weighed by their `weight`."""
    import mlx.core as mx

    frame = tokenizer.frame(("user", "assistant"))
    total = weights = 0.0
    for each in records:
        answer = [*tokenizer.encode_answer(frame, each["messages"][1]["content"]), frame.end_of_turn]
        (tokens, *_) = [plain(tokenizer, soft=False).encode(each, "f:1").tokens]
        logits = np.array(base.model(mx.array([tokens[:-1]]))[0].astype(mx.float32), np.float64)
        for place, written in enumerate(answer):
            row = logits[len(tokens) - len(answer) + place - 1]
            logarithms = row - np.log(np.exp(row - row.max()).sum()) - row.max()
            target = np.zeros(len(row))
            pairs = each["logprobs"]["top"][place] if place < len(answer) - 1 else [[written, 0.0]]
            mass = sum(math.exp(value) for _, value in pairs)
            for token, value in pairs:
                target[token] += soft * math.exp(value) / mass
            target[written] += 1 - soft
            total -= each.get("weight", 1.0) * float(target @ logarithms)
            weights += each.get("weight", 1.0)
    return total / weights


@pytest.mark.parametrize("soft", [0.0, 0.5, 1.0])
def test_the_loss_is_that_of_dense_distributions(
    tmp_path: Path, model_folder: Callable[[str], Path], tokenizer: GuardedTokenizer, soft: float
) -> None:
    records = some_records(tokenizer, 6)
    records[1]["weight"], records[4]["weight"] = 3, 0.25
    folder = model_folder("llama")
    work = write(tmp_path, records, records)
    request = train_request(folder, work, labels=(), prompt=None, train={"soft_weight": soft, "epochs": 1})
    result, reporter = train_here(request)
    base = load_base(str(folder))
    expected = numpy_loss(base, tokenizer, records, soft)
    assert result.history[0].loss == pytest.approx(expected, rel=1e-4)  # the first step's: six rows are one batch
    assert any("5 likeliest, which hold" in note for note in reporter.notes) == (soft > 0)


def test_a_teacher_with_another_tokenizer_is_refused_by_the_probe_that_differs(tokenizer: GuardedTokenizer) -> None:
    marks = marks_of(tokenizer)
    marks[3] = "00000000"
    row = record(tokenizer, "secret text", "secret answer", tokenizer=marks)
    with pytest.raises(DataError, match=f"probe text 4 of {len(PROBES)}") as caught:
        plain(tokenizer).encode(row, "train.jsonl:7")
    assert caught.value.where == "train.jsonl:7"
    assert "secret" not in str(caught.value) + str(caught.value.hint)
    assert plain(tokenizer, soft=False).encode(row, "f:1").soft is None
    with pytest.raises(DataError, match="marks of 2 probe texts"):
        plain(tokenizer).encode(record(tokenizer, "a", "ok", tokenizer=marks[:2]), "f:1")


def test_an_answer_that_reads_as_other_tokens_is_learned_as_it_is_written(
    tmp_path: Path, tokenizer: GuardedTokenizer
) -> None:
    same, other = record(tokenizer, "one", "not sure"), record(tokenizer, "two", "not sure")
    other["logprobs"]["tokens"] = [*other["logprobs"]["tokens"][:-1], 5]
    write(tmp_path, [same, other], [])
    rows = read_encoded(tmp_path / "data" / "train.jsonl", plain(tokenizer))
    assert [row.soft is None for row in rows] == [False, True]
    notes = list(reading_notes(rows, 0))
    assert notes[0].startswith("1 answers are learned with the teacher's probabilities")
    assert notes[1].startswith("1 answers read as other tokens")
    assert len(notes) == 2


GOOD = [[1, -0.5], [2, -2.0]]


@pytest.mark.parametrize(
    "logprobs",
    [
        [],
        {"tokens": [1], "top": [GOOD]},
        {"tokenizer": "ab", "tokens": [1], "top": [GOOD]},
        {"tokenizer": [3], "tokens": [1], "top": [GOOD]},
        {"tokenizer": ["a"], "tokens": [1, 2], "top": [GOOD]},
        {"tokenizer": ["a"], "tokens": [], "top": []},
        {"tokenizer": ["a"], "tokens": ["1"], "top": [GOOD]},
        {"tokenizer": ["a"], "tokens": [-1], "top": [GOOD]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[]]},
        {"tokenizer": ["a"], "tokens": [1], "top": [3]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[[1, -0.5, 2]]]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[[1.5, -0.5]]]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[[-1, -0.5]]]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[[2**40, -0.5]]]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[["x", -0.5]]]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[[1, None]]]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[[1, math.nan]]]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[[1, math.inf]]]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[[1, -math.inf]]]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[[1, 10**400]]]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[[1, 0.9], [2, 0.1]]]},
        {"tokenizer": ["a"], "tokens": [1], "top": [[[1, -0.1], [2, -0.1]]]},
    ],
)
def test_logprobs_of_another_form_are_an_error_with_the_line(tokenizer: GuardedTokenizer, logprobs: Any) -> None:
    row = {"prompt": "a", "completion": "secret", "logprobs": logprobs}
    with pytest.raises(DataError, match="logprobs") as caught:
        plain(tokenizer).encode(row, "train.jsonl:3")
    assert caught.value.where == "train.jsonl:3"
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_lists_of_unlike_length_are_read(tokenizer: GuardedTokenizer) -> None:
    row = record(tokenizer, "a", "not sure")
    row["logprobs"]["top"][0] = row["logprobs"]["top"][0][:1]
    soft = plain(tokenizer).encode(row, "f:1").soft
    assert isinstance(soft, SoftTokens)
    assert soft.probabilities[0].tolist() == [1, 0, 0, 0, 0]
    assert soft.probabilities.sum(axis=1) == pytest.approx(1)


def test_an_example_of_a_label_or_a_document_has_no_use_for_logprobs(tokenizer: GuardedTokenizer) -> None:
    encoder = RowEncoder(tokenizer, labels=LABELS, prompt=PROMPT, max_tokens=128)
    row = record(tokenizer, "a", "ok")
    with pytest.raises(DataError, match="learns class probabilities"):
        encoder.encode({**row, "label": "ok"}, "f:1")
    with pytest.raises(DataError, match="`text` has no answer"):
        plain(tokenizer).encode({"text": "a b c", "logprobs": row["logprobs"]}, "f:1")


def test_likely_tokens_that_the_model_does_not_know_are_refused(
    model_folder: Callable[[str], Path], tokenizer: GuardedTokenizer
) -> None:
    row = record(tokenizer, "a", "ok")
    row["logprobs"]["top"][0][-1][0] = tokenizer.size - 1
    encoded = plain(tokenizer).encode(row, "f:1")
    base = replace(load_base(str(model_folder("llama"))), config={"vocab_size": tokenizer.size - 1})
    with pytest.raises(ModelError, match=f"writes token {tokenizer.size - 1}"):
        _check_vocabulary([encoded], base)
    row["logprobs"]["top"][0][-1][0] = tokenizer.size  # a filler of the teacher's: nothing that is written
    _check_vocabulary([plain(tokenizer).encode(row, "f:1")], base)
