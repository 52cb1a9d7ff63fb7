"""What is kept of every token that a teacher writes: the model's own opinion, to the digit, and no more than asked."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.config.models import TeacherConfig
from mlxdistill.store import LabelStore
from mlxdistill.student.base import load_base
from mlxdistill.student.encoding import RowEncoder
from mlxdistill.student.rationale import logprobs_record
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.forms import AnswerForm
from mlxdistill.tasks.protocols import Answer, Progress
from mlxdistill.tasks.rows import Row, content_hash
from mlxdistill.tasks.token_logprobs import LEAST_LOGPROB, PROBES, TokenLogprobs, tokenizer_marks
from mlxdistill.teacher import generation, ranks
from mlxdistill.teacher.drafts import Writer, Writing
from mlxdistill.teacher.engine import Engine, EngineSettings, Model, Token
from mlxdistill.teacher.generating import GeneratingLabeller
from mlxdistill.teacher.generation import Generator
from mlxdistill.teacher.grammar import schema_grammar
from mlxdistill.teacher.label import label_rows
from mlxdistill.teacher.lanes import Limits
from mlxdistill.teacher.prompts import LabelPrompt
from mlxdistill.teacher.sampling import likeliest
from mlxdistill.teacher.tokens import plain_tokens, template_tokens

TASK = ClassificationTask("Which is it?", (Label("fine", "civil", "ok"), Label("bad", "rude", "toxic a")))
BEFORE, HEAD = "<|im_start|>user\n", "Text:\n"
TAIL, AFTER = "\n\nAnswer.", "<|im_end|>\n<|im_start|>assistant\n"
PROMPT = LabelPrompt(BEFORE, HEAD, TAIL, AFTER, TASK.names, TASK.verbalizers)
LIMITS = Limits(n_ctx=512, n_batch=128, n_seq=4, threads=1)
ROWS = [("a", "card lost"), ("b", "why? ümlaut 🙂 payment"), ("c", "the user of the card"), ("d", "ok"), ("e", "lost")]
MARKS = ("0000002a", "ffffffff")


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(generation, "SKIPS_MASKED", False)
    monkeypatch.setattr(generation, "ATTEMPTS", 1)  # a second one is drawn, where the first took the likeliest tokens
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def writing(form: AnswerForm, **settings: Any) -> Writing:
    grammar = schema_grammar(form.schema(TASK.verbalizers, 20)) if form.format == "json" else None
    return Writing(form, grammar, **{"max_tokens": 30, "keep_logprobs": 5, **settings})


def generated(model: Model, how: Writing) -> dict[tuple[str, int], Answer]:
    with Generator(model, PROMPT, TASK, how, LIMITS) as generator:
        answers = [answer for group in generator.generate(ROWS) for answer in group.answers]
    return {(answer.row_id, answer.sample): answer for answer in answers}


def own_logprobs(model: Model, text: str, written: Sequence[int]) -> list[np.ndarray]:
    """Of every token of the vocabulary, before each of those written: one sequence, a plain log-softmax."""
    tokens = template_tokens(model, BEFORE) + plain_tokens(model, HEAD) + plain_tokens(model, text)
    tokens += plain_tokens(model, TAIL) + template_tokens(model, AFTER, follows_text=True)
    first = len(tokens) - 1
    found: list[np.ndarray] = []

    def read(index: int, logits: np.ndarray) -> None:
        exact = logits.astype(np.float64)
        found.append(exact - math.log(np.exp(exact).sum()))

    with Engine(model, EngineSettings(1024, 1024, 1, 1024, 1)) as engine:
        every = [*tokens, *written[:-1]]
        engine.decode([Token(token, place, (0,), wanted=place >= first) for place, token in enumerate(every)], read)
    return found


finite = st.floats(-60, 60, width=32)


@given(st.lists(st.one_of(finite, st.just(-math.inf)), min_size=1, max_size=40), finite, st.integers(1, 45))
def test_the_likeliest_are_those_of_a_full_softmax(values: list[float], largest: float, count: int) -> None:
    logits = np.array([*values, largest], np.float32)
    ids, logprobs = likeliest(logits, count)
    exact = logits.astype(np.float64) - np.logaddexp.reduce(logits.astype(np.float64))
    assert len(ids) == len(set(ids.tolist())) == min(count, len(logits))
    assert logprobs == pytest.approx(np.maximum(exact[ids], LEAST_LOGPROB), abs=1e-5)
    assert logits[ids].tolist() == sorted(logits.tolist(), reverse=True)[:count]
    assert np.exp(logprobs.astype(np.float64)).sum() <= 1 + 1e-6


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(0, 9), st.sampled_from([0.01, 1.0, 12.0]))
def test_the_likeliest_of_a_large_vocabulary_are_found_too(size: int, count: int, seed: int, spread: float) -> None:
    logits = np.random.default_rng(seed).normal(20, spread, size).round(2).astype(np.float32)  # many are the same
    ids, logprobs = likeliest(logits, count)
    exact = logits.astype(np.float64) - np.logaddexp.reduce(logits.astype(np.float64))
    expected = np.lexsort((np.arange(size), -logits))[:count]
    assert ids.tolist() == expected.tolist()
    assert logprobs == pytest.approx(exact[expected], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("form", [AnswerForm("text"), AnswerForm(), AnswerForm(rationale=True)], ids=str)
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_kept_log_probabilities_are_the_models_own_before_grammar_and_temperature(
    tiny_model: Model, form: AnswerForm, temperature: float
) -> None:
    answers = generated(tiny_model, writing(form, temperature=temperature))
    likeliest_written = []
    for row_id, text in ROWS:
        kept = answers[row_id, 0].logprobs
        assert kept is not None
        assert kept.kept == 5
        tokens = kept.tokens.tolist()
        assert b"".join(map(tiny_model.piece, tokens)).decode("utf-8", "replace").strip() == answers[row_id, 0].text
        for place, exact in enumerate(own_logprobs(tiny_model, text, tokens) if tokens else []):
            assert kept.logprobs[place] == pytest.approx(np.sort(exact)[::-1][:5], abs=2e-3)
            assert exact[kept.ids[place]] == pytest.approx(kept.logprobs[place], abs=2e-3)
            likeliest_written.append(tokens[place] == kept.ids[place, 0])
    assert likeliest_written
    assert all(likeliest_written) == (form.format == "text" and not temperature)


def test_keeping_changes_no_answer_and_costs_nothing_when_off(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"temperature": 0.8, "samples": 2}
    kept = generated(tiny_model, writing(AnswerForm(rationale=True), **how))
    monkeypatch.setattr("mlxdistill.teacher.drafts.likeliest", None)
    bare = generated(tiny_model, writing(AnswerForm(rationale=True), **how, keep_logprobs=0))
    assert {key: answer.text for key, answer in kept.items()} == {key: answer.text for key, answer in bare.items()}
    assert all(answer.logprobs is None for answer in bare.values())
    assert len({answer.logprobs for answer in kept.values()}) == len(kept)


def written_by(model: Model, pieces: Sequence[str], **settings: Any) -> TokenLogprobs:
    """What is kept of an answer of these tokens."""
    writer = Writer(model, TASK, Writing(AnswerForm("text", rationale=True), None, keep_logprobs=3, **settings))
    draft = writer.begin("r", 0, 0)
    for piece in pieces:
        (token,) = model.tokenise(piece, control=False)
        logits = np.zeros(model.vocabulary_size, np.float32)
        logits[token] = 9
        writer.write(draft, logits)
    kept = writer.logprobs(draft)
    assert kept is not None
    return kept


def test_of_the_answer_alone_tokens_are_kept(tiny_model: Model) -> None:
    def text_of(kept: TokenLogprobs) -> bytes:
        return b"".join(map(tiny_model.piece, kept.tokens.tolist()))

    assert text_of(written_by(tiny_model, ["\n", " ", "o", "k", " ", "a", "\n"])) == b"ok a"
    thought = ["o", *"</think>", "\n", "a"]
    kept = written_by(tiny_model, thought, thinking=True)
    assert text_of(kept) == b"a"
    assert kept.ids.shape == (1, 3)
    nothing = written_by(tiny_model, ["o", "k"], thinking=True)
    assert (nothing.tokens.shape, nothing.logprobs.shape) == ((0,), (0, 0))


def some(kept: int, tokens: int = 2) -> TokenLogprobs:
    top = [(np.arange(kept, dtype=np.int32), np.full(kept, -3.5 - place, np.float32)) for place in range(tokens)]
    return TokenLogprobs.pack(range(tokens), top, kept=kept, tokenizer=MARKS)


@pytest.mark.parametrize("tokens", [0, 1, 7])
def test_packing_loses_nothing(tokens: int) -> None:
    packed = some(4, tokens)
    assert (packed.kept, packed.tokenizer, packed.tokens.tolist()) == (4, MARKS, list(range(tokens)))
    assert packed.ids.tolist() == [[0, 1, 2, 3]] * tokens
    assert packed.logprobs.tolist() == [[-3.5 - place] * 4 for place in range(tokens)]


class Keeping:
    """A labeller that keeps what it is told to; counts what it is asked."""

    fingerprint, prompt_fingerprint, samples, settings = "teacher", "prompt", (0,), None

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.asked: list[str] = []

    def prepare(self, rows: int, settings: Any) -> None:
        pass

    def label(
        self, rows: Sequence[Row], done: frozenset[tuple[str, int]], progress: Progress
    ) -> Iterator[list[Answer]]:
        new = [row.id for row in rows if (row.id, 0) not in done]
        self.asked += new
        yield [Answer(row_id, "fine", text="ok", logprobs=some(self.keep) if self.keep else None) for row_id in new]


def test_answers_with_too_few_kept_are_asked_for_again_and_no_others(tmp_path: Path, progress: Any) -> None:
    rows = [Row("a", "one"), Row("b", "two"), Row("c", "two!")]
    hashes = {row.id: content_hash(row.text) for row in rows}
    asked = []
    with LabelStore(tmp_path / "labels.sqlite") as store:
        number = store.labeller("teacher", "prompt", TASK.names)
        for keep in (0, 4, 4, 2, 0, 8):
            labeller = Keeping(keep)
            label_rows(labeller, number, rows, 3, store, progress, {"c": "b"}, keep)
            asked.append("".join(labeller.asked))
        answers = {answer.row_id: answer for answer, _ in store.answers_with_hashes(number, hashes, logprobs=True)}
        assert next(iter(store.answers(number))).logprobs is None
    assert asked == ["ab", "ab", "", "", "", "ab"]
    assert {row_id: answer.logprobs for row_id, answer in answers.items()} == dict.fromkeys("abc", some(8))
    assert answers["c"].copied_from == "b"


def test_ranks_hand_them_over_with_the_answers() -> None:
    for answer in (Answer("a", "fine", (0.5, 0.5), logprobs=some(3)), Answer("b", None, None, "unparsable", "x")):
        record = json.loads(json.dumps(ranks._written(answer, "digest")))
        assert record[-1] == "digest"
        assert ranks._read(record) == answer


def teacher(path: Path, progress: Any, **settings: Any) -> GeneratingLabeller:
    small = {"n_ctx": 512, "n_batch": 128, "n_seq": 4, "threads": 1, "max_tokens": 30}
    config = TeacherConfig(model=str(path), answer="generate", **{**small, **settings})
    return GeneratingLabeller(config, TASK, progress)


def test_a_teacher_in_its_process_keeps_them_under_the_fingerprint_it_had(
    make_gguf: Callable[..., Path], tiny_model: Model, progress: Any
) -> None:
    path = make_gguf()
    with teacher(path, progress, keep_logprobs=6) as keeping:
        assert keeping.fingerprint == teacher(path, progress).fingerprint
        rows = [Row(row_id, text) for row_id, text in ROWS]
        answers = [answer for wave in keeping.label(rows, frozenset(), progress) for answer in wave]
    assert len(answers) == len(ROWS)
    expected = tokenizer_marks(lambda text: plain_tokens(tiny_model, text))
    for answer in answers:
        assert answer.logprobs is not None
        assert (answer.logprobs.kept, answer.logprobs.tokenizer) == (6, expected)
    assert len(set(expected)) == len(PROBES)


def test_what_a_real_teacher_keeps_is_what_the_same_model_thinks_as_a_student(
    stories_model: Model, stories_gguf: Path, tmp_path: Path
) -> None:
    """One model on both sides: its answers, tokenised and run by llama.cpp, are learned from where MLX would give the
    very same probabilities."""
    import mlx.core as mx

    for file in (stories_gguf.parent / "hf").iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    template = (
        "{% for m in messages %}<s>{{ m.role }}:\n{{ m.content }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant:\n{% endif %}"
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    student = load_base(str(tmp_path))
    prompt = LabelPrompt("<s>user:\n", "", "", "</s><s>assistant:\n", TASK.names, TASK.verbalizers)
    texts = {"a": "Once upon a time", "b": "Lily had a cat.", "c": "The sun was hot, and Tim ran to"}
    how = writing(AnswerForm("text", rationale=True), max_tokens=24, keep_logprobs=16)
    with Generator(stories_model, prompt, TASK, how, LIMITS) as generator:
        answers = [answer for group in generator.generate(list(texts.items())) for answer in group.answers]
    encoder = RowEncoder(student.tokenizer, labels=(), prompt=None, max_tokens=256)
    learned = 0
    for answer in answers:
        assert answer.logprobs is not None
        record = {
            "prompt": texts[answer.row_id],
            "completion": answer.text,
            "logprobs": json.loads(json.dumps(logprobs_record(answer.logprobs))),
        }
        row = encoder.encode(record, "f:1")
        if row.soft is None:
            continue
        learned += 1
        logits = student.model(mx.array([row.tokens[:-1]]))[0, row.first_target - 1 : -1]
        thought = np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
        own = np.exp(np.take_along_axis(thought, row.soft.ids[:-1], axis=-1))
        assert row.soft.ids[:-1].tolist() == answer.logprobs.ids.tolist()
        assert row.soft.probabilities[:-1] == pytest.approx(own / own.sum(axis=1, keepdims=True), abs=2e-3)
        assert row.soft.held == pytest.approx(own.sum(axis=1).mean(), abs=2e-3)
    assert learned == len(texts)
