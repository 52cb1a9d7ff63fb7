"""Gradients are those of the plain model on all logits: of each architecture, adapter, quantization and head, and with
layers that are computed twice."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers
import mlx_lm.models.activations
import numpy as np
import pytest
from mlx.utils import tree_flatten
from numpy.typing import NDArray
from tiny_students import LABELS, VOCABULARY, Reporter, make_model, train_request, write_rows

from mlxdistill.config.models import LoraConfig
from mlxdistill.platform.metal import has_metal
from mlxdistill.student import cpu_kernels
from mlxdistill.student.adapter import add_adapter
from mlxdistill.student.base import load_base
from mlxdistill.student.child import prepare
from mlxdistill.student.encoding import EncodedRow
from mlxdistill.student.losses import Arrays, gradient_function
from mlxdistill.student.recomputation import recompute_layers
from mlxdistill.student.requests import TrainRequest
from mlxdistill.tasks.trie import Trie

ModelFolder = Callable[[str], Path]
Gradients = tuple[float, dict[str, NDArray[np.float32]]]

# Tied heads: llama, qwen2, smollm3, gemma2 (capped) and gemma3_text. Heads of their own: qwen3, mistral and phi3.
KINDS = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "mistral", "smollm3")
PLAIN_ATTENTION = mx.fast.scaled_dot_product_attention
PLAIN_SWIGLU = mlx_lm.models.activations.swiglu
PADDING = 77


@pytest.fixture(autouse=True)
def own_kernels() -> Iterator[None]:
    """As a training has them, and afterwards what was there."""
    attention, dropout = mx.fast.scaled_dot_product_attention, nn.Dropout.__call__
    cpu_kernels.use_cpu_kernels()
    yield
    mx.disable_compile()
    mx.fast.scaled_dot_product_attention, nn.Dropout.__call__ = attention, dropout


@contextlib.contextmanager
def plain_kernels() -> Iterator[None]:
    """MLX's own attention and mlx-lm's own activation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mx.fast, "scaled_dot_product_attention", PLAIN_ATTENTION)
        for name, module in list(sys.modules.items()):
            if name.startswith("mlx_lm.models.") and hasattr(module, "swiglu"):
                patch.setattr(module, "swiglu", PLAIN_SWIGLU)
        yield


def stir(model: Any) -> None:
    """Moves every trainable weight a little: beside a LoRA that is zero on one side the other has no gradient."""
    chance = np.random.default_rng(5)
    moved = {
        name: value + mx.array(chance.normal(0, 0.05, value.shape).astype(np.float32))
        for name, value in sorted(tree_flatten(model.trainable_parameters()))
    }
    model.load_weights(list(moved.items()), strict=False)


def targets(row: EncodedRow, trie: Trie | None, soft_weight: float) -> list[dict[int, float]]:
    """What to learn at each token of a row's answer, by its label alone and the teacher's class probabilities."""
    found: list[dict[int, float]] = [{token: 1.0} for token in row.tokens[row.first_target :]]
    if trie is None or row.label is None or row.probabilities is None:
        return found
    own = trie.paths[row.label]
    for depth in range(len(own)):
        on_path = [label for label, path in enumerate(trie.paths) if path[:depth] == own[:depth] and len(path) > depth]
        mass = sum(row.probabilities[label] for label in on_path)
        distribution = {own[depth]: 1 - soft_weight}
        for label in on_path:
            token = trie.paths[label][depth]
            distribution[token] = distribution.get(token, 0.0) + soft_weight * row.probabilities[label] / mass
        found[depth] = distribution
    return found


def reference(model: Any, rows: Sequence[EncodedRow], trie: Trie | None) -> Gradients:
    """All rows whole and padded, all logits, a dense target and an explicit mask."""
    length = max(len(row.tokens) for row in rows) + 3
    inputs = np.full((len(rows), length), PADDING)
    mask, target = np.zeros((len(rows), length)), np.zeros((len(rows), length, VOCABULARY))
    for number, row in enumerate(rows):
        inputs[number, : len(row.tokens)] = row.tokens
        for place, distribution in enumerate(targets(row, trie, 0.5), start=row.first_target - 1):
            mask[number, place] = 1
            for token, share in distribution.items():
                target[number, place, token] = share

    def loss(inputs: Any, mask: Any, target: Any) -> Any:
        logits = model(inputs).astype(mx.float32)
        logarithms = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        return -(mask * (target * logarithms).sum(axis=-1)).sum() / mask.sum()

    given = (mx.array(inputs), mx.array(mask.astype(np.float32)), mx.array(target.astype(np.float32)))
    with plain_kernels():
        return read(nn.value_and_grad(model, loss)(*given))


def read(found: tuple[Any, Any]) -> Gradients:
    mx.eval(found)
    return float(found[0]), {name: np.array(value) for name, value in tree_flatten(found[1])}


def ours(request: TrainRequest) -> tuple[Gradients, list[EncodedRow], Trie | None]:
    """Loss and gradients of one step over all rows, as the training makes them."""
    base, _, training, _ = prepare(request, Reporter())
    stir(base.model)
    material = training._material
    weight = material.builder.weight(material.train)
    found = training._loss_and_gradients(range(len(material.train)), weight)
    return read(found), material.train, material.builder._trie


def check(request: TrainRequest) -> None:
    found, rows, trie = ours(request)
    base = load_base(request.model, request.quantize)
    add_adapter(base.model, request.fine_tune_type, request.lora, seed=request.train.seed)
    stir(base.model)
    assert_same(found, reference(base.model, rows, trie))


def assert_same(found: Gradients, expected: Gradients) -> None:
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1].keys() == expected[1].keys()
    largest = max(np.abs(value).max() for value in expected[1].values())
    assert largest > 1e-3
    for name, value in expected[1].items():
        assert np.abs(found[1][name] - value).max() <= 1e-5 * largest, name


CASES: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in KINDS},
    "llama, the embedding": {"lora": {"keys": ("model.embed_tokens", "self_attn.q_proj")}},
    "qwen3, the head": {"lora": {"keys": ("lm_head", "self_attn.q_proj")}},
    "llama, 4 bits": {"quantize": 4},
    "qwen3, 8 bits": {"quantize": 8},
    "gemma2, 4 bits": {"quantize": 4},
    "llama, DoRA": {"fine_tune_type": "dora"},
    "qwen2, DoRA": {"fine_tune_type": "dora", "lora": {"rslora": True}},
    "mistral, DoRA, 4 bits": {"fine_tune_type": "dora", "quantize": 4},
    "gemma2, full": {"fine_tune_type": "full"},
    "phi3, full": {"fine_tune_type": "full", "lora": {"layers": 1}},
    "smollm3, in parts": {"train": {"batch_tokens": 64}},
    "llama, cut": {"max_tokens": 44},
    "llama, twice": {"train": {"gradient_checkpointing": True}},
    "gemma3_text, twice": {"train": {"gradient_checkpointing": True}},
    "mistral, DoRA, twice": {"fine_tune_type": "dora", "train": {"gradient_checkpointing": True}},
    "qwen3, full, twice": {"fine_tune_type": "full", "train": {"gradient_checkpointing": True, "batch_tokens": 64}},
    "phi3, 8 bits, twice": {"quantize": 8, "train": {"gradient_checkpointing": True}},
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_has_the_gradients_of_the_plain_model(model_folder: ModelFolder, tmp_path: Path, case: str) -> None:
    write_rows(tmp_path / "data" / "train.jsonl", 6)
    check(train_request(model_folder(case.split(",")[0]), tmp_path, **CASES[case]))


def test_plain_answers_have_the_gradients_of_the_plain_model_too(model_folder: ModelFolder, tmp_path: Path) -> None:
    write_rows(tmp_path / "data" / "train.jsonl", 6)
    check(train_request(model_folder("gemma2"), tmp_path, labels=(), prompt=None))


@pytest.mark.parametrize("max_tokens", [128, 44])
def test_what_is_supervised_is_the_answer_and_nothing_else(
    model_folder: ModelFolder, tmp_path: Path, max_tokens: int
) -> None:
    write_rows(tmp_path / "data" / "train.jsonl", 12)
    _, _, training, truncated = prepare(
        train_request(model_folder("llama"), tmp_path, max_tokens=max_tokens), Reporter()
    )
    assert (truncated > 0) == (max_tokens == 44)
    material = training._material
    tokenizer = load_base(str(model_folder("llama"))).tokenizer
    verbalizers = dict(LABELS)
    seen = []
    for step in training._steps(0):
        for batch in training._parts(step):
            built = material.builder.build(material.train, batch)
            for number, row_number in enumerate(batch.rows):
                row = material.train[row_number]
                mine = (built.row_of == number) & (built.weights > 0)
                places = built.positions[mine] - number * batch.length + material.prefix.tokens
                assert places.tolist() == list(range(row.first_target - 1, len(row.tokens) - 1))
                learned = built.tokens[mine, built.hard[mine]].tolist()
                assert learned == list(row.tokens[row.first_target :])
                answer = tokenizer._tokenizer.decode(learned)
                assert answer == verbalizers[LABELS[row.label or 0][0]] + "<|im_end|>"
                seen.append(row_number)
    assert sorted(seen) == list(range(12))


@pytest.mark.skipif(
    not has_metal() and shutil.which("g++") is None, reason="MLX compiles with g++ where it has no Metal"
)
def test_compiled_steps_follow_each_other_as_others_do() -> None:
    inputs = mx.array([[1, 2, 3]])
    batch = Arrays(inputs, mx.array([0, 2]), mx.array([[4], [5]]), mx.ones((2, 1)), mx.ones(2))
    weights = []
    mx.enable_compile()
    for compiled in (True, False):
        mx.random.seed(0)
        model = nn.Sequential(nn.Embedding(8, 8), nn.Dropout(0.5))
        mx.eval(model.parameters())

        def head(inputs: Any, positions: Any, cache: Any, model: Any = model) -> Any:
            return model(inputs).reshape(-1, 8)[positions]

        step = gradient_function(model, head, SimpleNamespace(run=lambda: None), compiled=compiled)  # type: ignore[arg-type]
        optimizer = mlx.optimizers.AdamW(0.1)
        for number in range(3):
            mx.random.seed(number)
            optimizer.update(model, step(batch, 2.0)[1])
            mx.eval(model.parameters(), optimizer.state)
        weights.append(np.array(model.layers[0].weight))
    np.testing.assert_allclose(weights[0], weights[1], atol=1e-5)


class TestLayersComputedTwice:
    @pytest.mark.parametrize("fine_tune_type", ["lora", "dora"])
    def test_dropout_draws_the_same_mask_both_times(
        self, model_folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fine_tune_type: str
    ) -> None:
        write_rows(tmp_path / "data" / "train.jsonl", 6)
        request = train_request(
            model_folder("llama"),
            tmp_path,
            fine_tune_type=fine_tune_type,
            lora={"dropout": 0.3},
            train={"gradient_checkpointing": True},
        )
        found, *_ = ours(request)
        monkeypatch.setattr(mx, "checkpoint", lambda function: function)
        once, *_ = ours(request)
        assert_same(found, once)

    def test_mlx_s_own_dropout_does_too(self, model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nn.Dropout, "__call__", cpu_kernels._Original.dropout)
        found = []
        for checkpoint in (mx.checkpoint, lambda function: function):
            monkeypatch.setattr(mx, "checkpoint", checkpoint)
            model = load_base(str(model_folder("llama"))).model
            add_adapter(model, "lora", LoraConfig(rank=4, dropout=0.3), seed=0)
            stir(model)
            recompute_layers(model)
            model.train()
            mx.random.seed(3)
            inputs = mx.array([[5, 6, 7, 8, 9, 10]])
            step = nn.value_and_grad(model, lambda model=model, inputs=inputs: (model(inputs) ** 2).mean())
            found.append(read(step()))
        assert_same(found[0], found[1])

    def test_two_layers_and_two_steps_draw_different_masks(self, model_folder: ModelFolder) -> None:
        model = load_base(str(model_folder("llama"))).model
        add_adapter(model, "lora", LoraConfig(rank=4, dropout=0.5, keys=("self_attn.q_proj",)), seed=0)
        recompute_layers(model)
        model.train()
        drawn = []

        def drop(layer: Any, x: Any) -> Any:
            drawn.append(np.array(mx.random.bernoulli(0.5, (64,))))
            return x

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nn.Dropout, "__call__", drop)
            mx.random.seed(0)
            mx.eval(model(mx.array([[1, 2]])), model(mx.array([[1, 2]])))
        assert len({mask.tobytes() for mask in drawn}) == len(drawn) == 4

    def test_it_needs_less_memory(self, tmp_path: Path) -> None:
        folder = make_model(tmp_path / "deep", layers=8)
        peaks = []
        for twice in (False, True):
            model = load_base(str(folder)).model
            add_adapter(model, "lora", LoraConfig(rank=4), seed=0)
            if twice:
                recompute_layers(model)
            model.train()
            inputs = mx.ones((8, 128), mx.int32)
            mx.eval(model.parameters(), inputs)
            before = mx.get_active_memory()
            mx.reset_peak_memory()
            step = nn.value_and_grad(model, lambda model=model, inputs=inputs: model.model(inputs).mean())
            mx.eval(step())
            peaks.append(mx.get_peak_memory() - before)
        assert peaks[1] < 0.5 * peaks[0]

    def test_other_models_of_the_class_and_evaluation_are_left_alone(
        self, model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, other = (load_base(str(model_folder("llama"))).model for _ in range(2))
        add_adapter(one, "lora", LoraConfig(rank=4), seed=0)
        weights = tree_flatten(one.parameters())
        recompute_layers(one)
        calls = []
        original = mx.checkpoint
        monkeypatch.setattr(mx, "checkpoint", lambda function: calls.append(function) or original(function))
        inputs = mx.array([[1, 2, 3]])
        one.train()
        other.train()
        logits = [np.array(other(inputs))]
        assert not calls
        logits.append(np.array(one(inputs)))
        assert len(calls) == len(one.layers)
        one.eval()
        logits.append(np.array(one(inputs)))
        assert len(calls) == len(one.layers)
        np.testing.assert_array_equal(logits[0], logits[1])
        np.testing.assert_array_equal(logits[0], logits[2])
        assert all(
            value is before for (_, value), (_, before) in zip(tree_flatten(one.parameters()), weights, strict=True)
        )
