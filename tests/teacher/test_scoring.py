"""Scores in waves equal the scores of one sequence at a time, whatever shares a wave."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from mlxdistill.errors import ModelError
from mlxdistill.tasks.protocols import Answer
from mlxdistill.teacher import scoring, tokens
from mlxdistill.teacher.engine import Model
from mlxdistill.teacher.lanes import Layout, Limits
from mlxdistill.teacher.prompts import LabelPrompt
from mlxdistill.teacher.scoring import Scorer
from mlxdistill.teacher.tokens import plain_tokens, template_tokens

BEFORE, HEAD = "<|im_start|>user\n", "Say which label fits.\n\nText:\n"
TAIL, AFTER = "\n\nAnswer with one label only.", "<|im_end|>\n<|im_start|>assistant\n"
WORDS = ["card", "payment", "lost", "the", "user", "arrival", "okay", "toxic", "a", "of", "why?", "ümlaut", "🙂"]


def prompt_for(verbalizers: list[str]) -> LabelPrompt:
    names = tuple(f"label {number}" for number in range(len(verbalizers)))
    return LabelPrompt(BEFORE, HEAD, TAIL, AFTER, names, tuple(verbalizers))


def some_rows(count: int, most_words: int = 25, seed: int = 0) -> list[tuple[str, str]]:
    chance = random.Random(seed)
    return [
        (f"row-{number}", " ".join(chance.choices(WORDS, k=chance.randint(1, most_words)))) for number in range(count)
    ]


def scored(model: Model, prompt: LabelPrompt, rows: list[tuple[str, str]], limits: Limits) -> dict[str, Answer]:
    with Scorer(model, {0: prompt}, limits) as scorer:
        return {answer.row_id: answer for wave in scorer.score(rows) for answer in wave.answers}


LIMITS = Limits(n_ctx=512, n_batch=256, n_seq=16, threads=1)


class Reference:
    """One sequence at a time, through the bindings' own class and its full logits."""

    def __init__(self, path: Path) -> None:
        import llama_cpp

        self.llama = llama_cpp.Llama(
            str(path), n_ctx=512, n_batch=512, logits_all=True, verbose=False, n_threads=1, n_threads_batch=1
        )

    def probabilities(self, model: Model, prompt: LabelPrompt, text: str) -> np.ndarray:
        context = template_tokens(model, prompt.before) + plain_tokens(
            model, prompt.head, follows_text=bool(prompt.before)
        )
        context += plain_tokens(model, text)
        context += plain_tokens(model, prompt.tail) + template_tokens(model, prompt.after, follows_text=True)
        if model.bos is not None:
            context = [model.bos, *context]
        spaced = prompt.after[-1:].isspace()
        paths = [plain_tokens(model, verbalizer, follows_text=spaced) for verbalizer in prompt.verbalizers]
        scores = []
        for path in paths:
            if any(other != path and other[: len(path)] == path for other in paths):
                path = [*path, model.end_of_turn]
            self.llama.reset()
            self.llama.eval(context + path)
            logits = np.array(self.llama.scores[len(context) - 1 : len(context) + len(path) - 1], np.float64)
            steps = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            scores.append(sum(steps[place, token] for place, token in enumerate(path)))
        weights = np.exp(np.array(scores) - max(scores))
        return weights / weights.sum()


@pytest.fixture(scope="module")
def reference(tiny_gguf: Path) -> Iterator[Reference]:
    made = Reference(tiny_gguf)
    yield made
    made.llama.close()


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    """The tolerance that llama.cpp itself keeps between shapes of batches."""
    difference = np.abs(np.log(found) - np.log(expected))
    assert np.median(difference) < 1e-3
    assert difference.max() < 0.05
    ordered = np.sort(expected, axis=-1)
    clear = ordered[:, -1] - ordered[:, -2] > 0.05
    assert clear.any()
    assert (found.argmax(-1) == expected.argmax(-1))[clear].all()


@pytest.mark.parametrize(
    "verbalizers",
    [
        ["o", "t"],
        ["ok", "toxic"],
        ["toxic", "toxic?", "ok", "ok ok", "ok ok ok"],
        ["card", "card lost", "card lost by user", "card arrival", "payment"],
        ["a", "ab", "abc", "abcd", "abd", "b c d", "b c e", "b"],
    ],
    ids=len,
)
def test_scores_equal_those_of_one_sequence(tiny_model: Model, reference: Reference, verbalizers: list[str]) -> None:
    prompt = prompt_for(verbalizers)
    rows = some_rows(8)
    found = scored(tiny_model, prompt, rows, LIMITS)
    expected = [reference.probabilities(tiny_model, prompt, text) for _, text in rows]
    assert_same(np.array([found[row_id].probabilities for row_id, _ in rows]), np.array(expected))


def test_a_hundred_and_fifty_labels(tiny_model: Model, reference: Reference) -> None:
    chance = random.Random(5)
    verbalizers = sorted({" ".join(chance.choices(["card", "ok", "lost", "text"], k=1 + i % 4)) for i in range(800)})[
        :150
    ]
    assert len(verbalizers) == 150
    prompt = prompt_for(verbalizers)
    rows = some_rows(3)
    found = scored(tiny_model, prompt, rows, LIMITS)
    expected = reference.probabilities(tiny_model, prompt, rows[1][1])
    assert_same(np.array([found["row-1"].probabilities]), np.array([expected]))


@pytest.mark.parametrize(
    "verbalizers", [["ok", "toxic"], ["card", "card lost", "card lost by user", "payment a"]], ids=len
)
def test_stories260k(stories_model: Model, stories_gguf: Path, verbalizers: list[str]) -> None:
    prompt = LabelPrompt(
        "", "Once upon a time", ". It was", " very", ("a", "b", "c", "d")[: len(verbalizers)], tuple(verbalizers)
    )
    rows = some_rows(6)
    found = scored(stories_model, prompt, rows, LIMITS)
    reference = Reference(stories_gguf)
    expected = np.array([reference.probabilities(stories_model, prompt, text) for _, text in rows])
    reference.llama.close()
    assert_same(np.array([found[row_id].probabilities for row_id, _ in rows]), expected)


def test_any_order_and_size_of_waves_gives_the_same_scores(tiny_model: Model) -> None:
    prompt = prompt_for(["card", "card lost", "ok", "toxic a"])
    rows = [*some_rows(30), ("empty", ""), ("one token", "a"), ("long", "card lost " * 150)]
    expected = scored(tiny_model, prompt, rows, LIMITS)
    for n_batch, n_seq in ((32, 32), (64, 3), (512, 255), (256, 1)):
        shuffled = random.Random(n_seq).sample(rows, len(rows))
        found = scored(tiny_model, prompt, shuffled, Limits(512, n_batch, n_seq, 1))
        assert found.keys() == expected.keys()
        assert_same(
            np.array([found[row_id].probabilities for row_id, _ in rows]),
            np.array([expected[row_id].probabilities for row_id, _ in rows]),
        )


def test_labels_that_need_more_sequences_than_there_are(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = prompt_for([f"{first} {second} {third}" for first in "abc" for second in "de" for third in "fg"])
    rows = some_rows(5)
    expected = scored(tiny_model, prompt, rows, LIMITS)
    monkeypatch.setattr(scoring, "MOST_SEQUENCES", 3)
    found = scored(tiny_model, prompt, rows, LIMITS)
    assert_same(
        np.array([found[row_id].probabilities for row_id, _ in rows]),
        np.array([expected[row_id].probabilities for row_id, _ in rows]),
    )


def test_one_decode_a_wave(tiny_model: Model) -> None:
    rows = some_rows(64, most_words=4)
    for verbalizers in (["ok", "toxic"], ["card lost", "card arrival", "ok ok ok"]):
        with Scorer(tiny_model, {0: prompt_for(verbalizers)}, LIMITS) as scorer:
            before = scorer.engine.decodes
            waves = list(scorer.score(rows))
            assert scorer.engine.decodes - before == len(waves)
            assert max(len(wave.answers) for wave in waves) > 1


def test_truncation_takes_the_end_of_the_text_only(tiny_model: Model) -> None:
    prompt = prompt_for(["ok", "toxic"])
    with Scorer(tiny_model, {0: prompt}, LIMITS) as scorer:
        room = scorer._longest
        words = "a" + " a" * (room - 1)
        assert len(plain_tokens(tiny_model, words)) == room
        rows = [("fits", words), ("longer", words + " toxic" * 5000), ("shorter", words[:-2])]
        answers = {answer.row_id: answer for wave in scorer.score(rows) for answer in wave.answers}
    assert [answers[name].outcome for name in ("fits", "longer", "shorter")] == ["answered", "truncated", "answered"]
    assert answers["longer"].probabilities == answers["fits"].probabilities
    assert answers["shorter"].probabilities != answers["fits"].probabilities


def test_a_text_of_many_characters_and_few_tokens_is_not_truncated(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "CHARACTERS_PER_TOKEN", 1)
    with Scorer(tiny_model, {0: prompt_for(["ok", "toxic"])}, LIMITS) as scorer:
        text = "payment" * scorer._longest
        assert len(plain_tokens(tiny_model, text)) == scorer._longest
        (wave,) = scorer.score([("row", text)])
    assert wave.answers[0].outcome == "answered"


def test_resuming_repeats_the_same_waves(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CHUNK_ROWS", 16)
    rows = some_rows(60)
    with Scorer(tiny_model, {0: prompt_for(["ok", "card lost", "card"])}, LIMITS) as scorer:
        waves = list(scorer.score(rows))
        uninterrupted = [answer for wave in waves for answer in wave.answers]
        assert {answer.row_id for answer in uninterrupted} == {row_id for row_id, _ in rows}
        assert waves[-1].finished == len(rows)
        for kept in (1, 7, len(rows) - 1):
            done = frozenset((answer.row_id, 0) for answer in uninterrupted[:kept])
            rest = [answer for wave in scorer.score(rows, done) for answer in wave.answers]
            without_time = [(answer.row_id, answer.probabilities) for answer in rest]
            assert without_time == [(answer.row_id, answer.probabilities) for answer in uninterrupted[kept:]]
        decodes = scorer.engine.decodes
        assert not list(scorer.score(rows, frozenset((row_id, 0) for row_id, _ in rows)))
        assert scorer.engine.decodes == decodes


def test_a_wave_that_finds_no_slot_is_retried_in_halves(tiny_model: Model) -> None:
    rows = some_rows(12, most_words=20)
    prompt = prompt_for(["ok", "card lost", "card"])
    expected = scored(tiny_model, prompt, rows, LIMITS)
    with Scorer(tiny_model, {0: prompt}, LIMITS) as scorer:
        scorer._lane(0).most_tokens = 10_000
        waves = list(scorer.score(rows))
        assert len(waves) == 1
        assert scorer.engine.decodes > 2
    found = {answer.row_id: answer for answer in waves[0].answers}
    assert_same(
        np.array([found[row_id].probabilities for row_id, _ in rows]),
        np.array([expected[row_id].probabilities for row_id, _ in rows]),
    )


def test_a_row_that_never_finds_a_slot_is_named(tiny_model: Model) -> None:
    with Scorer(tiny_model, {0: prompt_for(["ok", "toxic"])}, LIMITS) as scorer:
        scorer._longest = 2000
        with pytest.raises(ModelError, match="row long: the context has no room") as raised:
            list(scorer.score([("long", "card " * 900)]))
    assert "card card" not in str(raised.value)


@pytest.mark.parametrize("verbalizers", [["ok", "toxic"], ["ok", "ok ok"]], ids=repr)
def test_a_split_memory_gives_the_same_scores(tiny_model: Model, verbalizers: list[str]) -> None:
    rows = [*some_rows(40), ("too long for a share", "card lost " * 140), ("empty", "")]
    found, expected = {}, {}
    for kv, answers in (("split", found), ("unified", expected)):
        with Scorer(tiny_model, {0: prompt_for(verbalizers)}, replace(LIMITS, kv=cast(Layout, kv))) as scorer:
            assert scorer.limits.kv == kv
            for _ in range(2):  # what one row leaves in its share must not reach the next
                answers |= {answer.row_id: answer for wave in scorer.score(rows) for answer in wave.answers}
            assert len(scorer._lanes) == (2 if kv == "split" else 1)
    assert_same(
        np.array([found[row_id].probabilities for row_id, _ in rows]),
        np.array([expected[row_id].probabilities for row_id, _ in rows]),
    )


def test_labels_that_branch_after_a_shared_beginning_are_not_split(tiny_model: Model) -> None:
    limits = replace(LIMITS, kv="split")
    with Scorer(tiny_model, {0: prompt_for(["card lost", "card text", "ok by"])}, limits) as scorer:
        assert scorer.limits.kv == "unified"


def test_several_prompts_are_answered_apart(tiny_model: Model) -> None:
    first = prompt_for(["ok", "toxic a"])
    prompts = {0: first, 3: replace(first, head="Which of them?\n"), 4: replace(first, tail="\nQuick!")}
    rows = some_rows(20)
    with Scorer(tiny_model, prompts, LIMITS) as scorer:
        answers = [answer for wave in scorer.score(rows) for answer in wave.answers]
        done = frozenset((answer.row_id, answer.sample) for answer in answers if answer.sample != 3)
        again = [answer for wave in scorer.score(rows, done) for answer in wave.answers]
    assert sorted((a.row_id, a.sample) for a in answers) == sorted((row_id, n) for row_id, _ in rows for n in prompts)
    assert [a.probabilities for a in again] == [a.probabilities for a in answers if a.sample == 3]
    for sample, prompt in prompts.items():
        expected = scored(tiny_model, prompt, rows, LIMITS)
        found = {answer.row_id: answer for answer in answers if answer.sample == sample}
        assert_same(
            np.array([found[row_id].probabilities for row_id, _ in rows]),
            np.array([expected[row_id].probabilities for row_id, _ in rows]),
        )


def test_answers_are_distributions_in_the_order_of_the_labels(tiny_model: Model) -> None:
    answer = scored(tiny_model, prompt_for(["ok", "toxic", "a b", "c"]), some_rows(1), LIMITS)["row-0"]
    assert answer.probabilities is not None
    assert sum(answer.probabilities) == pytest.approx(1)
    assert answer.label == f"label {int(np.argmax(answer.probabilities))}"


def test_what_is_not_a_number_is_named_with_its_row(make_gguf: Any) -> None:
    with (
        Model(make_gguf(scale=float("nan"))) as model,
        Scorer(model, {0: prompt_for(["ok", "a b"])}, LIMITS) as scorer,
        pytest.raises(ModelError, match="row row-0: the model's answer is not a number") as raised,
    ):
        list(scorer.score(some_rows(1)))
    assert raised.value.hint


def test_a_prompt_that_leaves_no_room_says_so(tiny_model: Model) -> None:
    prompt = LabelPrompt(BEFORE, HEAD * 40, TAIL, AFTER, ("a", "b"), ("ok", "toxic"))
    with pytest.raises(ModelError, match="leave no room for a text") as raised:
        Scorer(tiny_model, {0: prompt}, LIMITS)
    assert "teacher.n_ctx" in str(raised.value.hint)


def test_a_prompt_without_an_answers_beginning_says_so(tiny_model: Model) -> None:
    with pytest.raises(ModelError, match="marks no beginning of an answer"):
        Scorer(tiny_model, {0: LabelPrompt("", "x", "", "", ("a", "b"), ("ok", "toxic"))}, LIMITS)
