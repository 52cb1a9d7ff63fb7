"""Texts become hidden states of the base: each its own, whatever shares a batch with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_students import LABELS, PROMPT, Reporter

from mlxdistill.errors import ModelError
from mlxdistill.student import embedding
from mlxdistill.student.embedding import open_embedder
from mlxdistill.student.requests import PredictQuestion, PredictRequest

TEXTS = [("a", "bad badly"), ("b", "thank you very much, everything arrived in time"), ("c", "bad badly"), ("d", "")]


def request(model: Path, batch_tokens: int = 4096) -> PredictRequest:
    return PredictRequest(str(model), None, None, LABELS, PROMPT, 64, batch_tokens)


def states(model: Path, batch_tokens: int) -> NDArray[np.float32]:
    """As a child process would send them."""
    reporter: Any = Reporter()
    open_embedder(request(model, batch_tokens), reporter)(PredictQuestion(tuple(TEXTS)), reporter)
    return np.concatenate([part.states for part in reporter.sent])


def test_states_come_in_the_order_of_the_rows(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_folder("llama")
    together = states(model, 4096)
    assert together.shape == (4, 64)
    assert together.dtype == np.float32
    assert np.allclose(together[0], together[2], atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-2)
    assert np.allclose(states(model, 1), together, atol=1e-4)
    monkeypatch.setattr(embedding, "EMBEDDED_AT_ONCE", 3)
    assert np.allclose(states(model, 4096), together, atol=1e-4)


def test_a_model_without_a_body_is_refused(
    model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "transformer_body", lambda model: None)
    with pytest.raises(ModelError, match="hidden states") as caught:
        open_embedder(request(model_folder("llama")), None)  # type: ignore[arg-type]
    assert "tfidf" in str(caught.value.hint)
