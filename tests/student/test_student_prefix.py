"""What all rows begin with, run once: the same gradients and probabilities as running it in every row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_students import LABELS, PROMPT, SHAPES, Reporter, train_here, train_request, write_rows

from mlxdistill.config.models import LoraConfig
from mlxdistill.student.adapter import add_adapter
from mlxdistill.student.base import load_base
from mlxdistill.student.batches import Batch, padded_length
from mlxdistill.student.encoding import RowEncoder, read_encoded
from mlxdistill.student.head import SupervisedHead
from mlxdistill.student.losses import arrays, gradient_function
from mlxdistill.student.predict import LabelScorer
from mlxdistill.student.prefix import FEWEST_TOKENS, SharedPrefix, shared_beginning
from mlxdistill.student.targets import TargetBuilder, TargetSettings

ModelFolder = Callable[[str], Path]


def loss_and_gradients(folder: Path, work: Path, *, share: bool) -> tuple[float, dict[str, Any], int]:
    from mlx.utils import tree_flatten, tree_map

    base = load_base(str(folder))
    encoder = RowEncoder(base.tokenizer, labels=LABELS, prompt=PROMPT, max_tokens=128)
    rows = read_encoded(work / "data" / "train.jsonl", encoder)
    add_adapter(base.model, "lora", LoraConfig(rank=4, scale=8.0, layers=-1), seed=0)
    # A LoRA that is zero on one side has zero gradients on the other.
    base.model.update(tree_map(lambda value: value + 0.02, base.model.trainable_parameters()))
    head = SupervisedHead(base.model)
    beginning = shared_beginning((row.tokens, row.first_target) for row in rows) if share else ()
    prefix = SharedPrefix(head, len(base.model.layers), beginning)
    longest = max(len(row.tokens) - 1 - prefix.tokens for row in rows)
    batch = Batch(tuple(range(len(rows))), padded_length(longest, 4))
    builder = TargetBuilder(encoder.trie, TargetSettings(0.5, 1.0), prefix.tokens)
    step = gradient_function(base.model, head, prefix, compiled=False)
    loss, gradients = step(arrays(builder.build(rows, batch)), builder.weight(rows))
    return loss.item(), {name: np.array(value) for name, value in tree_flatten(gradients)}, prefix.tokens


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_gradients_are_those_of_running_every_row_whole(model_folder: ModelFolder, work: Path, kind: str) -> None:
    loss, gradients, shared = loss_and_gradients(model_folder(kind), work, share=True)
    expected_loss, expected, nothing = loss_and_gradients(model_folder(kind), work, share=False)
    assert shared >= FEWEST_TOKENS
    assert nothing == 0
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert gradients.keys() == expected.keys()
    for name, value in expected.items():
        assert np.abs(value).max() > 0
        assert np.abs(gradients[name] - value).max() <= 1e-5 * np.abs(value).max()


@pytest.mark.parametrize("labels", [LABELS, (("ok", "ok"), ("bad", "bad"))])
def test_probabilities_are_those_of_running_every_prompt_whole(
    model_folder: ModelFolder, labels: tuple[tuple[str, str], ...]
) -> None:
    base = load_base(str(model_folder("llama")))
    encoder = RowEncoder(base.tokenizer, labels=labels, prompt=PROMPT, max_tokens=128)
    prompts = [encoder.prompt_tokens("", text)[0] for text in ("late again", "7 days", "", "a much longer one, again")]
    head = SupervisedHead(base.model)
    found = [
        LabelScorer(head, 2, encoder.trie, batch_tokens=256, multiple=4, beginning=beginning).score(prompts)
        for beginning in (encoder.beginning(), (), prompts[0])
    ]
    assert len(encoder.beginning()) >= FEWEST_TOKENS
    assert np.abs(found[0] - found[1]).max() < 1e-6
    assert np.abs(found[0] - found[2]).max() < 1e-6


def test_the_beginning_ends_before_the_position_that_predicts_the_answer() -> None:
    assert shared_beginning([((1, 2, 3, 4), 3), ((1, 2, 3, 5), 3)]) == (1, 2)
    assert shared_beginning([((1, 2, 3, 4), 3), ((1, 7, 3, 4), 3)]) == (1,)
    assert shared_beginning([((1, 2, 3), 1)]) == ()


def test_a_model_that_cannot_go_on_runs_every_row_whole_and_says_so(
    model_folder: ModelFolder, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharedPrefix, "_probe", lambda self: False)
    write_rows(work / "data" / "train.jsonl", 8)
    _, reporter = train_here(train_request(model_folder("llama"), work, train={"epochs": 1}), Reporter())
    assert any("shared beginning" in note for note in reporter.notes)


def test_a_wrong_continuation_is_noticed(model_folder: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxdistill.student.continuation import RecordedLayer

    head = SupervisedHead(load_base(str(model_folder("llama"))).model)
    tokens = tuple(range(1, 20))
    assert SharedPrefix(head, 2, tokens).tokens == len(tokens)
    monkeypatch.setattr(RecordedLayer, "offset", property(lambda self: 0, lambda self, value: None), raising=False)
    assert SharedPrefix(head, 2, tokens).tokens == 0
