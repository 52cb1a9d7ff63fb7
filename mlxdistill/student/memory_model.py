"""How much memory a training takes at its peak, said before it starts.

A training has moments that take most, each of its own kind: the model is opened; the gradients of the largest batch are
computed; the optimizer updates the weights; a checkpoint is written; the validation rows are run. The first is the sum
of the tensors, the fourth that of their copies. The others are computed by MLX from graphs, which are made here of the
very functions that the training runs and of its own largest batches, and followed operation by operation (see
`graph_memory`). Nothing of that is fitted to measurements; `scripts/bench_plan.py` compares it with them. Of what the
process takes beside, the gaps in its heap are known only by measuring.

Figures are those of MLX's CPU backend. On a Mac, MLX fuses operations that change numbers one by one, and keeps fewer
results; what is said here is then too much rather than too little.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlxdistill.config.models import TrainConfig
from mlxdistill.errors import MlxDistillError
from mlxdistill.platform.memory import memory_bytes, usable_memory_bytes
from mlxdistill.platform.metal import CACHE_SHARE, has_metal
from mlxdistill.student.balance import Epochs
from mlxdistill.student.batches import (
    COMPILED_MULTIPLE,
    UNCOMPILED_MULTIPLE,
    Batch,
    even_batches,
    padded_length,
    parts,
)
from mlxdistill.student.encoding import EncodedRow
from mlxdistill.student.graph import GraphUnknown, forward_graph, gradient_graph
from mlxdistill.student.graph_memory import GraphMemory, graph_memory
from mlxdistill.student.loop import Material
from mlxdistill.student.losses import Arrays, arrays, loss_share, position_losses
from mlxdistill.student.prefix import go_on
from mlxdistill.student.validation import BATCH_TOKENS, MOST_ROWS

FEWEST_STEPS = 8  # an epoch of fewer is no training
BATCH_SIZES = (64, 48, 32, 24, 16, 12, 8, 4, 2, 1)
COPIES = 5  # of what is trained, while a checkpoint of it, its best and its moments is put together
# glibc's heap shrinks from its end alone, and batches of other lengths leave gaps in it: measured, by bench_plan.py.
HEAP_HOLES = 6
PROCESS_MULTIPLE = 64 * 2**20  # rounded up, so that the same training is planned alike each time
CPU_CACHE_BYTES = 32 * 2**20  # of freed buffers that MLX's CPU allocator keeps (mlx/backend/no_gpu/allocator.cpp)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes of a training at its peak, by what they are for.

    Attributes:
        batch_size: rows of a step; `batch_tokens`: positions computed at once at most, or None.
        moment: what takes most.
        weights: of the base; `adapter`: what is trained, and the best of it, which is kept.
        optimizer: its moments, and gradients.
        activations: what is computed of a batch, but logits; `logits`: numbers for each token of the vocabulary.
        cache: freed memory that MLX keeps for later; it is given back where memory is short.
        process: the program itself, its libraries, the tokenizer and the rows, the gaps in its heap, and what is being
            written to a file.
        mlx_peak: as `mx.get_peak_memory` counts, which may be at another moment.
    """

    batch_size: int
    batch_tokens: int | None
    moment: str
    weights: int
    adapter: int
    optimizer: int
    activations: int
    logits: int
    cache: int
    process: int
    mlx_peak: int

    @property
    def needed(self) -> int:
        """What must be there: all but the cache."""
        return self.weights + self.adapter + self.optimizer + self.activations + self.logits + self.process

    @property
    def peak(self) -> int:
        """The process's peak."""
        return self.needed + self.cache


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training runs, as far as memory follows from it.

    Attributes:
        opening: bytes that opening the model takes at its peak, as MLX counts.
        process: bytes of the process without what MLX counts.
        cache: most bytes that MLX keeps of what is freed.
        holes: how many of the largest buffers that malloc's heap takes it wastes.
        multiple: of which the lengths of batches are multiples.
        ranks: how many share the rows of a step.
    """

    opening: int
    process: int
    cache: int
    multiple: int
    holes: int = 0
    ranks: int = 1


def this_place(opening: int, ranks: int = 1) -> Place:
    """This process. With a model opened, `opening` is MLX's peak so far."""
    import mlx.core as mx

    found = memory_bytes() - mx.get_active_memory() - mx.get_cache_memory()
    process = -(-found // PROCESS_MULTIPLE) * PROCESS_MULTIPLE
    if has_metal():
        return Place(opening, process, int(working_set_bytes() * CACHE_SHARE), COMPILED_MULTIPLE, ranks=ranks)
    return Place(opening, process, CPU_CACHE_BYTES, UNCOMPILED_MULTIPLE, HEAP_HOLES, ranks)


def working_set_bytes() -> int:
    """What a training should use at most: what Metal recommends, or most of the machine's memory."""
    import mlx.core as mx

    return int(mx.device_info()["max_recommended_working_set_size"]) if has_metal() else usable_memory_bytes()


def settled(material: Material, config: TrainConfig, place: Place) -> MemoryPlan | None:
    """The plan of a training, with its batch size found where the configuration leaves it open.

    None where the batch size is given and memory cannot be foreseen. Raises MlxDistillError where it is open, and
    cannot be foreseen either or not even one row fits.
    """
    model = MemoryModel(material, config, place)
    if config.batch_size != "auto":
        with contextlib.suppress(GraphUnknown):
            return model.plan(config.batch_size, config.batch_tokens)
        return None
    found = model.largest_batch(working_set_bytes())
    if found is None:
        message = "not even one row at a time fits into the machine's memory"
        hint = "mlxdistill plan CONFIG says what takes it; use a smaller model, or set student.quantize to 4"
        raise MlxDistillError(message, where="train.batch_size", hint=hint)
    return model.plan(found, config.batch_tokens)


class MemoryModel:
    """Plans one training's memory. The model is as it was afterwards; MLX's random state is another one.

    Attributes:
        lengths: positions that each row to learn from is run at.
        epochs: which rows each epoch has.
    """

    def __init__(self, material: Material, config: TrainConfig, place: Place) -> None:
        from mlx.utils import tree_flatten

        self._material = material
        self._config = config
        self._place = place
        self._trained = tree_flatten(material.model.trainable_parameters())
        self._adapter = sum(array.nbytes for _, array in self._trained)
        self._weights = sum(array.nbytes for _, array in tree_flatten(material.model.parameters())) - self._adapter
        self.lengths = [len(row.tokens) - 1 - material.prefix.tokens for row in material.train]
        self.epochs = Epochs(material.train, self.lengths, config)
        self._known: dict[tuple[int, int, int], GraphMemory] = {}
        self._update: GraphMemory | None = None
        self._validation: GraphMemory | None = None

    def plan(self, batch_size: int, batch_tokens: int | None = None) -> MemoryPlan:
        """The memory of a training with so many rows a step, of which at most `batch_tokens` positions run at once."""
        material, trained, place = self._material, self._adapter, self._place
        batches = self._batches(batch_size, batch_tokens)
        step = max((self._gradients(batch) for batch in self._largest(batches, material.train)), key=_peak)
        in_parts = len(batches) > self.epochs.count_steps(batch_size)
        summed = replace(step, peak=step.peak + trained * in_parts, results=step.results + trained * in_parts)
        update = self._updating()
        updated = GraphMemory(update.peak + trained, update.peak + trained, 0)  # beside the gradients
        moments = {"gradients": summed, "update": updated, "validation": self._validating(), "checkpoint": _NOTHING}
        kept = self._weights + 4 * trained  # what is trained, the best of it so far, and two moments
        mlx = {name: kept + found.peak for name, found in moments.items()} | {"opening": place.opening}
        taken = {**mlx, "checkpoint": mlx["checkpoint"] + COPIES * trained}
        moment = max(taken, key=lambda name: taken[name])
        found = moments.get(moment, _NOTHING)
        opening = moment == "opening"
        return MemoryPlan(
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            moment=moment,
            weights=place.opening if opening else self._weights,
            adapter=0 if opening else 2 * trained,
            optimizer=0 if opening else 2 * trained + found.results,
            activations=found.peak - found.results - found.wide,
            logits=found.wide,
            cache=0 if opening else min(place.cache, step.peak),
            process=place.process + place.holes * step.small + (COPIES * trained if moment == "checkpoint" else 0),
            mlx_peak=max(mlx.values()),
        )

    def largest_batch(self, limit: int) -> int | None:
        """The most rows of a step that fit into `limit` bytes; None where not even one row does.

        At most an eighth of the rows, so that an epoch has some steps.
        """
        most = max(1, self.epochs.rows // FEWEST_STEPS)
        sizes = [size for size in BATCH_SIZES if size <= most]
        low, high = 0, len(sizes)  # of the sizes from `high` on it is known that they fit
        while low < high:
            middle = (low + high) // 2
            if self.plan(sizes[middle], self._config.batch_tokens).needed <= limit:
                high = middle
            else:
                low = middle + 1
        return sizes[low] if low < len(sizes) else None

    def largest_batch_tokens(self, batch_size: int, limit: int) -> int | None:
        """The largest `batch_tokens` with which steps of `batch_size` rows fit into `limit` bytes, if any does."""
        longest = max(padded_length(length, self._place.multiple) for length in self.lengths)
        rows = -(-batch_size // self._place.ranks)
        while rows > 1:
            rows //= 2
            if self.plan(batch_size, rows * longest).needed <= limit:
                return rows * longest
        return None

    def batches(self, batch_size: int) -> list[Batch]:
        """All of an epoch, as computed."""
        return self._batches(batch_size, self._config.batch_tokens)

    def _batches(self, batch_size: int, batch_tokens: int | None) -> list[Batch]:
        multiple = self._place.multiple
        steps = self.epochs.steps(batch_size, 0)
        shares = [step[:: self._place.ranks] for step in steps]
        return [batch for share in shares for batch in parts(share, self.lengths, batch_tokens, multiple)]

    def _gradients(self, batch: Batch) -> GraphMemory:
        material = self._material
        built = material.builder.build(material.train, batch)
        key = (len(batch.rows), batch.length, len(built.positions))
        if key not in self._known:
            self._known[key] = self._traced_gradients(arrays(built))
        return self._known[key]

    def _traced_gradients(self, batch: Arrays) -> GraphMemory:
        import mlx.core as mx
        from mlx.utils import tree_unflatten

        material = self._material
        names = [name for name, _ in self._trained]

        def loss(weights: Sequence[Any], given: Sequence[Any]) -> Any:
            material.model.update(tree_unflatten(list(zip(names, weights, strict=True))))
            return loss_share(material.head, material.prefix, Arrays(*given[1:]), given[0])

        with self._unchanged(training=True):
            graph = gradient_graph(loss, [array for _, array in self._trained], [mx.array(1.0), *_parts(batch)])
        return graph_memory(graph, self._vocabulary)

    def _validating(self) -> GraphMemory:
        """The largest batch of validation rows."""
        if self._validation is None:
            material = self._material
            rows = material.valid[:: self._place.ranks]
            lengths = [len(row.tokens) - 1 - material.prefix.tokens for row in rows]
            most = min(BATCH_TOKENS, self._config.batch_tokens or BATCH_TOKENS)
            batches = even_batches(lengths, most, MOST_ROWS, self._place.multiple)
            built = [material.builder.build(rows, batch) for batch in self._largest(batches, rows)]
            found = [self._traced_validation(arrays(each)) for each in built]
            self._validation = max(found, key=_peak, default=_NOTHING)
        return self._validation

    def _traced_validation(self, batch: Arrays) -> GraphMemory:
        import mlx.core as mx

        def measured(given: Sequence[Any]) -> Sequence[Any]:
            batch = Arrays(*given)
            logits = self._material.head(batch.inputs, batch.positions, go_on(self._material.prefix.run()))
            loss = mx.sum(position_losses(logits, batch.tokens, batch.target) * batch.weights)
            return [loss, mx.take_along_axis(logits, batch.tokens, axis=-1)]

        with self._unchanged(training=False):
            graph = forward_graph(measured, _parts(batch))
        return graph_memory(graph, self._vocabulary)

    def _updating(self) -> GraphMemory:
        """The optimizer's step: clipped gradients beside the gradients, and its own intermediate results."""
        import mlx.core as mx
        import mlx.optimizers

        if self._update is not None:
            return self._update
        optimizer = mlx.optimizers.AdamW(learning_rate=1e-4, bias_correction=True)
        optimizer.init({})
        count = len(self._trained)

        def updated(given: Sequence[Any]) -> list[Any]:
            weights, gradients, first, second = (given[start : start + count] for start in range(0, 4 * count, count))
            clipped = [gradient * given[-1] for gradient in gradients]
            results = []
            for weight, gradient, m, v in zip(weights, clipped, first, second, strict=True):
                state = {"m": m, "v": v}
                results += [optimizer.apply_single(gradient, weight, state), state["m"], state["v"]]
            return [*results, *clipped]

        given = [array for _, array in self._trained]
        graph = forward_graph(updated, [*given * 4, mx.array(1.0)])
        held = graph.given[count : 2 * count]  # the gradients stay until the step is over
        spare = frozenset(graph.given[: 4 * count]) - frozenset(held)
        self._update = graph_memory(graph, spare=spare)
        return self._update

    @functools.cached_property
    def _vocabulary(self) -> int:
        import mlx.core as mx

        return int(self._material.head(mx.array([[1]]), mx.array([0])).shape[-1])

    def _largest(self, batches: Sequence[Batch], rows: Sequence[EncodedRow]) -> list[Batch]:
        """Those that may take most: by positions, by pairs of them, which attention compares, by logits."""
        before = self._material.prefix.tokens
        measures: list[Callable[[Batch], int]] = [
            lambda batch: len(batch.rows) * batch.length,
            lambda batch: len(batch.rows) * batch.length * (before + batch.length),
            lambda batch: sum(rows[row].targets for row in batch.rows),
        ]
        return list(dict.fromkeys(max(batches, key=measure) for measure in measures)) if batches else []

    @contextlib.contextmanager
    def _unchanged(self, *, training: bool) -> Iterator[None]:
        from mlx.utils import tree_unflatten

        model = self._material.model
        was_training = model.training
        model.train(training)
        try:
            yield
        finally:
            model.train(was_training)
            model.update(tree_unflatten(self._trained))


_NOTHING = GraphMemory(0, 0, 0)


def _peak(memory: GraphMemory) -> int:
    return memory.peak


def _parts(batch: Arrays) -> list[Any]:
    return [batch.inputs, batch.positions, batch.tokens, batch.target, batch.weights]
