"""What a training will take, before any weights are read: rows, tokens, steps, memory.

A process of its own opens the model without its weights, reads the rows of the training files with the student's own
tokenizer, as a training does, and asks the memory model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxdistill.platform.cores import thread_environment
from mlxdistill.platform.metal import has_metal, set_memory_limits
from mlxdistill.student.adapter import add_adapter
from mlxdistill.student.base import empty, load_base, most_tokens
from mlxdistill.student.batches import padding_efficiency
from mlxdistill.student.cpu_kernels import use_cpu_kernels
from mlxdistill.student.encoding import RowEncoder, read_encoded
from mlxdistill.student.head import SupervisedHead
from mlxdistill.student.loop import Material
from mlxdistill.student.memory_model import MemoryModel, MemoryPlan, Place, this_place, working_set_bytes
from mlxdistill.student.prefix import SharedPrefix, shared_beginning
from mlxdistill.student.recomputation import recompute_layers
from mlxdistill.student.requests import TrainRequest
from mlxdistill.student.targets import TargetBuilder, TargetSettings
from mlxdistill.tasks.protocols import Progress
from mlxdistill.workers import Worker
from mlxdistill.workers.channel import Channel

QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a training will take.

    Attributes:
        rows, valid_rows: to learn from, and to validate on; `truncated`: of both, those that lose their text's end.
        lengths: of the rows' tokens, the quantiles 0.5, 0.9, 0.99 and 1.
        shared_tokens: with which all rows begin; they are run once a batch.
        rows_per_epoch: those after `train.class_balance`, copies counted.
        steps, tokens: of all epochs, where training does not stop early; tokens without padding.
        padding_efficiency: share of the computed positions that hold tokens.
        memory: of the batch size that is configured, or of the largest that fits, or of one row where none does.
        working_set: bytes that a training should use at most.
        largest_batch: the most rows a step that fit, with `train.batch_tokens` as configured; None where not one does.
        batch_tokens: for which the configured batch size fits; `checkpointing`: whether it does with
            `train.gradient_checkpointing`. None where the configuration fits, or has it set.
    """

    rows: int
    valid_rows: int
    truncated: int
    lengths: tuple[int, ...]
    shared_tokens: int
    rows_per_epoch: int
    steps: int
    tokens: int
    padding_efficiency: float
    memory: MemoryPlan
    working_set: int
    largest_batch: int | None
    batch_tokens: int | None
    checkpointing: bool | None

    @property
    def fits(self) -> bool:
        return self.memory.needed <= self.working_set


def plan_training(request: TrainRequest, progress: Progress) -> TrainingPlan:
    """Plans the training of the rows in `request.data`; writes nothing.

    Raises ModelError and DataError as the training would before its first step.
    """
    with Worker(
        "mlxdistill.student.planning:open_planner",
        request,
        name="student",
        progress=progress,
        environment=thread_environment(),
    ) as worker:
        for _ in worker.ask("plan"):
            pass
        result: TrainingPlan = worker.result
        return result


def open_planner(request: TrainRequest, channel: Channel) -> Callable[[object, Channel], TrainingPlan]:
    """In the child."""
    set_memory_limits()
    if not has_metal():
        use_cpu_kernels()
    return lambda question, reporter: plan(request)


def plan(request: TrainRequest) -> TrainingPlan:
    """As `plan_training`, in this process."""
    material, opening = unread_material(request)
    place = this_place(opening)
    model = MemoryModel(material, request.train, place)
    working_set = working_set_bytes()
    largest = model.largest_batch(working_set)
    configured = request.train.batch_size
    batch_size = (largest or 1) if configured == "auto" else configured
    memory = model.plan(batch_size, request.train.batch_tokens)
    batch_tokens, checkpointing = None, None
    if memory.needed > working_set:
        batch_tokens = model.largest_batch_tokens(batch_size, working_set)
        checkpointing = _fits_checkpointed(material, request, place, batch_size, working_set)
    rows = material.train
    tokens = np.array([len(row.tokens) - 1 for row in rows])
    return TrainingPlan(
        rows=len(rows),
        valid_rows=len(material.valid),
        truncated=sum(row.truncated for row in [*rows, *material.valid]),
        lengths=tuple(int(length) for length in np.quantile([len(row.tokens) for row in rows], QUANTILES)),
        shared_tokens=material.prefix.tokens,
        rows_per_epoch=model.epochs.rows,
        steps=model.epochs.count_steps(batch_size) * request.train.epochs,
        tokens=sum(int(tokens @ model.epochs.copies(epoch)) for epoch in range(request.train.epochs)),
        padding_efficiency=padding_efficiency(model.lengths, model.batches(batch_size)),
        memory=memory,
        working_set=working_set,
        largest_batch=largest,
        batch_tokens=batch_tokens,
        checkpointing=checkpointing,
    )


def unread_material(request: TrainRequest) -> tuple[Material, int]:
    """What is trained on what, with a model that has shapes and no weights, and the bytes of opening it.

    A float base is opened whole before it is quantized.
    """
    opening = _model_bytes(load_base(request.model, read=False).model) if request.quantize else 0
    base = load_base(request.model, request.quantize, read=False)
    opening = max(opening, _model_bytes(base.model))
    encoder = RowEncoder(
        base.tokenizer,
        labels=request.labels,
        prompt=request.prompt,
        max_tokens=most_tokens(request.max_tokens, base.config),
        soft=request.train.soft_weight > 0,
    )
    rows = read_encoded(request.data / "train.jsonl", encoder)
    valid = request.data / "valid.jsonl"
    validation = read_encoded(valid, encoder) if valid.exists() else []
    add_adapter(base.model, request.fine_tune_type, request.lora, seed=request.train.seed)
    empty(base.model)
    head = _UntriedHead(base.model)
    shared = shared_beginning((row.tokens, row.first_target) for row in [*rows, *validation])
    prefix = _UntriedPrefix(head, len(base.model.layers), shared)
    if request.train.gradient_checkpointing:
        recompute_layers(base.model)
    settings = TargetSettings(request.train.soft_weight, request.train.temperature)
    builder = TargetBuilder(encoder.trie, settings, prefix.tokens)
    return Material(base.model, head, prefix, rows, validation, builder), opening


class _UntriedHead(SupervisedHead):
    """Whether a model's head gives the same logits at some positions as at all cannot be seen without weights."""

    def _probe(self) -> bool:
        return True


class _UntriedPrefix(SharedPrefix):
    def _probe(self) -> bool:
        return True


def _fits_checkpointed(
    material: Material, request: TrainRequest, place: Place, batch_size: int, working_set: int
) -> bool | None:
    if request.train.gradient_checkpointing:
        return None
    recompute_layers(material.model)
    model = MemoryModel(material, request.train, place)
    return model.plan(batch_size, request.train.batch_tokens).needed <= working_set


def _model_bytes(model: Any) -> int:
    from mlx.utils import tree_flatten

    return sum(array.nbytes for _, array in tree_flatten(model.parameters()))
