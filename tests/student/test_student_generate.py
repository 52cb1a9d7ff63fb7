"""Texts written many at once are those that mlx-lm writes one by one."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_students import CORPUS, LABELS, PROMPT, Reporter

from mlxdistill.errors import DataError
from mlxdistill.student import generate as generation
from mlxdistill.student.base import load_base
from mlxdistill.student.generate import Sampling, TextGenerator, Written
from mlxdistill.student.predictor import StudentPredictor
from mlxdistill.student.requests import GenerateQuestion, PredictRequest
from mlxdistill.student.writing import Writer
from mlxdistill.tasks.classification import Prompt
from mlxdistill.tasks.rows import Row
from mlxdistill.workers.channel import StopRequested

ModelFolder = Callable[[str], Path]
Reference = Callable[..., list[Written]]
VOCABULARY = 60
COMMON = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "phi3": {},
    "smollm3": {},
    "granite": {
        "logits_scaling": 4.0,
        "attention_multiplier": 0.25,
        "embedding_multiplier": 2.0,
        "residual_multiplier": 0.5,
        "attention_bias": False,
        "mlp_bias": False,
    },
    "gemma3_text": {"sliding_window": 8, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8},
    "cohere2": {"sliding_window": 8, "sliding_window_pattern": 2},
    "lfm2": {
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 32,
        "block_multiple_of": 8,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "layer_types": ["conv", "full_attention"],
    },
    "mamba": {"state_size": 4, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True, "time_step_rank": 4},
    "gemma2": {},
}
ONE_BY_ONE = ("gemma2", "mamba")  # per-row masks are not taken; padding is read as tokens


def tiny(kind: str) -> Any:
    """A random model whose texts vary: its logits are far apart."""
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_unflatten

    architecture = importlib.import_module(f"mlx_lm.models.{kind}")
    model = architecture.Model(architecture.ModelArgs.from_dict({"model_type": kind, **COMMON, **KINDS[kind]}))
    mx.random.seed(5)
    weights = [
        (name, mx.random.normal(value.shape) * 0.3 if value.ndim > 1 else value)
        for name, value in tree_flatten(model.parameters())
    ]
    model.update(tree_unflatten(weights))
    mx.eval(model.parameters())
    return model.eval()


def prompts(count: int, longest: int = 30, seed: int = 0) -> list[tuple[int, ...]]:
    chance = random.Random(seed)
    return [tuple(chance.choices(range(VOCABULARY), k=chance.randint(1, longest))) for _ in range(count)]


@pytest.fixture
def one_by_one(model_folder: ModelFolder) -> Reference:
    """What `mlx_lm.generate` writes."""
    from mlx_lm.generate import stream_generate
    from mlx_lm.utils import load_tokenizer

    def write(model: Any, rows: Sequence[Sequence[int]], most: int, stop: Sequence[int] = ()) -> list[Written]:
        tokenizer = load_tokenizer(model_folder("llama"))
        tokenizer.eos_token_ids = stop
        found = []
        for row in rows:
            steps = list(stream_generate(model, tokenizer, list(row), max_tokens=most))
            ended = steps[-1].finish_reason == "stop"
            found.append(Written(tuple(step.token for step in (steps[:-1] if ended else steps)), ended))
        return found

    return write


def written(generator: TextGenerator, rows: Sequence[Sequence[int]], most: int, **options: Any) -> list[Written]:
    return [text for wave in generator.generate(rows, most, **options) for text in wave]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_those_of_mlx_lm_row_by_row(kind: str, one_by_one: Reference) -> None:
    model = tiny(kind)
    rows = prompts(40)
    free = one_by_one(model, rows[:2], 12)
    stop = [free[0].tokens[3], free[1].tokens[6]]
    expected = one_by_one(model, rows, 12, stop)
    generator = TextGenerator(model, stop, batch_tokens=64)
    assert generator.batched == generator.shares == (kind not in ONE_BY_ONE)
    assert written(generator, rows, 12) == expected
    lengths = {len(text.tokens) for text in expected}
    assert {text.ended for text in expected} == {True, False}
    assert len(lengths) > 3


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "lfm2"])
def test_what_prompts_begin_with_is_read_once(
    kind: str, one_by_one: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_lm.generate import BatchGenerator

    read: list[int] = []
    insert = BatchGenerator.insert

    def watch(self: Any, given: list[list[int]], *arguments: Any, **options: Any) -> Any:
        read.extend(map(len, given))
        return insert(self, given, *arguments, **options)

    model = tiny(kind)
    generator = TextGenerator(model, [], batch_tokens=128)
    monkeypatch.setattr(BatchGenerator, "insert", watch)
    beginning = prompts(1, seed=9)[0] * 2
    others = [beginning, (1, 2, 3), beginning[:2], (*beginning[::-1], 4)]
    rows = [beginning + row for row in prompts(20)] + others
    assert written(generator, rows, 6, beginning=beginning) == one_by_one(model, rows, 6)
    assert sum(read) == sum(map(len, rows)) - 20 * len(beginning)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_few_prompts_none_at_all_and_a_single_token(kind: str, one_by_one: Reference) -> None:
    model = tiny(kind)
    generator = TextGenerator(model, [], batch_tokens=64)
    assert list(generator.generate([], 5)) == []
    for rows in ([(7,)], prompts(3)):
        for most in (1, 2):
            found = written(generator, rows, most)
            assert found == one_by_one(model, rows, most)
            assert {(len(text.tokens), text.ended) for text in found} == {(most, False)}


def test_waves_come_in_order_and_long_before_the_last_row_is_read(one_by_one: Reference) -> None:
    model = tiny("llama")
    rows = prompts(400, longest=12)
    taken = 0

    def counted() -> Iterator[tuple[int, ...]]:
        nonlocal taken
        for row in rows:
            taken += 1
            yield row

    waves = TextGenerator(model, [], batch_tokens=256).generate(counted(), 3)
    first = next(waves)
    assert len(first) == generation.ROWS_AT_ONCE
    assert taken <= 2 * generation.ROWS_SORTED
    found = [*first, *(text for wave in waves for text in wave)]
    assert len(found) == taken == len(rows)
    assert found[::9] == one_by_one(model, rows[::9], 3)


def test_no_more_is_read_or_kept_at_once_than_memory_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlx_lm.generate import BatchGenerator

    read: list[int] = []
    kept: list[int] = []
    most, batch_tokens = 10, 50
    insert, step = BatchGenerator.insert, BatchGenerator.next

    def watch_insert(self: Any, given: list[list[int]], *arguments: Any, **options: Any) -> Any:
        read.append(len(given) * max(map(len, given)))
        return insert(self, given, *arguments, **options)

    def watch_step(self: Any) -> Any:
        found = step(self)
        cache = self._generation_batch.prompt_cache
        if cache and cache[0].keys is not None:
            kept.append(cache[0].left_padding.size * cache[0]._idx)
        return found

    generator = TextGenerator(tiny("llama"), [], batch_tokens=batch_tokens)
    monkeypatch.setattr(BatchGenerator, "insert", watch_insert)
    monkeypatch.setattr(BatchGenerator, "next", watch_step)
    short = [(1, 2)] * generation.ROWS_SORTED  # the first of the longer rows join the last of these
    rows = [*short, *prompts(60), tuple(range(55)), tuple(range(59)) * 4]
    assert len(written(generator, rows, most)) == len(rows)
    alone = len(rows[-1])
    assert sorted(read)[-1] == alone
    assert sorted(read)[-3] <= batch_tokens
    assert sorted(size for size in kept if size < alone)[-1] <= generation.CACHED_SHARE * batch_tokens
    assert max(kept) <= alone + most


def test_rows_join_in_groups_while_others_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlx_lm.generate import BatchGenerator

    groups: list[tuple[int, int]] = []
    insert = BatchGenerator.insert

    def watch(self: Any, given: list[list[int]], *arguments: Any, **options: Any) -> Any:
        groups.append((len(given), len(self._generation_batch)))
        return insert(self, given, *arguments, **options)

    model = tiny("llama")
    stop = written(TextGenerator(model, [], batch_tokens=512), prompts(1), 4)[0].tokens[3:]
    generator = TextGenerator(model, stop, batch_tokens=512)
    monkeypatch.setattr(BatchGenerator, "insert", watch)
    rows = prompts(200)
    texts = written(generator, rows, 40)
    assert len({len(text.tokens) for text in texts}) > 10
    joined = [(joining, running) for joining, running in groups if running]
    assert joined
    assert all(joining * generation.JOINING_SHARE >= running for joining, running in joined[:-1])


def test_a_stop_is_heard_between_two_tokens() -> None:
    for kind in ("llama", "gemma2"):
        generator = TextGenerator(tiny(kind), [], batch_tokens=64)
        calls = 0

        def check() -> None:
            nonlocal calls
            calls += 1
            if calls == 5:
                raise StopRequested

        with pytest.raises(StopRequested):
            written(generator, prompts(3), 100, check_stop=check)
        assert calls == 5
        assert len(written(generator, prompts(3), 4)) == 3


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_chance_follows_from_seed_and_row_alone(kind: str) -> None:
    generator = TextGenerator(tiny(kind), [], batch_tokens=64)
    rows = prompts(6)
    warm = written(generator, rows, 8, sampling=Sampling(1.0, seed=1))
    assert written(generator, rows, 8, sampling=Sampling(1.0, seed=1)) == warm
    assert written(generator, rows[:2], 8, sampling=Sampling(1.0, seed=1)) == warm[:2]
    assert written(generator, rows, 8, sampling=Sampling(1.0, seed=2)) != warm
    first, second = written(generator, [rows[0]] * 2, 8, sampling=Sampling(1.0, seed=1))
    assert first == warm[0]
    assert second != first
    cold = written(generator, rows, 8)
    assert written(generator, rows, 8, sampling=Sampling(1e-4)) == cold
    assert warm != cold


def test_sampled_tokens_are_as_frequent_as_the_model_has_them() -> None:
    import mlx.core as mx
    import numpy as np

    model = tiny("llama")
    prompt = prompts(1)[0]
    texts = written(TextGenerator(model, [], batch_tokens=512), [prompt] * 600, 1, sampling=Sampling(0.3, 3))
    found = np.bincount([text.tokens[0] for text in texts], minlength=VOCABULARY) / len(texts)
    warm, expected = (np.array(mx.softmax(model(mx.array([prompt]))[0, -1] / heat)) for heat in (1.0, 0.3))
    doubt = 4 * np.sqrt(0.25 / len(texts))
    assert np.abs(found - expected).max() < doubt
    assert np.abs(warm - expected).max() > 2 * doubt
    assert expected.max() < 0.9


def answer(folder: Path, question: GenerateQuestion, **options: Any) -> tuple[Any, Reporter]:
    reporter = Reporter()
    reporter.check_stop = lambda: None  # type: ignore[attr-defined]
    writer = Writer(load_base(str(folder)), **{"max_tokens": 64, "batch_tokens": 256, **options})
    return writer.answer(question, reporter), reporter  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_answers_are_what_mlx_lm_generates_from_the_chat(model_folder: ModelFolder, kind: str) -> None:
    from mlx_lm import generate, load

    rows = tuple((f"r{number}", text[: 9 + number]) for number, text in enumerate(CORPUS * 3))
    result, reporter = answer(model_folder(kind), GenerateQuestion(rows, PROMPT, 9))
    answers = [found for wave in reporter.sent for found in wave]
    model, tokenizer = load(str(model_folder(kind)))
    tokenizer.eos_token_ids = {tokenizer.eos_token_id}
    expected = []
    for _, text in rows:
        chat = [{"role": "user", "content": PROMPT.content(text)}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
        expected.append(generate(model, tokenizer, prompt, max_tokens=9).strip())
    assert [found.row_id for found in answers] == [row_id for row_id, _ in rows]
    assert [found.text.strip() for found in answers] == expected
    assert len(set(expected)) > 1
    assert {(found.label, found.probabilities, found.outcome) for found in answers} == {(None, None, "answered")}
    assert (result.truncated, result.unfinished) == (0, len(rows))
    assert result.rows_per_second > 0
    assert result.tokens_per_second == pytest.approx(9 * result.rows_per_second)
    assert bool(reporter.notes) == (kind == "gemma2")


def test_a_long_row_loses_the_end_of_its_text_and_is_counted(model_folder: ModelFolder) -> None:
    short, long = CORPUS[1][:20], CORPUS[1] * 9
    question = GenerateQuestion((("long", long), ("short", short)), PROMPT, 5)
    result, reporter = answer(model_folder("llama"), question)
    assert [found.outcome for found in reporter.sent[0]] == ["truncated", "answered"]
    assert result.truncated == 1
    with pytest.raises(DataError, match="no room") as caught:
        answer(model_folder("llama"), GenerateQuestion(question.rows, Prompt("word " * 80, ""), 5))
    assert caught.value.where == "long"


def test_prompt_and_answer_stay_inside_the_models_context(
    model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int]] = []
    generate = TextGenerator.generate

    def watch(self: TextGenerator, given: Any, most: int, **options: Any) -> Any:
        rows = list(given)
        taken.append((max(map(len, rows)), most))
        return generate(self, rows, most, **options)

    monkeypatch.setattr(TextGenerator, "generate", watch)
    row = (("long", CORPUS[1] * 99),)
    for most in (100, 400):
        answer(model_folder("qwen3"), GenerateQuestion(row, PROMPT, most), max_tokens=2000)
    assert taken == [(412, 100), (256, 256)]


def test_a_process_answers_and_labels_in_turns(model_folder: ModelFolder, progress: Any) -> None:
    request = PredictRequest(str(model_folder("llama")), None, None, LABELS, PROMPT, 64)
    rows = [Row(f"r{number}", text) for number, text in enumerate(CORPUS)]
    with StudentPredictor(request, progress) as student:
        labelled = [found for wave in student.predict(rows, progress) for found in wave]
        first = [found for wave in student.generate(rows, PROMPT, 6) for found in wave]
        again = [found for wave in student.generate(rows[::-1], PROMPT, 6) for found in wave]
        assert student.tokens_per_second > 0
        assert student.unfinished == 2 * len(rows)
    assert [found.label for found in labelled] != [None] * len(rows)
    assert [(found.row_id, found.text) for found in again[::-1]] == [(found.row_id, found.text) for found in first]
