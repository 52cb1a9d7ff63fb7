"""Which prompt the student learns with: its own short one, a file's, or the one its teacher was asked with."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxdistill.config.load import load_config
from mlxdistill.errors import ConfigError
from mlxdistill.pipeline.train import student_prompt
from mlxdistill.tasks.classification import STUDENT_PROMPT, Prompt

CONFIG = """
task: {type: classification, instruction: Judge it., labels: {ok: civil, bad: rude}}
data: {source: rows.jsonl}
teacher: %s
student: {model: org/student, prompt: %s}
"""


def prompt_of(folder: Path, teacher: str, prompt: str) -> Prompt:
    (folder / "config.yaml").write_text(CONFIG % (teacher, prompt))
    (folder / "long.txt").write_text("{instruction} Mind {labels} in: {text}")
    return student_prompt(load_config(folder / "config.yaml", environment={}).config)


def test_the_students_own_prompt_is_the_short_one(tmp_path: Path) -> None:
    found = prompt_of(tmp_path, "{model: t.gguf, prompt: long.txt}", "null")
    assert found.head == STUDENT_PROMPT.format(instruction="Judge it.", names="ok, bad", text="")


def test_the_teachers_prompt_can_be_kept(tmp_path: Path) -> None:
    kept = prompt_of(tmp_path, "{model: t.gguf, prompt: long.txt}", "teacher")
    assert kept == Prompt("Judge it. Mind - ok: civil\n- bad: rude in: ", "")
    assert kept == prompt_of(tmp_path, "{model: t.gguf}", "long.txt")
    several = "[{model: t.gguf, prompt: long.txt}, {model: u.gguf}]"
    assert kept == prompt_of(tmp_path, several, "teacher")


def test_a_log_has_no_prompt_to_keep(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a `log` has no prompt to keep"):
        prompt_of(tmp_path, "{log: requests.jsonl}", "teacher")
