"""A configuration says exactly what it means, and every mistake in it is named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxdistill.config.load import load_config
from mlxdistill.config.template import template
from mlxdistill.errors import ConfigError

GOOD = """\
name: toxic
task:
  instruction: Is it toxic?
  labels: {no: civil, yes: rude}
data:
  source: rows.jsonl
teacher: {model: ./teacher.gguf}
student: {model: org/student}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, "utf-8")
    return path


def problems(
    path: Path, *settings: str, environment: dict[str, str] | None = None
) -> list[tuple[str, str, str | None]]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, settings, environment or {})
    return [(problem.where, problem.message, problem.hint) for problem in caught.value.problems]


def test_labels_called_yes_and_no_stay_text(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD), environment={}).config
    assert list(config.task.labels) == ["no", "yes"]


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD + "train: {learning_rate: 1e-4}\n"), environment={}).config
    assert config.train.learning_rate == 1e-4


def test_flags_beat_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "train: {epochs: 3, batch_size: 3, patience: 3}\n")
    environment = {"MLXDISTILL_TRAIN__EPOCHS": "4", "MLXDISTILL_TRAIN__BATCH_SIZE": "4"}
    loaded = load_config(path, ["train.epochs=5"], environment)
    assert (loaded.config.train.epochs, loaded.config.train.batch_size, loaded.config.train.patience) == (5, 4, 3)
    assert loaded.origin(("train", "epochs")) == "--set train.epochs"
    assert loaded.origin(("train", "batch_size")) == "MLXDISTILL_TRAIN__BATCH_SIZE"
    assert loaded.origin(("train", "patience")) == f"{path}:9"
    assert loaded.origin(("train", "seed")) == f"{path}:9" or loaded.origin(("train", "seed")) == "default"


def test_every_mistake_is_reported_with_its_line_and_the_nearest_key(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "train:\n  epoch: 2\n  batch_size: many\nfliter: {}\n")
    found = problems(path)
    assert (f"{path}:10", "unknown key `epoch` in `train`", "did you mean `epochs`?") in found
    assert (f"{path}:12", "unknown key `fliter`", "did you mean `filter`?") in found
    assert any(where == f"{path}:11" and "train.batch_size" in message for where, message, _ in found)
    assert len(found) == 3


def test_missing_keys_are_named_where_they_belong(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "task: {labels: [a, b]}\n"))
    assert {message for _, message, _ in found} == {
        "`task.instruction` is missing",
        "`data` is missing",
        "`teacher` is missing",
        "`student` is missing",
    }


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "name: again\n")
    assert problems(path) == [(f"{path}:9", "the key 'name' stands here a second time", "remove one")]


def test_relative_paths_are_relative_to_the_file_and_variables_are_expanded(tmp_path: Path) -> None:
    text = GOOD.replace("rows.jsonl", "${WHERE}/rows.jsonl")
    config = load_config(write(tmp_path, text), environment={"WHERE": "sub"}).config
    assert config.data.source == str(tmp_path / "sub" / "rows.jsonl")
    assert config.teacher.model == str(tmp_path / "teacher.gguf")
    assert config.student.model == "org/student"


def test_a_file_inside_a_hub_repository_stays_a_name(tmp_path: Path) -> None:
    text = GOOD.replace("./teacher.gguf", "org/name:file.gguf")
    assert load_config(write(tmp_path, text), environment={}).config.teacher.model == "org/name:file.gguf"


def test_an_unset_variable_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("rows.jsonl", "${NOWHERE}/rows.jsonl"))
    where, message, _ = problems(path)[0]
    assert (where, message) == (f"{path}:6", "`data.source` needs the variable NOWHERE, which is not set")


def test_gold_values_must_name_labels_of_the_task(tmp_path: Path) -> None:
    text = GOOD.replace("rows.jsonl", "rows.jsonl\n  gold_values: {true: yess, false: no}")
    path = write(tmp_path, text)
    assert problems(path) == [
        (f"{path}:7", "`data.gold_values` maps 'true' to 'yess', which is no label of the task", "did you mean `yes`?")
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the configuration is empty"),
        ("- a\n- b\n", "a configuration is a mapping of keys"),
        ("a: [1\n", "not valid YAML"),
        ("a: \0\n", "holds NUL bytes"),
    ],
)
def test_what_is_no_configuration_is_said_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    found = problems(write(tmp_path, text))
    assert len(found) == 1
    assert expected in found[0][1]
    assert "\n" not in found[0][1]


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    [(_, message, hint)] = problems(tmp_path / "confg.yaml")
    assert message == "no such file"
    assert hint == f"did you mean {tmp_path / 'config.yaml'}?"


def test_settings_without_a_value_are_refused(tmp_path: Path) -> None:
    assert problems(write(tmp_path, GOOD), "train.epochs")[0][0] == "--set train.epochs"


def test_an_unknown_setting_names_the_flag(tmp_path: Path) -> None:
    [(where, message, hint)] = problems(write(tmp_path, GOOD), "train.epoch=3")
    assert (where, message, hint) == ("--set train.epoch", "unknown key `epoch` in `train`", "did you mean `epochs`?")


def test_labels_written_alike_are_refused(tmp_path: Path) -> None:
    found = problems(write(tmp_path, GOOD.replace("{no: civil, yes: rude}", "{No: civil, no: rude}")))
    assert "are both written as 'no'" in found[0][1]


def test_a_teacher_is_a_model_or_a_log(tmp_path: Path) -> None:
    found = problems(write(tmp_path, GOOD.replace("{model: ./teacher.gguf}", "{model: a.gguf, log: b.jsonl}")))
    assert "either a `model` or a `log`" in found[0][1]


@pytest.mark.parametrize("labels", [["a", "b"], ["yes", "no"], ["it's: hard", "2", 'ä "quoted"']])
def test_the_template_loads_for_any_labels(tmp_path: Path, labels: list[str]) -> None:
    path = write(tmp_path, template("my-task", "my-task.yaml", labels))
    assert list(load_config(path, environment={}).config.task.labels) == labels


@pytest.mark.parametrize(
    "recipe", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_shipped_recipe_loads(recipe: Path) -> None:
    environment = dict.fromkeys(("JIGSAW_DIR", "COMMENTS", "BANKING"), "/data")
    assert load_config(recipe, environment=environment).config.name == recipe.stem
