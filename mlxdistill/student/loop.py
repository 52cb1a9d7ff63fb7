"""The training loop.

Everything that decides a step comes from the request and the step's number: the rows from (seed, epoch), dropout from
(seed, step), the learning rate from the step. So a training that goes on from a checkpoint takes the same steps, to the
bit, as one that never stopped.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from mlxdistill.config.models import TrainConfig
from mlxdistill.errors import MlxDistillError
from mlxdistill.student.adapter import adapter_weights
from mlxdistill.student.batches import COMPILED_MULTIPLE, UNCOMPILED_MULTIPLE, Batch, epoch_batches, padding_efficiency
from mlxdistill.student.checkpoints import Checkpoint, Checkpoints
from mlxdistill.student.encoding import EncodedRow
from mlxdistill.student.head import SupervisedHead
from mlxdistill.student.losses import arrays, gradient_function
from mlxdistill.student.requests import TrainEvent
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
    """What is trained on what: the model with its LoRA layers and its head, the rows, and how targets are made."""

    model: Any
    head: SupervisedHead
    train: list[EncodedRow]
    valid: list[EncodedRow]
    builder: TargetBuilder


class Training:
    """One training, begun or gone on with.

    Attributes:
        best: the weights of the best validation, under mlx-lm's names.
    """

    def __init__(
        self, material: Material, config: TrainConfig, checkpoints: Checkpoints, reporter: Reporter, *, compiled: bool
    ) -> None:
        import mlx.optimizers

        self._material = material
        self._config = config
        self._checkpoints = checkpoints
        self._reporter = reporter
        self._lengths = [len(row.tokens) - 1 for row in material.train]
        self._per_epoch = -(-len(material.train) // config.batch_size)
        self.total = self._per_epoch * config.epochs
        self._validated = _validation_steps(self._per_epoch, config.validations_per_epoch)
        self._multiple = COMPILED_MULTIPLE if compiled else UNCOMPILED_MULTIPLE
        self._validator = Validator(material.head, material.valid, material.builder, config.batch_size, self._multiple)
        self._optimizer = mlx.optimizers.AdamW(
            learning_rate=config.learning_rate, weight_decay=config.weight_decay, bias_correction=True
        )
        self._optimizer.init(material.model.trainable_parameters())
        self._gradients = gradient_function(material.model, material.head, compiled=compiled)
        self.state = TrainState()
        self.best: dict[str, Any] = {}
        self._session_started = 0.0
        self._seconds_before = 0.0

    def run(self) -> None:
        """Trains to the end, from the newest checkpoint if there is one.

        Raises StopRequested after a checkpoint when asked to stop, MlxDistillError after three non-finite steps in a
        row.
        """
        self._resume()
        self._session_started = time.monotonic()
        self._seconds_before = self.state.seconds
        saved = time.monotonic()
        batches: list[Batch] = []
        epoch = -1
        while not self.state.finished:
            if epoch != (epoch := self.state.step // self._per_epoch):
                batches = self._batches(epoch)
            self._step(batches[self.state.step % self._per_epoch])
            validated = (self.state.step - 1) % self._per_epoch + 1 in self._validated
            event = self._validate() if validated else None
            if self.state.step == self.total:
                self.state.finished = True
            stop = self._reporter.stop_requested and not self.state.finished
            if validated or stop or time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._save()
                saved = time.monotonic()
            if event is not None:
                self._reporter.send(event)
            if stop:
                raise StopRequested

    def padding_efficiency(self) -> float:
        """Over all epochs."""
        batches = [batch for epoch in range(self._config.epochs) for batch in self._batches(epoch)]
        return padding_efficiency(self._lengths, batches)

    def _batches(self, epoch: int) -> list[Batch]:
        return epoch_batches(
            self._lengths, self._config.batch_size, self._multiple, seed=self._config.seed, epoch=epoch
        )

    def _step(self, batch: Batch) -> None:
        import mlx.core as mx
        import mlx.optimizers

        state, model = self.state, self._material.model
        began = time.monotonic()
        built = self._material.builder.build(self._material.train, batch)
        mx.random.seed(_step_seed(self._config.seed, state.step))
        model.train()
        loss, gradients = self._gradients(arrays(built))
        clipped, norm = mlx.optimizers.clip_grad_norm(gradients, self._config.clip)
        loss_value, norm_value = loss.item(), norm.item()
        if math.isfinite(loss_value) and math.isfinite(norm_value):
            self._optimizer.learning_rate = _learning_rate(self._config, state.step, self.total)
            self._optimizer.update(model, clipped)
            mx.eval(model.trainable_parameters(), self._optimizer.state)
            weight = float(built.weights.sum())
            state.loss_sum += loss_value * weight
            state.weight_sum += weight
            state.gradient_norm = norm_value
            state.bad_in_a_row = 0
        else:
            state.skipped += 1
            state.bad_in_a_row += 1
        state.step += 1
        state.rows += len(batch.rows)
        state.tokens += sum(self._lengths[row] for row in batch.rows)
        state.step_seconds += time.monotonic() - began
        if state.bad_in_a_row == MOST_BAD_STEPS:
            raise self._diverged()
        self._report()

    def _report(self) -> None:
        import mlx.core as mx

        state = self.state
        figures = {
            "rows_per_second": state.rows / state.step_seconds,
            "tokens_per_second": state.tokens / state.step_seconds,
            "peak_memory_gb": mx.get_peak_memory() / 1e9,
        }
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
            learning_rate=_learning_rate(self._config, state.step - 1, self.total),
            gradient_norm=state.gradient_norm,
            skipped_steps=state.skipped,
            best=better,
        )
        state.history.append(event)
        state.loss_sum = state.weight_sum = 0.0
        return event

    def _save(self) -> None:
        from mlx.utils import tree_flatten

        self.state.seconds = self._seconds_before + time.monotonic() - self._session_started
        tensors = {
            "adapter": adapter_weights(self._material.model),
            "optimizer": dict(tree_flatten(self._optimizer.state)),
            "best": self.best,
        }
        self._checkpoints.save(Checkpoint(self.state.step, asdict(self.state), tensors))

    def _resume(self) -> None:
        from mlx.utils import tree_unflatten

        checkpoint, notes = self._checkpoints.load()
        for note in notes:
            self._reporter.note(note)
        if checkpoint is None:
            return
        self.state = TrainState.from_json(checkpoint.state)
        self._material.model.load_weights(list(checkpoint.tensors["adapter"].items()), strict=False)
        self._optimizer.state = tree_unflatten(list(checkpoint.tensors["optimizer"].items()))
        self.best = dict(checkpoint.tensors.get("best", {}))
        if not self.state.finished:
            self._reporter.note(f"going on from the checkpoint of step {self.state.step} of {self.total}")

    def _diverged(self) -> MlxDistillError:
        checkpoint, _ = self._checkpoints.load()
        kept = (
            "no checkpoint was made yet" if checkpoint is None else f"the checkpoint of step {checkpoint.step} is kept"
        )
        return MlxDistillError(
            f"loss or gradient was not finite in {MOST_BAD_STEPS} steps in a row; {kept}",
            where=f"step {self.state.step}",
            hint="lower train.learning_rate or student.lora.scale",
        )


def _validation_steps(per_epoch: int, validations: int) -> frozenset[int]:
    """Steps within an epoch (from 1) after which it is validated; its last step always is one."""
    return frozenset(max(1, round(per_epoch * part / validations)) for part in range(1, validations + 1))


def _learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Linear warm-up, then half a cosine towards 0 (Loshchilov, Hutter: SGDR, 2017). `step` counts from 0."""
    warmup = math.ceil(config.warmup * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _step_seed(seed: int, step: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{step}".encode()).digest()[:8], "little")
