"""A student's class probabilities against scoring each label on its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_students import CORPUS, LABELS, PROMPT, train_here, train_request

from mlxdistill.student.base import Base, load_base
from mlxdistill.student.encoding import RowEncoder
from mlxdistill.student.head import SupervisedHead
from mlxdistill.student.predict import LabelScorer

ModelFolder = Callable[[str], Path]
TASKS = {
    "one token each": (("a", "a"), ("b", "b"), ("c", "c")),
    "several tokens, one nested": LABELS,
    "long shared beginnings": (("x", "not sure"), ("y", "not sure at all"), ("z", "not so"), ("w", "never mind it")),
}


def brute_force(base: Base, encoder: RowEncoder, prompt: tuple[int, ...]) -> np.ndarray:
    """Each label's path on its own, one row at a time, with all logits, in float64."""
    import mlx.core as mx

    assert encoder.trie is not None
    scores = []
    for path in encoder.trie.paths:
        logits = np.array(base.model(mx.array([[*prompt, *path]])), np.float64)[0]
        logarithms = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        logarithms -= logits.max(-1, keepdims=True)
        scores.append(sum(logarithms[len(prompt) - 1 + place, token] for place, token in enumerate(path)))
    likelihoods = np.exp(np.array(scores) - max(scores))
    return likelihoods / likelihoods.sum()


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2"])
@pytest.mark.parametrize("task", TASKS)
def test_probabilities_are_those_of_each_label_scored_alone(model_folder: ModelFolder, kind: str, task: str) -> None:
    base = load_base(str(model_folder(kind)))
    encoder = RowEncoder(base.tokenizer, labels=TASKS[task], prompt=PROMPT, max_tokens=200)
    prompts = [encoder.prompt_tokens("r", text)[0] for text in [*CORPUS, "", "x" * 60, *CORPUS]]
    expected = np.array([brute_force(base, encoder, prompt) for prompt in prompts])
    assert encoder.trie is not None
    for batch_tokens in (1, 300, 4096):
        scorer = LabelScorer(SupervisedHead(base.model), 2, encoder.trie, batch_tokens=batch_tokens, multiple=4)
        # gemma2's own attention takes no mask of a row's own, so its labels are scored with their prompt run again.
        assert scorer.continues == (len(encoder.trie.nodes) > 1 and kind != "gemma2")
        found = scorer.score(prompts)
        np.testing.assert_allclose(found, expected, atol=2e-5)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
        scorer.continues = False
        np.testing.assert_allclose(scorer.score(prompts), expected, atol=2e-5)
    assert expected.std(axis=0).max() > 1e-4


def test_a_nested_verbalizer_does_not_hold_the_longer_ones_probability(model_folder: ModelFolder) -> None:
    base = load_base(str(model_folder("llama")))
    encoder = RowEncoder(base.tokenizer, labels=LABELS, prompt=PROMPT, max_tokens=200)
    assert encoder.trie is not None
    end = base.tokenizer.frame(("user", "assistant")).end_of_turn
    assert encoder.trie.paths[1][-1] == end
    assert encoder.trie.paths[2][-1] != end


def test_validation_accuracy_is_that_of_prediction_for_labels_that_differ_at_once(
    model_folder: ModelFolder, work: Path
) -> None:
    import json

    from mlxdistill.student.adapter import load_adapter

    labels = (("ok", "a"), ("bad", "b"))
    for name in ("train", "valid"):
        path = work / "data" / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for number, row in enumerate(rows):
            row["label"], row["messages"][1]["content"] = labels[number % 2]
            row["probabilities"] = None
        path.write_text("\n".join(json.dumps(row) for row in rows))
    request = train_request(model_folder("llama"), work, labels=labels, train={"validations_per_epoch": 1})
    result, _ = train_here(request)
    base = load_base(str(model_folder("llama")))
    load_adapter(base.model, request.output)
    encoder = RowEncoder(base.tokenizer, labels=labels, prompt=PROMPT, max_tokens=128)
    assert encoder.trie is not None
    texts = [row["messages"][0]["content"].removeprefix(PROMPT.head) for row in rows]
    scorer = LabelScorer(SupervisedHead(base.model), 2, encoder.trie, batch_tokens=512, multiple=16)
    found = scorer.score([encoder.prompt_tokens("r", text)[0] for text in texts]).argmax(axis=1)
    right = sum(labels[number][0] == row["label"] for number, row in zip(found, rows, strict=True)) / len(rows)
    best = next(event for event in result.history if event.step == result.best_step)
    assert best.valid_accuracy == pytest.approx(right)
