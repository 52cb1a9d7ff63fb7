"""The training loop.

Everything that decides a step comes from the request and the step's number: the rows from (seed, epoch), dropout from
(seed, step), the learning rate from the step. So a training that goes on from a checkpoint takes the same steps, to the
bit, as one that never stopped. A step is computed in as many parts as memory asks for; the gradients of its parts add
up to those of the whole, each supervised position counting the same.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from mlxdistill.config.models import TrainConfig
from mlxdistill.student.adapter import adapter_weights
from mlxdistill.student.balance import Epochs
from mlxdistill.student.batches import (
    COMPILED_MULTIPLE,
    UNCOMPILED_MULTIPLE,
    Batch,
    padded_length,
    padding_efficiency,
    parts,
)
from mlxdistill.student.checkpoints import Checkpoint, Checkpoints
from mlxdistill.student.divergence import NotFinite
from mlxdistill.student.dynamics import Record, row_figures
from mlxdistill.student.encoding import EncodedRow
from mlxdistill.student.head import SupervisedHead
from mlxdistill.student.losses import arrays, gradient_function
from mlxdistill.student.parallel import Company, RanksParted
from mlxdistill.student.prefix import SharedPrefix
from mlxdistill.student.reports import Reports
from mlxdistill.student.requests import TrainEvent, TrainStart
from mlxdistill.student.schedule import learning_rate
from mlxdistill.student.state import TrainState
from mlxdistill.student.targets import TargetBuilder
from mlxdistill.student.validation import Validator
from mlxdistill.workers.channel import StopRequested

MOST_BAD_STEPS = 3
CHECKPOINT_SECONDS = 120.0


class Reporter(Protocol):
    """The loop's end of the pipe; `workers.channel.Channel` is one."""

    @property
    def stop_requested(self) -> bool: ...

    def advance(self, done: int, total: int, **figures: float) -> None: ...

    def note(self, message: str) -> None: ...

    def send(self, payload: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class Material:
    """What is trained on what: the model with its adapter, its head, what all rows begin with, the rows, and how
    targets are made of them."""

    model: Any
    head: SupervisedHead
    prefix: SharedPrefix
    train: list[EncodedRow]
    valid: list[EncodedRow]
    builder: TargetBuilder


class Training:
    """One training, begun or gone on with.

    Attributes:
        checkpoints: where it goes on from.
        state: where it stands.
        epochs: which rows each epoch has.
        best: the weights of the best validation, under mlx-lm's names.
        planned_bytes: the process's peak as foreseen, or None.
        record: of how it came to each row, where that is wanted.
    """

    def __init__(
        self,
        material: Material,
        config: TrainConfig,
        batch_size: int,
        checkpoints: Checkpoints,
        reporter: Reporter,
        company: Company,
        *,
        compiled: bool,
        planned_bytes: int | None = None,
    ) -> None:
        import mlx.optimizers

        self._material = material
        self._config = config
        self._batch_size = batch_size
        self.checkpoints = checkpoints
        self._reporter = reporter
        self._company = company
        self._lengths = [len(row.tokens) - 1 - material.prefix.tokens for row in material.train]
        self.epochs = Epochs(material.train, self._lengths, config)
        self._per_epoch = self.epochs.count_steps(batch_size)
        self.total = self._per_epoch * config.epochs
        self._validated = _validation_steps(self._per_epoch, config.validations_per_epoch)
        self._multiple = COMPILED_MULTIPLE if compiled else UNCOMPILED_MULTIPLE
        self._validator = Validator(
            material.head,
            material.prefix,
            material.valid,
            material.builder,
            company,
            batch_tokens=config.batch_tokens,
            multiple=self._multiple,
        )
        self._optimizer = mlx.optimizers.AdamW(
            learning_rate=config.learning_rate, weight_decay=config.weight_decay, bias_correction=True
        )
        self._optimizer.init(material.model.trainable_parameters())
        self.record = Record(material.train, config.epochs) if config.record_dynamics else None
        self._gradients = gradient_function(
            material.model, material.head, material.prefix, compiled=compiled, watched=self.record is not None
        )
        self._reports = Reports(reporter, self.total, self._per_epoch)
        self.state = TrainState(batch_size=batch_size)
        self.planned_bytes = planned_bytes
        self.best: dict[str, Any] = {}
        self._session_started = 0.0
        self._seconds_before = 0.0

    def run(self) -> None:
        """Trains to the end, from the newest checkpoint if there is one.

        Raises StopRequested after a checkpoint when asked to stop, NotFinite after three non-finite steps in a row, or
        where there was nothing else.
        """
        self._resume()
        self._reports.begin(self._start(), self.state)
        self._session_started = time.monotonic()
        self._seconds_before = self.state.seconds
        saved = time.monotonic()
        steps: list[tuple[int, ...]] = []
        epoch = -1
        while not self.state.finished:
            if epoch != (epoch := self.state.step // self._per_epoch):
                steps = self._steps(epoch)
            try:
                self._step(steps[self.state.step % self._per_epoch])
            except RanksParted:
                self._save()  # the step was not taken
                raise
            validated = (self.state.step - 1) % self._per_epoch + 1 in self._validated
            if validated:
                self._reports.add(self._validate())
            if self.state.step == self.total:
                self.state.finished = True
            stop = self._company.stop(self._reporter.stop_requested) and not self.state.finished
            if validated or stop or time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save()
                self._reports.send()
                saved = time.monotonic()
            if stop:
                raise StopRequested
        if self.state.skipped == self.state.step:
            raise NotFinite("loss or gradient was not finite in any step")
        if not any(event.best for event in self.state.history):
            raise NotFinite("no validation loss was finite")

    def padding_efficiency(self) -> float:
        """Over all epochs."""
        steps = [rows for epoch in range(self._config.epochs) for rows in self._steps(epoch)]
        return padding_efficiency(self._lengths, [batch for rows in steps for batch in self._parts(rows)])

    def _start(self) -> TrainStart:
        row_lengths = [padded_length(length, self._multiple) for length in self._lengths]
        batches = [batch for rows in self._steps(0) for batch in self._parts(self._company.share(rows))]
        return TrainStart(
            training=self.checkpoints.fingerprint,
            step=self.state.step,
            total_steps=self.total,
            rows=len(self._material.train),
            valid_rows=len(self._material.valid),
            largest_part=max((len(batch.rows) * batch.length for batch in batches), default=0),
            longest_row=max(row_lengths),
            quantized=any(hasattr(module, "scales") for _, module in self._material.model.named_modules()),
        )

    def _steps(self, epoch: int) -> list[tuple[int, ...]]:
        return self.epochs.steps(self._batch_size, epoch)

    def _parts(self, rows: Sequence[int]) -> list[Batch]:
        if not rows:  # of this rank, where there are more ranks than rows in a step
            return []
        return parts(rows, self._lengths, self._config.batch_tokens, self._multiple)

    def _step(self, rows: Sequence[int]) -> None:
        import mlx.core as mx
        import mlx.optimizers

        state, model = self.state, self._material.model
        began = time.monotonic()
        weight = self._material.builder.weight([self._material.train[row] for row in rows])
        loss, gradients = self._loss_and_gradients(rows, weight)
        clipped, norm = mlx.optimizers.clip_grad_norm(gradients, self._config.clip)
        norm_value = norm.item()
        rate = learning_rate(self._config, state.step, self.total)
        if math.isfinite(loss) and math.isfinite(norm_value):
            self._optimizer.learning_rate = rate
            self._optimizer.update(model, clipped)
            mx.eval(model.trainable_parameters(), self._optimizer.state)
            state.count_loss(loss, weight)
            state.gradient_norm = norm_value
            state.bad_in_a_row = 0
        else:
            state.skipped += 1
            state.bad_in_a_row += 1
        state.step += 1
        state.rows += len(rows)
        state.tokens += sum(len(self._material.train[row].tokens) - 1 for row in rows)
        state.step_seconds += time.monotonic() - began
        if state.bad_in_a_row == MOST_BAD_STEPS:
            raise NotFinite(f"loss or gradient was not finite in {MOST_BAD_STEPS} steps in a row")
        self._reports.after_step(state, rate)
        self._report()

    def _loss_and_gradients(self, rows: Sequence[int], weight: float) -> tuple[float, Any]:
        """The mean loss over the supervised positions of a step's rows, by their weights, and its gradients."""
        import mlx.core as mx
        from mlx.utils import tree_map

        model, builder = self._material.model, self._material.builder
        model.train()
        loss: Any = mx.array(0.0)
        gradients: Any = None
        seen: dict[int, tuple[float, float]] = {}
        for number, batch in enumerate(self._parts(self._company.share(rows))):
            number = number * self._company.size + self._company.rank
            mx.random.seed(_part_seed(self._config.seed, self.state.step, number))
            targets = builder.build(self._material.train, batch)
            share, found = self._gradients(arrays(targets), weight)
            if self.record is not None:
                share, losses, chosen = share
                mx.eval(share, losses, chosen, found)
                seen |= row_figures(targets, batch.rows, np.array(losses), np.array(chosen))
            loss = loss + share
            gradients = found if gradients is None else tree_map(mx.add, gradients, found)
            # Each part's activations are let go before the next one's are made.
            mx.eval(loss, gradients)
        if gradients is None:
            gradients = tree_map(mx.zeros_like, model.trainable_parameters())
        watched = self.record.figures(rows, seen) if self.record is not None else {}
        summed, figures = self._company.sum(gradients, {"loss": loss.item(), **watched})
        if self.record is not None:
            self.record.take(self.state.step // self._per_epoch, figures)
        return figures["loss"], summed

    def _report(self) -> None:
        import mlx.core as mx

        state = self.state
        figures = {
            "rows_per_second": state.rows / state.step_seconds,
            "tokens_per_second": state.tokens / state.step_seconds,
            "peak_memory_gb": mx.get_peak_memory() / 1e9,
        }
        if state.skipped:
            figures["skipped_steps"] = state.skipped
        if state.weight_sum:
            figures["loss"] = state.loss_sum / state.weight_sum
        if state.history and state.history[-1].valid_loss is not None:
            figures["valid_loss"] = state.history[-1].valid_loss
        self._reporter.advance(state.step, self.total, **figures)

    def _validate(self) -> TrainEvent:
        state = self.state
        self._material.model.eval()
        found = self._validator.measure()
        better = found is None or (
            math.isfinite(found.loss) and (state.best_loss is None or found.loss < state.best_loss)
        )
        if better:
            self.best = adapter_weights(self._material.model)
            state.best_step = state.step
            state.best_loss = None if found is None else found.loss
        state.worse_in_a_row = 0 if better else state.worse_in_a_row + 1
        if state.worse_in_a_row >= self._config.patience and state.step < self.total:
            state.finished = state.stopped_early = True
        event = TrainEvent(
            step=state.step,
            epoch=state.step / self._per_epoch,
            loss=state.loss_sum / state.weight_sum if state.weight_sum else None,
            valid_loss=found.loss if found is not None and math.isfinite(found.loss) else None,
            valid_accuracy=None if found is None else found.accuracy,
            learning_rate=learning_rate(self._config, state.step - 1, self.total),
            gradient_norm=state.gradient_norm,
            skipped_steps=state.skipped,
            best=better,
        )
        state.history.append(event)
        state.loss_sum = state.weight_sum = 0.0
        return event

    def _save(self) -> None:
        if self._company.rank == 0:
            self.state.seconds = self._seconds_before + time.monotonic() - self._session_started
            self.checkpoints.save(self._checkpoint())

    def _checkpoint(self) -> Checkpoint:
        from mlx.utils import tree_flatten

        tensors = {
            "adapter": adapter_weights(self._material.model),
            "optimizer": dict(tree_flatten(self._optimizer.state)),
            "best": self.best,
        }
        if self.record is not None:
            tensors["dynamics"] = self.record.tensors()
        return Checkpoint(self.state.step, asdict(self.state), tensors)

    def _resume(self) -> None:
        from mlx.utils import tree_unflatten

        checkpoint, notes = self.checkpoints.load()
        for note in notes:
            self._reporter.note(note)
        checkpoint = self._company.first(checkpoint or self._checkpoint())
        self.state = TrainState.from_json(checkpoint.state)
        self._material.model.load_weights(list(checkpoint.tensors["adapter"].items()), strict=False)
        self._optimizer.state = tree_unflatten(list(checkpoint.tensors["optimizer"].items()))
        self.best = dict(checkpoint.tensors.get("best", {}))
        if self.record is not None and "dynamics" in checkpoint.tensors:
            self.record.restore(checkpoint.tensors["dynamics"])
        if self.state.step and not self.state.finished:
            self._reporter.note(f"going on from the checkpoint of step {self.state.step} of {self.total}")


def _validation_steps(per_epoch: int, validations: int) -> frozenset[int]:
    """Steps within an epoch (from 1) after which it is validated; its last step always is one."""
    return frozenset(max(1, round(per_epoch * part / validations)) for part in range(1, validations + 1))


def _part_seed(seed: int, step: int, part: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{step}:{part}".encode()).digest()[:8], "little")
