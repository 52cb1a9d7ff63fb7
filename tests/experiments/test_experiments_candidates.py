"""Which combinations are compared, and what careless askers are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxdistill.config.models import Config
from mlxdistill.errors import ConfigError, UsageError
from mlxdistill.experiments.candidates import Axes, candidates
from mlxdistill.tasks.classification import TEACHER_PROMPT

SCORED = {"model": "a.gguf"}
GENERATED = {"model": "b.gguf", "answer": "generate", "temperature": 0.3}


def config(*teachers: dict[str, Any]) -> Config:
    return Config.model_validate(
        {
            "task": {"instruction": "Is it toxic?", "labels": ["ok", "toxic"]},
            "data": {"source": "rows.jsonl"},
            "teacher": teachers[0] if len(teachers) == 1 else list(teachers),
            "student": {"model": "student"},
        }
    )


@pytest.fixture
def prompt(tmp_path: Path):
    def write(name: str, text: str = "Say {names}.\n{text}\n") -> Path:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
        return tmp_path / name

    return write


def names(found) -> list[str]:
    return [each.name for each in found]


def test_the_configured_one_alone() -> None:
    found, notes = candidates(config(SCORED), Axes())
    assert names(found) == ["default"]
    assert (found[0].configured, found[0].template, found[0].temperature, notes) == (True, None, None, [])


def test_every_prompt_with_every_temperature(prompt) -> None:
    axes = Axes((prompt("short.txt"), prompt("long.txt", "{text} {labels}")), (0.0, 0.7))
    found, _ = candidates(config(GENERATED), axes)
    assert names(found) == [
        "default · 0.3",
        *(f"{name} · {temperature}" for name in ("default", "short", "long") for temperature in ("0", "0.7")),
    ]
    assert [each.configured for each in found] == [True] + [False] * 6
    assert {each.config.temperature for each in found} == {0.3, 0.0, 0.7}
    assert found[3].template == "Say {names}.\n{text}\n"


def test_scoring_beside_generating(prompt) -> None:
    teacher = {**SCORED, "label_orders": 2}
    found, notes = candidates(config(teacher), Axes((prompt("short.txt"),), (0.0, 0.7), ("score", "generate")))
    assert names(found) == [
        "default · score",
        "default · generate · 0",
        "default · generate · 0.7",
        "short · score",
        "short · generate · 0",
        "short · generate · 0.7",
    ]
    assert [each.config.label_orders for each in found] == [2, 1, 1, 2, 1, 1]
    assert notes == ["scored answers have no temperature: they are compared once"]


def test_generated_settings_go_where_answers_are_scored() -> None:
    teacher = {**GENERATED, "samples": 3, "rationale": True}
    found, notes = candidates(config(teacher), Axes(temperatures=(0.0, 0.7), answers=("score", "generate")))
    assert [(each.config.samples, each.config.rationale) for each in found] == [
        (3, True),
        (1, False),
        (1, True),
        (3, True),
    ]
    assert "at temperature 0 all samples are the same: one is taken" in notes


def test_every_teacher_with_every_prompt(prompt) -> None:
    found, notes = candidates(
        config({**SCORED, "name": "qwen"}, {"log": "requests.jsonl"}), Axes((prompt("short.txt"),))
    )
    assert names(found) == ["qwen · default", "qwen · short", "teacher2 · recorded"]
    assert [each.configured for each in found] == [True, False, True]
    assert notes == ["teacher2 is recorded: its answers are compared as they are"]


def test_a_temperature_says_nothing_about_scores() -> None:
    with pytest.raises(UsageError) as error:
        candidates(config(SCORED), Axes(temperatures=(0.7,)))
    assert error.value.where == "--temperature"
    found, notes = candidates(config(SCORED, GENERATED), Axes(temperatures=(0.7,)))
    assert names(found) == ["teacher1 · default", "teacher2 · default · 0.3", "teacher2 · default · 0.7"]
    assert notes == ["teacher1 scores its answers, which have no temperature: it is compared as it is"]


@pytest.mark.parametrize("temperature", [float("nan"), float("inf")])
def test_a_temperature_is_a_number(temperature: float) -> None:
    with pytest.raises(UsageError, match="finite number"):
        candidates(config(GENERATED), Axes(temperatures=(temperature,)))


def test_the_same_prompt_twice_is_asked_once(prompt) -> None:
    first = prompt("first.txt")
    axes = Axes((first, prompt("second.txt"), first, prompt("own.txt", TEACHER_PROMPT)))
    found, notes = candidates(config(SCORED), axes)
    assert names(found) == ["default", "first"]
    assert len(notes) == 3
    assert notes[-1].endswith("own.txt reads like the prompt `default`, and is not asked again")


def test_prompts_of_the_same_name_are_told_apart(prompt) -> None:
    paths = (prompt("a/new.txt", "a {text}"), prompt("b/new.txt", "b {text}"), prompt("default.txt", "c {text}"))
    found, _ = candidates(config(SCORED), Axes(paths))
    assert names(found) == ["default", *map(str, paths)]


def test_every_prompt_that_cannot_be_used_at_once(prompt, tmp_path: Path) -> None:
    axes = Axes((prompt("none.txt", "no text"), prompt("fine.txt"), tmp_path / "gone.txt", tmp_path))
    with pytest.raises(ConfigError) as error:
        candidates(config(SCORED), axes)
    none, gone, folder = error.value.problems
    assert none.where == "--prompt"
    assert "none.txt: a prompt holds {text} exactly once, this one 0 times" in none.message
    assert "gone.txt" in gone.message
    assert str(tmp_path) in folder.message
