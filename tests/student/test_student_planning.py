"""The memory that a training is said to take is the memory that it takes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from tiny_students import SHAPES, Reporter, train_here, train_request, write_rows

from mlxdistill.config.models import TrainConfig
from mlxdistill.errors import MlxDistillError
from mlxdistill.platform.memory import memory_bytes, peak_memory_bytes, usable_memory_bytes
from mlxdistill.student import memory_model
from mlxdistill.student.base import load_base
from mlxdistill.student.child import prepare, train
from mlxdistill.student.cpu_kernels import use_cpu_kernels
from mlxdistill.student.graph import Graph, GraphUnknown, forward_graph, gradient_graph
from mlxdistill.student.graph_memory import graph_memory
from mlxdistill.student.memory_model import MemoryModel, Place, settled
from mlxdistill.student.planning import plan, unread_material

PLACE = Place(opening=0, process=0, cache=0, multiple=4)
VARIANTS: dict[str, dict[str, Any]] = {
    "DoRA": {"fine_tune_type": "dora"},
    "full": {"fine_tune_type": "full"},
    "4 bits": {"quantize": 4},
    "checkpointing": {"train": {"gradient_checkpointing": True}},
    "in parts": {"train": {"batch_size": 30, "batch_tokens": 256}},
    "dropout": {"lora": {"dropout": 0.1}},
    "validation takes most": {"train": {"batch_size": 1}},
}


@pytest.fixture(scope="module", autouse=True)
def _kernels() -> None:
    use_cpu_kernels()


def compared(folder: Path, work: Path, **changes: Any) -> float:
    """Planned over measured MLX peak of a training in this process."""
    changes["train"] = {"epochs": 1, "validations_per_epoch": 2, **changes.get("train", {})}
    request = train_request(folder, work, **changes)
    planned = plan(request).memory.mlx_peak
    gc.collect()
    mx.synchronize()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    train_here(request)
    return planned / (mx.get_peak_memory() - before)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_peak_is_foreseen_for_every_architecture(model_folder, work: Path, kind: str) -> None:
    assert compared(model_folder(kind), work) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_peak_is_foreseen_for_every_way_of_training(model_folder, work: Path, variant: str) -> None:
    assert compared(model_folder(), work, **VARIANTS[variant]) == pytest.approx(1, abs=0.2)


def made(model_folder, work: Path, **changes: Any) -> MemoryModel:
    request = train_request(model_folder(), work, **changes)
    return MemoryModel(unread_material(request)[0], request.train, PLACE)


def test_the_largest_batch_fits_and_the_next_does_not(model_folder, work: Path) -> None:
    write_rows(work / "data" / "train.jsonl", 200)
    model = made(model_folder, work)
    limit = model.plan(8).needed
    found = model.largest_batch(limit)
    assert found == 8
    assert model.plan(12).needed > limit
    assert model.largest_batch(limit - 1) == 4
    assert model.largest_batch(1) is None


def test_a_batch_is_never_more_than_an_eighth_of_the_rows(model_folder, work: Path) -> None:
    assert made(model_folder, work).largest_batch(2**50) == 2  # of 30 rows
    write_rows(work / "data" / "train.jsonl", 5)
    assert made(model_folder, work).largest_batch(2**50) == 1


def test_steps_that_do_not_fit_are_computed_in_parts_that_do(model_folder, work: Path) -> None:
    model = made(model_folder, work)
    whole, limit = model.plan(30).needed, model.plan(4).needed
    tokens = model.largest_batch_tokens(30, limit)
    assert tokens is not None
    assert whole > limit >= model.plan(30, tokens).needed
    assert model.largest_batch_tokens(30, 1) is None


def test_auto_takes_the_largest_batch(model_folder, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(work / "data" / "train.jsonl", 200)
    request = train_request(model_folder(), work, train={"batch_size": "auto"})
    material, _ = unread_material(request)
    limit = MemoryModel(material, request.train, PLACE).plan(8).needed
    monkeypatch.setattr(memory_model, "working_set_bytes", lambda: limit)
    found = settled(material, request.train, PLACE)
    assert found is not None
    assert found.batch_size == 8
    monkeypatch.setattr(memory_model, "working_set_bytes", lambda: 1)
    with pytest.raises(MlxDistillError, match="not even one row") as error:
        settled(material, request.train, PLACE)
    assert error.value.where == "train.batch_size"


def test_what_cannot_be_foreseen_stops_only_those_who_ask(
    model_folder, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise ValueError("Unable to get state for primitive Strange")

    material, _ = unread_material(train_request(model_folder(), work))
    monkeypatch.setattr(mx, "export_function", refuse)
    assert settled(material, TrainConfig(batch_size=8), PLACE) is None
    with pytest.raises(GraphUnknown, match="primitive Strange"):
        settled(material, TrainConfig(batch_size="auto"), PLACE)


def test_ranks_share_a_batch(model_folder, work: Path) -> None:
    write_rows(work / "data" / "train.jsonl", 200)
    request = train_request(model_folder(), work)
    material, _ = unread_material(request)
    alone, one_of_two = (MemoryModel(material, request.train, replace(PLACE, ranks=ranks)) for ranks in (1, 2))
    assert one_of_two.plan(64).activations < 0.6 * alone.plan(64).activations


def test_planning_changes_nothing_of_a_training(model_folder, work: Path) -> None:
    adapters = []
    for planned in (False, True):
        request = train_request(model_folder(), work / str(planned), lora={"dropout": 0.1})
        request = replace(request, data=work / "data")
        base, shape, training, truncated = prepare(request, Reporter())
        if planned:
            material = training._material
            before = dict(tree_flatten(material.model.parameters()))
            assert settled(material, request.train, PLACE) is not None
            after = dict(tree_flatten(material.model.parameters()))
            assert all(after[name] is array for name, array in before.items())
        train(request, base, shape, training, truncated)
        adapters.append((request.output / "adapters.safetensors").read_bytes())
    assert adapters[0] == adapters[1]


def test_a_model_that_is_not_read_takes_no_memory(model_folder) -> None:
    read = dict(tree_flatten(load_base(str(model_folder()), 4).model.parameters()))
    mx.synchronize()
    before = mx.get_active_memory()
    unread = dict(tree_flatten(load_base(str(model_folder()), 4, read=False).model.parameters()))
    mx.synchronize()
    assert mx.get_active_memory() - before < 2000
    assert {name: (array.shape, array.dtype) for name, array in unread.items()} == {
        name: (array.shape, array.dtype) for name, array in read.items()
    }


def kinds_of(graph: Graph) -> list[str]:
    return [operation.kind for operation in graph.operations]


def test_a_function_with_gradients_of_its_own_is_followed_by_its_own_rule() -> None:
    def loss(weights: Any, given: Any) -> Any:
        cube = mx.custom_function(lambda x: x * x * x)
        cube.vjp(lambda x, cotangent, output: cotangent * mx.tan(output))
        return mx.sum(cube(weights[0] * given[0]))

    weight = mx.zeros((4, 5))
    mx.eval(weight)
    graph = gradient_graph(loss, [weight], [mx.zeros((4, 5))])
    made = {name for operation in graph.operations for name in operation.makes}
    read = {name for operation in graph.operations for name in operation.reads}
    assert "Tan" in kinds_of(graph)
    assert "CustomTransforms" not in kinds_of(graph)
    assert [graph.arrays[name].shape for name in graph.wanted] == [(), (4, 5)]
    # Whatever is neither made nor given is a constant: no hole is left.
    assert all(graph.arrays[name].shape in ((), (4, 5)) for name in read - made)
    assert len([name for name in read - made if graph.arrays[name].shape == (4, 5)]) == 2


def test_a_checkpointed_function_runs_twice() -> None:
    def loss(wrap: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda weights, given: mx.sum(wrap(lambda x: mx.tanh(mx.sin(x)))(weights[0]))

    kept = gradient_graph(loss(lambda function: function), [mx.zeros((8,))], [])
    again = gradient_graph(loss(lambda function: mx.checkpoint(function)), [mx.zeros((8,))], [])
    assert kinds_of(kept).count("Sin") == 1
    assert kinds_of(again).count("Sin") == 2


def peak(function: Callable[[Any], Any], *shapes: tuple[int, ...], spare: bool = False) -> int:
    graph = forward_graph(function, [mx.zeros(shape) for shape in shapes])
    return graph_memory(graph, spare=frozenset(graph.given if spare else ())).peak


ROOM = 4 * 256 * 256  # bytes


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda given: [mx.sin(mx.cos(mx.exp(given[0])))], ROOM),
        (lambda given: [given[0].T], 0),
        (lambda given: [mx.exp(given[0].T.reshape(-1))], ROOM),
        (lambda given: [given[0].T.reshape(128, -1)], ROOM),
        (lambda given: [given[0] @ given[0] @ given[0]], 2 * ROOM),
        (lambda given: [mx.exp(given[0]), mx.sin(given[0])], 2 * ROOM),
        (lambda given: [mx.exp(given[0])[:128] * 2.0], ROOM + ROOM // 2),
        (lambda given: [mx.exp(given[0]) + mx.sin(given[0])], 2 * ROOM),
    ],
    ids=["over itself", "view", "view then one", "moved", "products", "two results", "part", "two at once"],
)
def test_memory_follows_the_rules_of_mlx(function: Callable[[Any], Any], expected: int) -> None:
    given = [mx.random.normal((256, 256))]
    mx.eval(given)
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(function(given))
    measured = max(mx.get_peak_memory(), before) - before
    assert peak(function, (256, 256)) == pytest.approx(expected, abs=64)
    assert measured == pytest.approx(expected, abs=64)


def test_what_nobody_needs_is_written_over() -> None:
    assert peak(lambda given: [mx.exp(given[0])], (256, 256), spare=True) == 0


def test_memory_of_this_process() -> None:
    assert 0 < memory_bytes() <= peak_memory_bytes()
    assert usable_memory_bytes() > memory_bytes()
