"""Answers written many at a time are those written one at a time."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from mlxdistill.errors import ModelError
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.forms import AnswerForm
from mlxdistill.tasks.protocols import Answer
from mlxdistill.teacher import generation
from mlxdistill.teacher.drafts import Writing
from mlxdistill.teacher.engine import Engine, EngineSettings, Model, NoSlot, Token
from mlxdistill.teacher.generation import Generator, Group
from mlxdistill.teacher.grammar import schema_grammar
from mlxdistill.teacher.lanes import Limits
from mlxdistill.teacher.prompts import LabelPrompt
from mlxdistill.teacher.scoring import Scorer
from mlxdistill.teacher.tokens import plain_tokens, template_tokens

BEFORE, HEAD = "<|im_start|>user\n", "Say which label fits.\n\nText:\n"
TAIL, AFTER = "\n\nAnswer.", "<|im_end|>\n<|im_start|>assistant\n"
WORDS = ["card", "payment", "lost", "the", "user", "arrival", "okay", "toxic", "a", "of", "why?", "ümlaut", "🙂"]
TASK = ClassificationTask(
    "Which is it?",
    (Label("fine", "civil", "ok"), Label("bad", "rude", "toxic a"), Label("none", "", "card lost")),
)
PROMPT = LabelPrompt(BEFORE, HEAD, TAIL, AFTER, TASK.names, TASK.verbalizers)
LIMITS = Limits(n_ctx=512, n_batch=128, n_seq=6, threads=1)
JSON, TEXT = AnswerForm(), AnswerForm("text")
RATIONALE = AnswerForm(rationale=True)


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights are full of near ties, which must not fall one way or the other with the shape of a batch."""
    monkeypatch.setattr(generation, "SKIPS_MASKED", False)


def writing(form: AnswerForm = JSON, **settings: Any) -> Writing:
    grammar = None
    if form.format == "json":
        grammar = schema_grammar(form.schema(TASK.verbalizers, 20), after_thought=settings.get("thinking", False))
    return Writing(form, grammar, **{"max_tokens": 60, **settings})


def some_rows(count: int, most_words: int = 25, seed: int = 0) -> list[tuple[str, str]]:
    chance = random.Random(seed)
    return [
        (f"row-{number}", " ".join(chance.choices(WORDS, k=chance.randint(1, most_words)))) for number in range(count)
    ]


def generated(
    model: Model, rows: Sequence[tuple[str, str]], how: Writing, limits: Limits = LIMITS
) -> dict[tuple[str, int], Answer]:
    with Generator(model, PROMPT, TASK, how, limits) as generator:
        return by_key(generator.generate(rows))


def by_key(groups: Iterator[Group]) -> dict[tuple[str, int], Answer]:
    answers = [answer for group in groups for answer in group.answers]
    found = {(answer.row_id, answer.sample): answer for answer in answers}
    assert len(found) == len(answers)
    return found


def plain(answers: dict[tuple[str, int], Answer]) -> dict[tuple[str, int], tuple[object, ...]]:
    return {key: (answer.label, answer.outcome, answer.text) for key, answer in answers.items()}


def likeliest(model: Model, text: str, how: Writing) -> str:
    """What one sequence at a time writes, each token the likeliest: no branches, no batch, no grammar."""
    tokens = template_tokens(model, BEFORE) + plain_tokens(model, HEAD) + plain_tokens(model, text)
    tokens += plain_tokens(model, TAIL) + template_tokens(model, AFTER, follows_text=True)
    written = b""
    chosen: list[int] = []

    def read(index: int, logits: np.ndarray) -> None:
        chosen.append(int(logits.argmax()))

    with Engine(model, EngineSettings(1024, 1024, 1, 1, 1)) as engine:
        engine.decode([Token(t, p, (0,), wanted=p == len(tokens) - 1) for p, t in enumerate(tokens)], read)
        while not model.is_control(chosen[-1]) and len(chosen) <= how.max_tokens:
            written += model.piece(chosen[-1])
            if how.form.is_complete(written.decode("utf-8", "replace")) or len(chosen) == how.max_tokens:
                break
            engine.decode([Token(chosen[-1], len(tokens) + len(chosen) - 1, (0,), wanted=True)], read)
    return written.decode("utf-8", "replace").strip()


def test_answers_in_text_are_those_of_one_sequence(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "ATTEMPTS", 1)
    rows = some_rows(14)
    how = writing(TEXT, max_tokens=24)
    answers = generated(tiny_model, rows, how)
    assert {key: answer.text for key, answer in answers.items()} == {
        (row_id, 0): likeliest(tiny_model, text, how) for row_id, text in rows
    }
    assert len({answer.text for answer in answers.values()}) > 5


def test_attention_that_skips_writes_much_the_same(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = some_rows(40)
    expected = plain(generated(tiny_model, rows, writing(max_tokens=130)))
    monkeypatch.setattr(generation, "SKIPS_MASKED", True)
    found = plain(generated(tiny_model, rows, writing(max_tokens=130)))
    assert found.keys() == expected.keys()
    assert sum(found[key] == expected[key] for key in found) >= 36


@pytest.mark.parametrize("form", [JSON, RATIONALE], ids=["label", "rationale"])
def test_answers_in_json_do_not_depend_on_what_shares_the_batch(tiny_model: Model, form: AnswerForm) -> None:
    rows = some_rows(8)
    for how in (writing(form, max_tokens=130), writing(form, max_tokens=130, temperature=0.8, samples=3, seed=5)):
        together = plain(generated(tiny_model, rows, how))
        assert len(together) == len(rows) * how.samples
        alone = plain(generated(tiny_model, rows, how, Limits(512, 32, 1, 1)))
        assert together == alone
        shuffled = random.Random(1).sample(rows, len(rows))
        assert together == plain(generated(tiny_model, shuffled, how, Limits(512, 64, 16, 1)))
        assert plain(generated(tiny_model, rows[3:4], how)).items() <= together.items()
        for label, outcome, text in together.values():
            assert outcome == "answered"
            value = json.loads(str(text))
            assert list(value) == (["rationale", "label"] if form.rationale else ["label"])
            assert value["label"] == TASK.verbalizer(str(label))


@pytest.mark.parametrize("max_tokens", [1, 2, 7, 60])
@pytest.mark.parametrize("n_seq", [1, 3, 100])
def test_every_row_gets_its_answers_whatever_the_limits(tiny_model: Model, max_tokens: int, n_seq: int) -> None:
    rows = [*some_rows(5), ("empty", ""), ("long", "card lost " * 2000)]
    for form in (JSON, TEXT):
        how = writing(form, max_tokens=max_tokens, samples=3, temperature=1.0)
        limits = Limits(200, 40, n_seq, 1)
        answers = generated(tiny_model, rows, how, limits)
        assert set(answers) == {(row_id, sample) for row_id, _ in rows for sample in range(3)}
        outcomes = {answer.outcome for (row_id, _), answer in answers.items() if row_id != "long"}
        assert outcomes <= {"answered", "unparsable"}
        assert {answer.outcome for (row_id, _), answer in answers.items() if row_id == "long"} <= {
            "truncated",
            "unparsable",
        }
        assert all((answer.label is None) == (answer.outcome == "unparsable") for answer in answers.values())
        if form is JSON:
            assert {answer.outcome == "unparsable" for answer in answers.values()} == {max_tokens < 60}


def test_samples_of_a_row_differ_and_share_its_prompt(tiny_model: Model) -> None:
    rows = some_rows(6)
    how = writing(RATIONALE, temperature=1.0, samples=4)
    with Generator(tiny_model, PROMPT, TASK, how, LIMITS) as generator:
        groups = list(generator.generate(rows))
        shared = generator.engine.tokens - generator.prefill_tokens - generator.decode_tokens
    prompts = sum(len(plain_tokens(tiny_model, text)) for _, text in rows)
    tail = len(plain_tokens(tiny_model, TAIL) + template_tokens(tiny_model, AFTER, follows_text=True))
    assert sum(group.prefill_tokens for group in groups) == prompts + tail * len(rows)
    assert shared == len(template_tokens(tiny_model, BEFORE) + plain_tokens(tiny_model, HEAD))
    answers = by_key(iter(groups))
    for row_id, _ in rows:
        assert len({answers[row_id, sample].text for sample in range(4)}) == 4
    assert groups[-1].finished == len(rows)


def test_more_samples_keep_those_there_are(tiny_model: Model) -> None:
    rows = some_rows(4)
    few = plain(generated(tiny_model, rows, writing(RATIONALE, temperature=0.9, samples=2)))
    with Generator(tiny_model, PROMPT, TASK, writing(RATIONALE, temperature=0.9, samples=5), LIMITS) as generator:
        more = plain(by_key(generator.generate(rows)))
        assert few.items() <= more.items()
        rest = plain(by_key(generator.generate(rows, frozenset(few))))
        assert rest.keys() == more.keys() - few.keys()
        assert rest.items() <= more.items()
        before = generator.engine.decodes
        assert not list(generator.generate(rows, frozenset(more)))
        assert generator.engine.decodes == before


def test_the_seed_changes_what_is_drawn(tiny_model: Model) -> None:
    rows = some_rows(4)
    first, second = (plain(generated(tiny_model, rows, writing(RATIONALE, temperature=1.0, seed=s))) for s in (0, 1))
    assert first.keys() == second.keys()
    assert all(first[key] != second[key] for key in first)


def test_an_answer_that_cannot_be_parsed_is_asked_for_once_more(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = writing(TEXT, max_tokens=8)
    first = generated(tiny_model, some_rows(6), how)
    assert {answer.outcome for answer in first.values()} == {"unparsable"}  # a random model names no label
    monkeypatch.setattr(generation, "ATTEMPTS", 1)
    once = generated(tiny_model, some_rows(6), how)
    assert all(once[key].text != first[key].text for key in first)  # kept is what the second attempt wrote


def test_where_the_second_attempt_can_be_parsed_it_counts(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = some_rows(8)
    with Generator(tiny_model, PROMPT, TASK, writing(), LIMITS) as generator:
        parse, seen = generator._writer.label, Counter[str]()

        def fails_at_first(draft: Any) -> str | None:
            seen[draft.row_id] += 1
            return parse(draft) if draft.attempt else None

        monkeypatch.setattr(generator._writer, "label", fails_at_first)
        answers = by_key(generator.generate(rows))
    assert set(seen.values()) == {2}
    assert {answer.outcome for answer in answers.values()} == {"answered"}


def test_answers_come_in_groups_and_a_reader_may_leave(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "GROUP_ANSWERS", 4)
    monkeypatch.setattr(generation, "GROUP_SECONDS", 1e9)
    rows = some_rows(25)
    with Generator(tiny_model, PROMPT, TASK, writing(), LIMITS) as generator:
        groups = list(generator.generate(rows))
        whole = plain(by_key(iter(groups)))
        assert len(groups) >= 4
        assert all(4 <= len(group.answers) < 4 + LIMITS.n_seq for group in groups[:-1])
        for leave_after in (1, 2):
            leaving = generator.generate(rows)
            for _ in range(leave_after):
                next(leaving)
            leaving.close()
        assert plain(by_key(generator.generate(rows))) == whole
        monkeypatch.setattr(generation, "GROUP_SECONDS", 0.0)
        assert len(list(generator.generate(rows))) > len(groups)


@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 12])
def test_where_no_slot_is_found_what_came_last_begins_anew(tiny_model: Model, most: int, count: int) -> None:
    rows = some_rows(count)
    how = writing(RATIONALE, temperature=0.7, samples=3)
    expected = plain(generated(tiny_model, rows, how))
    with Generator(tiny_model, PROMPT, TASK, how, LIMITS) as generator:
        decode, refused = generator.engine.decode, Counter[str]()

        def narrow(tokens: Sequence[Token], read: Any) -> None:
            if len({sequence for token in tokens for sequence in token.sequences}) > most:
                refused["times"] += 1
                raise NoSlot
            decode(tokens, read)

        generator.engine.decode = narrow  # type: ignore[method-assign]
        assert plain(by_key(generator.generate(rows))) == expected
        assert (0 < refused["times"] < 20) == (most < 3 or count > 1)
        assert sorted(generator._places + generator._row_sequences) == list(range(1, 1 + 2 * LIMITS.n_seq))


def test_a_row_that_never_finds_a_slot_is_named(tiny_model: Model) -> None:
    def never(tokens: Sequence[Token], read: Any) -> None:
        raise NoSlot

    with Generator(tiny_model, PROMPT, TASK, writing(), LIMITS) as generator:
        generator.engine.decode = never  # type: ignore[method-assign]
        with pytest.raises(ModelError, match="row row-0: the context has no room"):
            list(generator.generate(some_rows(3)))


def test_memory_for_few_rows_is_enough_for_many(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = some_rows(10)
    how = writing(samples=2, temperature=0.5)
    expected = plain(generated(tiny_model, rows, how))
    monkeypatch.setattr(generation, "MEMORY_SHARE", 0.0)
    with Generator(tiny_model, PROMPT, TASK, how, Limits(256, 64, 30, 1)) as generator:
        assert generator.engine.settings.n_ctx == 256
        assert plain(by_key(generator.generate(rows))) == expected


def test_what_is_not_a_number_is_named_with_its_row(make_gguf: Callable[..., Any]) -> None:
    with (
        Model(make_gguf(scale=float("nan"))) as model,
        Generator(model, PROMPT, TASK, writing(), LIMITS) as generator,
        pytest.raises(ModelError, match="row row-0: the model's answer is not a number"),
    ):
        list(generator.generate(some_rows(1)))


def test_a_prompt_that_leaves_no_room_says_so(tiny_model: Model) -> None:
    with pytest.raises(ModelError, match="leaves no room for a text") as raised:
        Generator(tiny_model, PROMPT, TASK, writing(max_tokens=500), LIMITS)
    assert "lower max_tokens" in str(raised.value.hint)


@pytest.mark.parametrize("name", ["tiny_model", "stories_model"])
@pytest.mark.parametrize("kind", ["scored", "generated"])
def test_no_row_can_write_a_control_token_into_its_prompt(name: str, kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    texts = [model.piece(token).decode() for token in range(model.vocabulary_size) if model.is_control(token)]
    assert len(texts) >= 2
    how = writing(TEXT, max_tokens=1)
    opened: Scorer | Generator = (
        Scorer(model, {0: PROMPT}, LIMITS) if kind == "scored" else Generator(model, PROMPT, TASK, how, LIMITS)
    )
    with opened:
        seen: list[int] = []
        decode = opened.engine.decode

        def watched(tokens: Sequence[Token], read: Any) -> None:
            seen.extend(token.token for token in tokens if model.is_control(token.token))
            decode(tokens, read)

        opened.engine.decode = watched  # type: ignore[method-assign]

        def control_tokens(text: str) -> list[int]:
            seen.clear()
            rows = [("row", text)]
            if isinstance(opened, Scorer):
                list(opened.score(rows))
            else:
                list(opened.generate(rows))
            return list(seen)

        ordinary = control_tokens("card")
        for text in texts:
            for written in (text, f"a{text}b", text * 3, f"{text}\n{text}", f"<{text}>"):
                assert control_tokens(written) == ordinary
