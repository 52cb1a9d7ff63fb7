"""A configuration says exactly what it means, and every mistake in it is named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxdistill.config.load import load_config, parse_settings
from mlxdistill.config.models import Config
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
    assert loaded.origin(("train", "seed")) == "default"


def test_every_mistake_is_reported_with_its_line_and_the_nearest_key(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "train:\n  epoch: 2\n  batch_size: many\nfliter: {}\n")
    found = problems(path)
    assert (f"{path}:10", "unknown key `epoch` in `train`", "did you mean `epochs`?") in found
    assert (f"{path}:12", "unknown key `fliter`", "did you mean `filter`?") in found
    assert any(where == f"{path}:11" and "train.batch_size" in message for where, message, _ in found)
    assert len(found) == 3


def test_a_key_that_stands_twice_does_not_hide_the_other_mistakes(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "nmae: x\nname: again\n")
    assert [(where, message) for where, message, _ in problems(path)] == [
        (f"{path}:10", "the key 'name' stands here a second time"),
        (f"{path}:9", "unknown key `nmae`"),
    ]


def test_a_single_label_is_named_beside_other_mistakes_of_the_task(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("instruction", "instrution").replace("{no: civil, yes: rude}", "{no: civil}"))
    found = problems(path)
    assert (f"{path}:4", "`task.labels`: a classification needs at least two labels", None) in found
    assert (f"{path}:3", "unknown key `instrution` in `task`", "did you mean `instruction`?") in found


def test_a_misspelt_section_is_blamed_on_what_named_it(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "train: {epochs: 1}\n")
    environment = {"MLXDISTILL_TRIAN__EPOCHS": "3"}
    assert problems(path, "tarin.epochs=2", "train.learning.a=1", environment=environment) == [
        ("--set train.learning.a", "unknown key `learning` in `train`", "did you mean `learning_rate`?"),
        ("MLXDISTILL_TRIAN__EPOCHS", "unknown key `trian`", "did you mean `train`?"),
        ("--set tarin.epochs", "unknown key `tarin`", "did you mean `train`?"),
    ]


def test_a_key_missing_beside_a_setting_is_not_blamed_on_the_setting(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("student: {model: org/student}\n", ""))
    assert problems(path, "student.lora.rank=4") == [
        (str(path), "`student.model` is missing", "add `model:` under `student:`")
    ]


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("teacher:", "`teacher` is empty", "its keys are: name, model, log, "),
        ("train: 3", "`train`: input should be a section with keys of its own, not 3", "its keys are: epochs, "),
        ("task: {labels: , instruction: x}", "`task.labels` is empty", "Each label"),
        (
            "data: {source: x, gold_values: 3}",
            "`data.gold_values`: input should be keys with a value each, not 3",
            "What the gold column holds",
        ),
        ("data: {source: , valid: 3}", "`data.source` is empty", "Rows to learn from"),
    ],
)
def test_what_a_key_takes_is_said_in_the_words_of_the_file(tmp_path: Path, line: str, message: str, hint: str) -> None:
    key = line.partition(":")[0]
    text = GOOD.replace("data:\n  source: rows.jsonl\n", "data: {source: rows.jsonl}\n")
    text = text.replace("task:\n  instruction: Is it toxic?\n  labels: ", "task: {instruction: x, labels: ")
    text = text.replace("{no: civil, yes: rude}", "{no: civil, yes: rude}}")
    kept = [other for other in text.splitlines() if not other.startswith(f"{key}:")]
    path = write(tmp_path, "\n".join([*kept, line]) + "\n")
    [(where, said, mend)] = problems(path)
    assert (where, said) == (f"{path}:{len(kept) + 1}", message)
    assert (mend or "").startswith(hint)


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


def test_relative_paths_become_absolute_wherever_they_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    environment = {"MLXDISTILL_STUDENT__PROMPT": "student.txt"}
    settings = ["data.valid=valid.jsonl", "teacher.prompt=sub/../p.txt"]
    config = load_config(Path("config.yaml"), settings, environment).config
    assert config.data.source == str(tmp_path / "rows.jsonl")
    assert config.data.valid == str(tmp_path / "valid.jsonl")
    assert config.teacher.prompt == str(tmp_path / "p.txt")
    assert config.student.prompt == str(tmp_path / "student.txt")


def test_a_link_to_a_model_keeps_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"")
    (tmp_path / "teacher.gguf").symlink_to("blob")
    assert load_config(write(tmp_path, GOOD), environment={}).config.teacher.model == str(tmp_path / "teacher.gguf")


@pytest.mark.parametrize("name", ["org/name", "ollama:llama3", "embedded:teacher", "org/name:sub/file.gguf"])
def test_names_of_models_stay_names(tmp_path: Path, name: str) -> None:
    assert load_config(write(tmp_path, GOOD), [f"teacher.model={name}"], {}).config.teacher.model == name


def test_a_section_that_is_set_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = load_config(write(tmp_path, GOOD), ["data={source: other.jsonl}"], {}).config
    assert config.data.source == str(tmp_path / "here" / "other.jsonl")


@pytest.mark.parametrize("text", ["[x", "*foo", "Decide: a: b", "{braces} in it", "[1, 2]", "7", "true", "a # b", "&"])
def test_text_for_a_key_that_takes_text_stays_text(tmp_path: Path, text: str) -> None:
    config = load_config(write(tmp_path, GOOD), [f"task.instruction={text}", f"data.fields.id={text}"], {}).config
    assert config.task.instruction == config.data.fields.id == text.partition(" #")[0]


def test_settings_are_read_as_yaml_where_that_fits(tmp_path: Path) -> None:
    settings = ["teacher.name=null", 'task.instruction="a: b"', "data.valid=7", "data.fields.gold=[a, b]"]
    config = load_config(write(tmp_path, GOOD), settings, {}).config
    assert config.teacher.name is None
    assert (config.task.instruction, config.data.valid, config.data.fields.gold) == ("a: b", 7, ("a", "b"))


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        ("data.valid=0", "`data.valid`: input should be greater than or equal to 1 or a valid string, not 0", "500"),
        ("data.valid=true", "`data.valid`: input should be a number, not True", None),
        ("data.test.indist=true", "`data.test.indist`: input should be a number, not True", None),
        ("train.epochs=true", "`train.epochs`: input should be a number, not True", None),
        ("train.learning_rate=false", "`train.learning_rate`: input should be a number, not False", None),
        ("train.learning_rate=.inf", "`train.learning_rate`: input should be a finite number, not inf", "0.0001"),
        (
            "student={model: m, fine_tune_type: full, quantize: 4}",
            "`student`: a quantized model cannot be trained in full: remove `quantize` or `fine_tune_type`",
            None,
        ),
        (
            "student={model: m, fine_tune_type: full, lora: {layers: 4, rank: 16}}",
            "`student`: `lora.rank` means nothing with `fine_tune_type: full`, which heeds `lora.layers` alone",
            None,
        ),
        ("task.labels.int=[a]", "`task.labels.int`: input should be a section with keys of its own", "verbalizer"),
    ],
)
def test_one_wrong_value_is_one_problem_with_the_name_of_its_key(
    tmp_path: Path, setting: str, message: str, hint: str | None
) -> None:
    [(where, said, mend)] = problems(write(tmp_path, GOOD), setting)
    assert (where, said) == (f"--set {setting.partition('=')[0]}", message)
    assert mend is None if hint is None else hint in (mend or "")


def test_the_origin_of_a_value_is_its_own_and_a_missing_key_has_its_default(tmp_path: Path) -> None:
    text = GOOD.replace("{no: civil, yes: rude}", "{no: civil, yes: {verbalizer: Y}}") + "train:\nfilter: {}\n"
    path = write(tmp_path, text)
    loaded = load_config(path, ["train.epochs=5", "evaluate={margin: 0.1}", "student.lora.keys=[a, b]"], {})
    origins = {
        ("task", "labels", "no", "description"): f"{path}:4",
        ("task", "labels", "yes", "verbalizer"): f"{path}:4",
        ("task", "labels", "yes", "description"): "default",
        ("train", "epochs"): "--set train.epochs",
        ("train", "seed"): "default",
        ("filter", "min_confidence"): "default",
        ("evaluate", "margin"): "--set evaluate",
        ("evaluate", "seed"): "default",
        ("student", "lora", "keys"): "--set student.lora.keys",
        ("student", "lora", "rank"): "default",
    }
    assert {key: loaded.origin(key) for key in origins} == origins
    listed = load_config(write(tmp_path, GOOD.replace("{no: civil, yes: rude}", "[a, b]")), (), {})
    assert listed.origin(("task", "labels", "a", "description")) == f"{path}:4"


@pytest.mark.parametrize(
    ("line", "expected"),
    [("x: \x1b", "U+001B"), ("x: !!int abc", "no int: 'abc'"), ("x: !!bool maybe", "no bool"), ("x: *f", "alias 'f'")],
)
def test_yaml_that_cannot_be_read_names_its_line(tmp_path: Path, line: str, expected: str) -> None:
    path = write(tmp_path, GOOD + line + "\n")
    [(where, message, _)] = problems(path)
    assert where == f"{path}:9"
    assert expected in message


def test_keys_are_the_text_they_are_written_as(tmp_path: Path) -> None:
    text = GOOD.replace("{no: civil, yes: rude}", "{1e3: many, 010: few, true: all, ~: none}")
    assert list(load_config(write(tmp_path, text), environment={}).config.task.labels) == ["1e3", "010", "true", "~"]


def test_settings_without_a_file_follow_the_environment_too() -> None:
    environment = {"MLXDISTILL_TRAIN__EPOCHS": "4", "MLXDISTILL_TRAIN__SEED": "4", "MLXDISTILL_DATA__SEED": "4"}
    student, train = parse_settings(["train.seed=5"], "org/name", environment)
    assert (student.model, train.epochs, train.seed) == ("org/name", 4, 5)
    with pytest.raises(ConfigError, match="no teacher gives rationales here") as caught:
        parse_settings(["train.rationale_weight=0.5"], "org/name", environment)
    assert caught.value.where == "--set train.rationale_weight"
    for setting in ("train.class_balance=true", "student.prompt=teacher"):
        with pytest.raises(ConfigError, match="a data folder's rows") as caught:
            parse_settings([setting], "org/name", {})
        assert caught.value.where == f"--set {setting.partition('=')[0]}"


def test_ways_to_balance_classes(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    ways = {"true": "weights", "false": False, "weights": "weights", "upsample": "upsample", "downsample": "downsample"}
    for given, balance in ways.items():
        assert load_config(path, [f"train.class_balance={given}"], {}).config.train.class_balance == balance
    for wrong in ("yes", "1", "over"):
        with pytest.raises(ConfigError, match="class_balance"):
            load_config(path, [f"train.class_balance={wrong}"], {})
    schema = Config.model_json_schema()["$defs"]["TrainConfig"]["properties"]["class_balance"]
    assert schema["enum"] == [False, True, "weights", "upsample", "downsample"]


SEVERAL = GOOD.replace(
    "teacher: {model: ./teacher.gguf}\n",
    "teacher:\n  - {model: ./a.gguf, name: small}\n  - log: [one.jsonl, sub/two.jsonl]\n    answer_values: {1: yes}\n",
)


def test_several_teachers_are_a_list_and_every_value_has_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, SEVERAL)
    loaded = load_config(
        path, ["teacher.0.n_batch=64", "teacher.1.log=three.jsonl"], {"MLXDISTILL_TEACHER__0__THREADS": "3"}
    )
    first, second = loaded.config.teachers["small"], loaded.config.teachers["teacher2"]
    assert (first.model, first.n_batch, first.threads) == (str(tmp_path / "a.gguf"), 64, 3)
    assert second.log == (str(Path("three.jsonl").absolute()),)
    assert loaded.origin(("teacher", 0, "name")) == f"{path}:8"
    assert loaded.origin(("teacher", 0, "n_batch")) == "--set teacher.0.n_batch"
    assert loaded.origin(("teacher", 0, "threads")) == "MLXDISTILL_TEACHER__0__THREADS"
    assert loaded.origin(("teacher", 1, "answer_values", "1")) == f"{path}:10"
    assert loaded.origin(("teacher", 1, "n_ctx")) == "default"
    logs = load_config(path, (), {}).config.teachers["teacher2"].log
    assert logs == (str(tmp_path / "one.jsonl"), str(tmp_path / "sub/two.jsonl"))


def test_a_list_of_teachers_can_be_set_on_the_command_line(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD), ["teacher=[{model: org/a}, {model: org/b, name: b}]"], {}).config
    assert list(config.teachers) == ["teacher1", "b"]


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        (
            "teacher.n_batch=64",
            "teacher.n_batch cannot be set: teacher is a list of 2 and has no item n_batch",
            "0.n_b",
        ),
        (
            "teacher.2.seed=1",
            "teacher.2.seed cannot be set: teacher is a list of 2 and has no item 2",
            "teacher.0.seed",
        ),
        ("teacher.0.n_bach=64", "unknown key `n_bach` in `teacher.0`", "did you mean `n_batch`?"),
        ("teacher.1.seed=-1", "`teacher.1.seed`: input should be greater than or equal to 0, not '-1'", None),
        ("teacher.0.name.x=1", "teacher.0.name.x cannot be set: name is a single value", None),
    ],
)
def test_a_mistake_in_one_of_several_teachers_is_one_problem(
    tmp_path: Path, setting: str, message: str, hint: str | None
) -> None:
    [(where, said, mend)] = problems(write(tmp_path, SEVERAL), setting)
    assert (where, said.replace("'", "")) == (f"--set {setting.partition('=')[0]}", message.replace("'", ""))
    assert hint is None or hint in (mend or "")


@pytest.mark.parametrize(
    ("teachers", "line", "expected"),
    [
        ("[]", 7, "give at least one teacher"),
        ("[{model: a.gguf, name: x}, {model: b.gguf, name: x}]", 7, "two teachers have the same `name`"),
        ("[{model: a.gguf, name: teacher2}, {model: b.gguf}]", 7, "two teachers have the same `name`"),
        ("[{model: a.gguf}, b.gguf]", 7, "`teacher.1`: input should be a section with keys of its own"),
        ("[{model: a.gguf}, {model: a.gguf, log: b}]", 7, "`teacher.1`: a teacher is either a `model` or a `log`"),
        ("{log: a.jsonl, calibrate: content_free}", 7, "`calibrate` is of a `model`; a `log` is only read"),
        ("[{model: a.gguf}, {log: b, answer_values: {x: yess}}]", 7, "`teacher.1.answer_values` maps 'x' to 'yess'"),
    ],
)
def test_what_is_wrong_with_several_teachers_is_said_once(
    tmp_path: Path, teachers: str, line: int, expected: str
) -> None:
    path = write(tmp_path, GOOD.replace("{model: ./teacher.gguf}", teachers))
    [(where, message, _)] = problems(path)
    assert where == f"{path}:{line}"
    assert expected in message
