"""How much memory MLX takes while it computes a graph.

Follows MLX 0.32's own rules (mlx/transforms.cpp, mlx/backend/common, mlx/backend/cpu): it computes operations in
breadth-first order from the results, of limited width; an operation that changes numbers one by one writes over an
input that nobody else needs; reshapes and transpositions are views, unless their numbers would have to move; a buffer
lives until the last operation that reads it has run. Operations are queued ahead of the computing thread, and what
they make has its memory from then on: that is the lag.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlxdistill.student.graph import Graph, Layout, Operation
from mlxdistill.student.graph_views import Buffer, LaidOut, is_multipliable, viewed, whole

QUEUE_WIDTH = 20  # MLX_BFS_MAX_WIDTH
# A task is ten dispatches and ten tasks may wait (MAX_ACTIVE_TASKS, DISPATCHES_PER_TASK); each operation that computes
# is dispatched, and then the release of what it has read.
LAG = 105
DONATION_SLACK = 16384
HEAP_BYTES = 32 * 2**20  # DEFAULT_MMAP_THRESHOLD_MAX, to which the threshold grows where large buffers are freed

# fmt: off
_UNARY = frozenset(
    {
        "Abs", "ArcCos", "ArcCosh", "ArcSin", "ArcSinh", "ArcTan", "ArcTanh", "BitwiseInvert", "Ceil",
        "Conjugate", "Cos", "Cosh", "Erf", "ErfInv", "Exp", "Expm1", "Floor", "Log", "Log1p", "LogicalNot",
        "Negative", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Sqrt", "Square", "Tan", "Tanh",
    }
)
_BINARY = frozenset(
    {
        "Add", "ArcTan2", "BitwiseBinary", "Divide", "Equal", "Greater", "GreaterEqual", "Less", "LessEqual",
        "LogAddExp", "LogicalAnd", "LogicalOr", "Maximum", "Minimum", "Multiply", "NotEqual", "Power",
        "Remainder", "Subtract",
    }
)
# fmt: on
_UPDATES = frozenset({"Scatter", "ScatterAxis", "SliceUpdate", "DynamicSliceUpdate", "MaskedScatter"})


@dataclass(frozen=True, slots=True)
class GraphMemory:
    """Bytes at the moment that takes most, beyond what was there before.

    Attributes:
        results: of them, of what was asked for; `wide`: of arrays with an axis of the width that was asked about.
        small: of the largest buffer, at any moment, that glibc's malloc takes from its heap.
    """

    peak: int
    results: int
    wide: int
    small: int = 0


def graph_memory(graph: Graph, width: int | None = None, spare: frozenset[str] = frozenset()) -> GraphMemory:
    """The memory that an evaluation of the graph takes.

    Args:
        width: an axis as long as this makes an array count as wide: of logits, the vocabulary.
        spare: given arrays that nobody needs afterwards.
    """
    return _Run(graph, width, spare).run()


def evaluation_order(graph: Graph) -> list[Operation]:
    """The operations that the results need, in MLX's order."""
    maker = {name: operation for operation in graph.operations for name in operation.makes}
    end = Operation("Synchronize", graph.wanted, ())
    readers: Counter[int] = Counter()
    seen = {id(end)}
    left = [end]
    while left:
        for name in left.pop().reads:
            operation = maker.get(name)
            if operation is not None:
                readers[id(operation)] += 1
                if id(operation) not in seen:
                    seen.add(id(operation))
                    left.append(operation)
    tape = [end]
    later: list[tuple[Operation, int]] = []
    at = 0
    while at < len(tape) or later:
        if at >= len(tape):
            operation, first = later.pop()
        else:
            operation, first = tape[at], 0
            at += 1
        for number in range(first, len(operation.reads)):
            before = maker.get(operation.reads[number])
            if before is None:
                continue
            if len(tape) - at >= QUEUE_WIDTH:
                later.append((operation, number))
                break
            readers[id(before)] -= 1
            if not readers[id(before)]:
                tape.append(before)
    return tape[:0:-1]


class _Run:
    def __init__(self, graph: Graph, width: int | None, spare: frozenset[str]) -> None:
        self._graph = graph
        self._spare = spare
        self._wanted = frozenset(graph.wanted)
        self._width = width
        self._order = evaluation_order(graph)
        self._readers = Counter(name for operation in self._order for name in operation.reads)
        self._readers.update(graph.wanted)
        self._arrays: dict[str, LaidOut] = {}
        self._clock = 0
        self._freed: list[tuple[int, int, Buffer]] = []
        self._now = 0
        self._wide = 0
        self._results = 0
        self._small = 0
        self._peak = GraphMemory(0, 0, 0)

    def run(self) -> GraphMemory:
        for operation in self._order:
            self._dispatch(operation)
        return replace(self._peak, small=self._small)

    def _dispatch(self, operation: Operation) -> None:
        inputs = [self._array(name) for name in operation.reads]
        layouts = [self._graph.arrays[name] for name in operation.makes]
        kernels = 1
        temporary: list[Buffer] = []
        if (views := viewed(operation, inputs, layouts)) is not None:
            made, kernels = views, 0
        else:
            made = self._computed(operation, inputs, layouts, temporary)
        self._clock += kernels + len(temporary) + 1
        for name, array in zip(operation.makes, made, strict=True):
            self._arrays[name] = array
            if array.buffer is not None:
                array.buffer.arrays += 1
                self._mark(name, array.buffer)
        outputs = {id(array.buffer) for array in made[:1]}
        for array in inputs:
            if array.buffer is not None and id(array.buffer) not in outputs:
                array.buffer.released = self._clock + LAG
        for buffer in temporary:
            self._release(buffer, self._clock + LAG)
        for name in operation.reads:
            self._readers[name] -= 1
            if not self._readers[name]:
                self._drop(name)
        for name in operation.makes:
            if not self._readers[name]:
                self._drop(name)

    def _mark(self, name: str, buffer: Buffer) -> None:
        """What was asked for stays, and is counted apart; given memory is not counted at all."""
        if name in self._wanted and not buffer.is_given and not buffer.is_result:
            buffer.is_result = True
            self._results += buffer.size

    def _drop(self, name: str) -> None:
        array = self._arrays.pop(name, None)
        if array is None or array.buffer is None:
            return
        array.buffer.arrays -= 1
        if not array.buffer.arrays:
            self._release(array.buffer, array.buffer.released)

    def _release(self, buffer: Buffer, when: int) -> None:
        heapq.heappush(self._freed, (when, id(buffer), buffer))

    def _array(self, name: str) -> LaidOut:
        found = self._arrays.get(name)
        if found is None:  # given
            layout = self._graph.arrays[name]
            size = math.prod(layout.shape) * layout.item_bytes
            spare = Buffer(size, False, is_given=True, arrays=1) if name in self._spare else None
            found = self._arrays[name] = whole(layout, spare)
        return found

    def _allocate(self, shape: Sequence[int], size: int) -> Buffer:
        while self._freed and self._freed[0][0] <= self._clock:
            _, _, freed = heapq.heappop(self._freed)
            self._now -= freed.size
            self._wide -= freed.size * freed.wide
        buffer = Buffer(size, self._width in shape)
        self._now += size
        self._wide += size * buffer.wide
        if self._now > self._peak.peak:
            self._peak = GraphMemory(self._now, self._results, self._wide)
        if size <= HEAP_BYTES:
            self._small = max(self._small, size)
        return buffer

    def _new(self, layout: Layout) -> LaidOut:
        return whole(layout, self._allocate(layout.shape, math.prod(layout.shape) * layout.item_bytes))

    def _computed(
        self, operation: Operation, inputs: list[LaidOut], layouts: list[Layout], temporary: list[Buffer]
    ) -> list[LaidOut]:
        kind, layout = operation.kind, layouts[0]
        names = operation.reads
        if kind in _UNARY or (kind == "AsType" and inputs[0].dense) or kind == "Softmax":
            found = inputs[0]
            if not found.dense or (kind == "Softmax" and found.shape and found.strides[-1] != 1):
                return [self._new(layout)]
            return [self._like(found, layout, [(names[0], found)])]
        if kind in _BINARY:
            return [self._binary(names, inputs, layout)]
        if kind == "Select":
            givers = [(name, array) for name, array in zip(names, inputs, strict=True) if array.rows]
            return [self._written_over(layout, givers) or self._new(layout)]
        if kind in _UPDATES and inputs[0].rows:
            return [self._written_over(layout, [(names[0], inputs[0])]) or self._new(layout)]
        made = [self._new(layout) for layout in layouts]
        if kind in ("Matmul", "AddMM", "QuantizedMatmul"):
            moved = [array for array in inputs[:2] if array.buffer is not None and not is_multipliable(array, kind)]
            temporary += [self._allocate(array.shape, array.size * array.item) for array in moved]
        return made

    def _binary(self, names: Sequence[str], inputs: list[LaidOut], layout: Layout) -> LaidOut:
        a, b = inputs
        one, other = (names[0], a), (names[1], b)
        if a.filled == b.filled == 1:
            return self._like(a, layout, [])
        if a.filled == 1 and b.dense:
            return self._like(b, layout, [other])
        if b.filled == 1 and a.dense:
            return self._like(a, layout, [one])
        if (a.rows and b.rows) or (a.columns and b.columns):
            return self._like(a, layout, [one, other])
        givers = [(name, array) for name, array in (one, other) if array.rows and array.shape == layout.shape]
        return self._written_over(layout, givers) or self._new(layout)

    def _like(self, model: LaidOut, layout: Layout, givers: Sequence[tuple[str, LaidOut]]) -> LaidOut:
        """Numbers laid out as those of `model`, over one of `givers` if possible."""
        buffer = next((array.buffer for name, array in givers if self._is_free(name, array, layout)), None)
        if buffer is None:
            buffer = self._allocate(layout.shape, model.filled * layout.item_bytes)
        return replace(model, shape=layout.shape, item=layout.item_bytes, buffer=buffer)

    def _written_over(self, layout: Layout, givers: Sequence[tuple[str, LaidOut]]) -> LaidOut | None:
        for name, array in givers:
            if self._is_free(name, array, layout):
                return whole(layout, array.buffer)
        return None

    def _is_free(self, name: str, array: LaidOut, layout: Layout) -> bool:
        buffer = array.buffer
        return (
            buffer is not None
            and buffer.arrays == 1
            and self._readers[name] == 1
            and buffer.released <= self._clock
            and array.item == layout.item_bytes
            and buffer.size <= math.prod(layout.shape) * layout.item_bytes + DONATION_SLACK
        )
