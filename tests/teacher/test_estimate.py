"""What an estimate says is what labelling then takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.config.models import TeacherConfig
from mlxdistill.platform.memory import machine_memory_bytes
from mlxdistill.platform.models import cached_sha256
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.rows import Row
from mlxdistill.teacher.estimate import (
    Counted,
    MemorySettings,
    Range,
    count_request,
    count_tokens,
    expected_memory,
    expected_seconds,
)
from mlxdistill.teacher.gguf import ModelShape, inspect_gguf
from mlxdistill.teacher.labeller import LlamaLabeller
from mlxdistill.teacher.remembered import machine_key, remembered

NESTED = ClassificationTask(
    "Which is it?",
    (Label("fine", "civil", "ok"), Label("finer", "kind", "okay now"), Label("bad", "rude", "toxic a")),
)
ROWS = [Row(f"row-{number}", "card lost " * (number % 9) + "é<|im_end|>" * (number % 2)) for number in range(30)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def config_for(path: Path, **settings: Any) -> TeacherConfig:
    return TeacherConfig(model=str(path), **{"n_ctx": 512, "n_batch": 256, "n_seq": 8, "threads": 1, **settings})


def counted_for(config: TeacherConfig, rows: list[Row], samples: tuple[int, ...], progress: Any) -> tuple[Counted, int]:
    assert config.model is not None
    request = count_request(config, inspect_gguf(Path(config.model)), NESTED, None, samples)
    return count_tokens(request, [row.text for row in rows], progress)


@pytest.mark.parametrize("settings", [{}, {"label_orders": 3}, {"n_ctx": 160}], ids=["plain", "orders", "truncated"])
def test_tokens_are_those_that_labelling_decodes(tiny_gguf: Path, progress: Any, settings: dict[str, Any]) -> None:
    config = config_for(tiny_gguf, **settings)
    rows = [*ROWS, Row("long", "toxic " * 900)]
    with LlamaLabeller(config, NESTED, progress) as teacher:
        teacher.prepare(len(rows), None)
        for _ in teacher.label(rows, frozenset(), progress):
            pass
    counted, process = counted_for(config, rows, teacher.samples, progress)
    assert sum(counted.rows) == teacher.stats.tokens
    assert counted.prefix > 0
    assert counted.truncated == teacher.stats.truncated / len(teacher.samples) > 0
    memory = expected_memory(teacher.info, counted, memory_settings(config), process)
    assert memory.total == pytest.approx(teacher.peak_memory_bytes, rel=0.25)


def memory_settings(config: TeacherConfig, **settings: Any) -> MemorySettings:
    asked = {"n_ctx": config.n_ctx, "n_batch": 256, "n_seq": 8, "split": False, "written_tokens": 0}
    return MemorySettings(**{**asked, "machine_bytes": machine_memory_bytes(), **settings})


def test_the_speed_of_a_teacher_that_ran_here_is_found_again(tiny_gguf: Path, progress: Any) -> None:
    with LlamaLabeller(config_for(tiny_gguf), NESTED, progress) as teacher:
        teacher.prepare(len(ROWS), None)
        for _ in teacher.label(ROWS, frozenset(), progress):
            pass
    known = remembered(machine_key([cached_sha256(tiny_gguf)]))
    assert known is not None
    assert known["tokens_per_second"] == pytest.approx(teacher.stats.tokens_per_second)


@pytest.mark.parametrize(
    ("settings", "low", "high"),
    [
        ({"format": "json"}, 8, 40),
        ({"format": "text"}, 2, 12),
        ({"rationale": True, "max_tokens": 90}, 1, 90),
    ],
    ids=["json", "text", "rationale"],
)
def test_written_answers_have_a_length_or_a_range(
    tiny_gguf: Path, progress: Any, settings: dict[str, Any], low: float, high: float
) -> None:
    config = config_for(tiny_gguf, answer="generate", **settings)
    counted, _ = counted_for(config, ROWS, (0,), progress)
    assert low <= counted.answer.low <= counted.answer.value <= counted.answer.high <= high
    assert (counted.answer.high == 90) == ("rationale" in settings)


SHAPE = ModelShape(2, 32, 4, 2, 8, 64, block_weights=1000, head_weights=100)


def test_seconds_follow_from_tokens_and_speed() -> None:
    counted = Counted(prefix=10, rows=(20, 40), answer=Range(0, 0, 0), truncated=0, wanted=2)
    known = expected_seconds(counted, 100, 1, speed=301.0, shape=SHAPE, gflops=1.0)
    assert known == Range(10.0, 10.0, 10.0)
    guess = expected_seconds(counted, 100, 1, speed=None, shape=SHAPE, gflops=1e-3)
    operations = 2 * (3010 * 1000 + 100 * 2 * 100)
    assert guess.low < operations / 1e6 < guess.high
    assert guess.low < guess.value < guess.high


def test_written_tokens_take_time_beside_the_read_ones() -> None:
    counted = Counted(prefix=10, rows=(20, 40), answer=Range(5, 10, 50), truncated=0, wanted=1)
    one, three = (expected_seconds(counted, 100, samples, speed=None, shape=SHAPE, gflops=1.0) for samples in (1, 3))
    read = expected_seconds(Counted(10, (20, 40), Range(0, 0, 0), 0, 1), 100, 1, speed=None, shape=SHAPE, gflops=1.0)
    assert three.value - read.value == pytest.approx(3 * (one.value - read.value))
    assert one.high / one.value > read.high / read.value


def test_memory_grows_with_what_is_asked(tiny_gguf: Path) -> None:
    info = inspect_gguf(tiny_gguf)
    counted = Counted(prefix=40, rows=(20,), answer=Range(0, 0, 0), truncated=0, wanted=1)
    config = config_for(tiny_gguf)
    plain = expected_memory(info, counted, memory_settings(config), 0)
    assert plain.weights == tiny_gguf.stat().st_size
    assert expected_memory(info, counted, memory_settings(config, split=True), 0).key_values > plain.key_values
    assert expected_memory(info, counted, memory_settings(config, n_batch=512), 0).computing > plain.computing
    written = expected_memory(info, counted, memory_settings(config, written_tokens=100), 0)
    assert written.key_values > plain.key_values


def test_a_models_shape_is_read_from_its_header(tiny_gguf: Path, make_gguf: Callable[..., Path]) -> None:
    shape = inspect_gguf(tiny_gguf).shape
    assert (shape.layers, shape.width, shape.heads, shape.kv_heads, shape.head_width) == (2, 32, 4, 2, 8)
    assert shape.block_weights == 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32)
    assert shape.head_weights == 32 * inspect_gguf(tiny_gguf).vocabulary_size
