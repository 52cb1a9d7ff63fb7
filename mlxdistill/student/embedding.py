"""Texts as the student's base sees them before any training: hidden states, in a process of its own.

The states of the last layer say more of a text than its words where the base has read much; a linear model on them
needs few rows. Each text gives their mean over its own tokens. (The state from which the answer would be written, alone
or beside the mean, told less of GPT-4's errors in Jigsaw comments.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.errors import ModelError
from mlxdistill.platform.cores import thread_environment
from mlxdistill.platform.metal import has_metal
from mlxdistill.student.base import load_base, most_tokens
from mlxdistill.student.batches import COMPILED_MULTIPLE, UNCOMPILED_MULTIPLE, even_batches, token_matrix
from mlxdistill.student.device import prepare_device
from mlxdistill.student.encoding import RowEncoder
from mlxdistill.student.head import transformer_body
from mlxdistill.student.requests import PredictQuestion, PredictRequest
from mlxdistill.tasks.protocols import Progress
from mlxdistill.workers import Worker
from mlxdistill.workers.channel import Channel

EMBEDDED_AT_ONCE = 512
MOST_ROWS = 64

States = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EmbeddedRows:
    """What an embedder's process sends: the states [n, width] of some rows, in their order."""

    states: States


def embed(request: PredictRequest, rows: Sequence[tuple[str, str]], progress: Progress) -> States:
    """The states [rows, width] of texts, given as pairs of id and text.

    Args:
        request: the base; of a trained student, with its adapter.

    Raises ModelError where the base cannot be read, or does not show its states, DataError for a row without room for
    its text, WorkerError, Interrupted.
    """
    entry = "mlxdistill.student.embedding:open_embedder"
    with Worker(entry, request, name="student", progress=progress, environment=thread_environment()) as worker:
        parts = [part.states for part in worker.ask(PredictQuestion(tuple(rows)))]
    return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def open_embedder(request: PredictRequest, channel: Channel) -> Callable[[PredictQuestion, Channel], None]:
    """Opens the base; the returned function sends `EmbeddedRows`."""
    prepare_device()
    base = load_base(request.model, request.quantize)
    base.model.eval()
    body = transformer_body(base.model)
    if body is None:
        raise ModelError(
            "the model does not show its hidden states", where=request.model, hint="set filter.noise_features: tfidf"
        )
    limit = most_tokens(request.max_tokens, base.config)
    encoder = RowEncoder(base.tokenizer, labels=request.labels, prompt=request.prompt, max_tokens=limit)
    shared = len(encoder.beginning())
    multiple = COMPILED_MULTIPLE if has_metal() else UNCOMPILED_MULTIPLE

    def answer(question: PredictQuestion, reporter: Channel) -> None:
        for start in range(0, len(question.rows), EMBEDDED_AT_ONCE):
            rows = question.rows[start : start + EMBEDDED_AT_ONCE]
            prompts = [encoder.prompt_tokens(row_id, text)[0] for row_id, text in rows]
            reporter.send(EmbeddedRows(_states(body, prompts, shared, request.batch_tokens, multiple)))
            reporter.advance(start + len(rows), len(question.rows))

    return answer


def _states(body: Any, prompts: Sequence[Sequence[int]], shared: int, batch_tokens: int, multiple: int) -> States:
    import mlx.core as mx

    lengths = [len(prompt) for prompt in prompts]
    found: dict[int, States] = {}
    for batch in even_batches(lengths, batch_tokens, MOST_ROWS, multiple):
        hidden = body(mx.array(token_matrix([prompts[row] for row in batch.rows], batch.length))).astype(mx.float32)
        ends = mx.array([lengths[row] for row in batch.rows])[:, None]
        starts = mx.minimum(shared, ends - 1)
        places = mx.arange(batch.length)[None]
        own = ((places >= starts) & (places < ends)).astype(mx.float32)
        states = np.array((hidden * own[:, :, None]).sum(axis=1) / (ends - starts))
        found |= dict(zip(batch.rows, states, strict=True))
    return np.stack([found[row] for row in range(len(prompts))])
