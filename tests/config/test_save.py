"""The configuration that a run keeps says what the one it was started with said."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mlxdistill.config.load import load_config
from mlxdistill.config.models import Config
from mlxdistill.config.save import to_yaml

AWKWARD = [
    "1e3",
    "no",
    "true",
    "null",
    "~",
    "0x1F",
    "1_000",
    "1:30",
    "2001-01-01",
    "<<",
    "=",
    "a: b",
    "#",
    "- a",
    "?",
    "",
]
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=200) | st.sampled_from(AWKWARD)


def config(labels: list[str], description: str = "") -> Config:
    sections = {
        "task": {
            "instruction": f"Decide. {description}",
            "labels": {name: {"description": description} for name in labels},
        },
        "data": {"source": "/rows.jsonl"},
        "teacher": {"log": ["/log.jsonl"], "answer_key": description, "answer_values": {description: labels[0]}},
        "student": {"model": "org/student"},
    }
    return Config.model_validate(sections)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(TEXT, min_size=2, max_size=4), description=TEXT)
def test_any_text_survives(tmp_path: Path, labels: list[str], description: str) -> None:
    written = [label.strip().casefold() for label in labels]
    assume(all(written) and len(set(written)) == len(written))
    original = config(labels, description)
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(original), "utf-8", newline="\n")
    assert load_config(path, environment={}).config == original


@pytest.mark.parametrize("label", [label for label in AWKWARD if label])
def test_readers_of_yaml_1_1_see_the_same_labels(label: str) -> None:
    assert list(yaml.safe_load(to_yaml(config([label, "other"])))["task"]["labels"]) == [label, "other"]


def test_plain_words_and_numbers_stay_bare() -> None:
    text = to_yaml(config(["ok", "toxic"]))
    assert "    ok:\n" in text
    assert "  seed: 0\n" in text
    assert 'source: "/rows.jsonl"' in text


def test_several_teachers_are_read_back(tmp_path: Path) -> None:
    one = config(["a", "b"])
    teachers = [{"model": "org/teacher", "name": "x", "label_orders": 3}, {"log": ["/a.jsonl", "/b.jsonl"]}]
    several = Config.model_validate({**one.model_dump(mode="json"), "teacher": teachers, "combine": "majority"})
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(several), "utf-8")
    assert load_config(path, environment={}).config == several
