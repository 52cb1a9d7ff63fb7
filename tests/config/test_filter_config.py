"""What is wrong with `filter` is said when the configuration is read, all of it at once, each with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.config.load import load_config
from mlxdistill.config.models import Config
from mlxdistill.config.rules import LANGUAGES, RuleConfig
from mlxdistill.config.save import to_yaml
from mlxdistill.errors import ConfigError, Problem

HEAD = """\
task: {instruction: Sort., labels: [ok, toxic]}
data: {source: rows.jsonl}
student: {model: some/model}
"""
MODEL = "teacher: {model: some/teacher}\n"
LOG = "teacher: {log: answers.jsonl}\n"
TWO = "teacher: [{name: small, model: some/teacher}, {name: gpt, log: answers.jsonl}]\n"


def load(folder: Path, text: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(HEAD + text, "utf-8")
    return load_config(path, environment={}).config


def problems(folder: Path, text: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return caught.value.problems


def test_every_mistake_of_the_rules_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    rules = """\
filter:
  rules:
    - {must_match: "(ab"}
    - {languages: [en, xx]}
    - {json_schema: {type: objet}}
    - {json_schema: gone.json}
    - {name: empty}
    - {min_words: 5, max_words: 3}
    - {must_not_match: a, unsure: drop}
    - {min_word: 3}
    - {json_schema: {$ref: "http://example.com/x"}}
    - {json_schema: {properties: {a: {pattern: "["}}}}
    - {json_schema: {patternProperties: {a: {}}}}
"""
    found = problems(tmp_path, MODEL + rules)
    lines = [int(problem.where.rsplit(":", 1)[1]) for problem in found]
    told = [f"{line - 6}: {problem.message}" for line, problem in zip(lines, found, strict=True)]
    known = "no code of a language that can be told; for example en, de, fr, es, pt, it, nl, zh, ja, ar, hi"
    assert told[:8] == [
        "1: `filter.rules.0.must_match`: no regular expression: missing ) at character 4, not '(ab'",
        f"2: `filter.rules.1.languages`: 'xx': {known}",
        "3: `filter.rules.2.json_schema`: no JSON schema: at type: 'objet' is not valid under any of the given schemas",
        "4: `filter.rules.3.json_schema`: the file cannot be read: no such file or directory, not"
        f" {str(tmp_path / 'gone.json')!r}",
        "5: `filter.rules.4`: a rule needs a condition: min_characters, max_characters, min_words, max_words,"
        " must_match, must_not_match, languages, required_fields, json_schema",
        "6: `filter.rules.5`: no text has at least 5 and at most 3 words",
        "7: `filter.rules.6`: `unsure` means something only beside `languages`",
        "8: unknown key `min_word` in `filter.rules.7`",
    ]
    assert found[7].hint == "did you mean `min_words`?"
    assert ["its own parts only" in told[8], "`pattern` of" in told[9], "not supported" in told[10]] == [True] * 3


def test_a_schema_file_becomes_part_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "person.json").write_text(json.dumps({"type": "object", "required": ["name"]}), "utf-8")
    config = load(tmp_path, MODEL + "filter: {rules: [{json_schema: person.json}]}\n")
    assert config.filter.rules[0].json_schema == {"type": "object", "required": ["name"]}


def test_a_configuration_with_every_filter_is_read_back(tmp_path: Path) -> None:
    text = """\
filter:
  min_margin: 0.1
  near_duplicates: 0.8
  judge: {least: 2.5}
  most_per_class: 100
  rules:
    - {about: answer, json_schema: {title: "no: title", enum: [null, true, 1.5, "yes"]}, only: toxic}
    - {name: "a: name", must_not_match: "https?://\\\\S+", languages: no}
"""
    config = load(tmp_path, MODEL + text)
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(config), "utf-8")
    assert load_config(again, environment={}).config == config
    assert config.filter.rules[1].languages == ("no",)


@pytest.mark.parametrize(
    ("teacher", "text", "message", "hint"),
    [
        (
            MODEL,
            "{agreement: 0.7}",
            "`filter.agreement` means nothing: the only teacher answers each row once",
            "leave it out; or set the teacher's `label_orders` or `samples`, or give several teachers",
        ),
        (
            LOG,
            "{judge: {}}",
            "`filter.judge` needs a teacher with a `model`: a `log` cannot be asked about labels",
            "leave it out, or give a teacher with a `model`",
        ),
        (
            TWO,
            "{judge: {teacher: gpt}}",
            "`filter.judge` needs a teacher with a `model`: a `log` cannot be asked about labels",
            "those with a model: small",
        ),
        (
            TWO,
            "{judge: {teacher: smal}}",
            "`filter.judge.teacher`: no teacher is called 'smal'",
            "those with a model: small",
        ),
        (
            MODEL,
            "{rules: [{min_words: 2, only: toxik}]}",
            "`filter.rules.0.only` names 'toxik', which is no label of the task",
            "did you mean `toxic`?",
        ),
        (
            MODEL,
            "{rules: [{min_words: 2}, {min_words: 2}]}",
            "`filter.rules`: two rules are called 'min_words 2'; give one of them another `name`",
            None,
        ),
        (
            MODEL,
            "{judge: {least: 3, drop: 0.1}}",
            "`filter.judge`: `least` takes the place of `drop` and `per_class`: leave them out, or it",
            None,
        ),
    ],
)
def test_what_would_go_unheeded_is_refused(
    tmp_path: Path, teacher: str, text: str, message: str, hint: str | None
) -> None:
    (problem,) = problems(tmp_path, teacher + f"filter: {text}\n")
    assert (problem.message, problem.hint) == (message, hint)
    assert problem.where.startswith(f"{tmp_path / 'config.yaml'}:5")


@pytest.mark.parametrize("teacher", ["{model: a, label_orders: 2}", "[{model: a}, {log: b.jsonl}]"])
def test_agreement_is_for_rows_answered_several_times(tmp_path: Path, teacher: str) -> None:
    assert load(tmp_path, f"teacher: {teacher}\nfilter: {{agreement: 0.7}}\n").filter.agreement == 0.7


@pytest.mark.parametrize(
    ("rule", "title"),
    [
        ({"min_words": 2, "max_words": 9}, "min_words 2, max_words 9"),
        ({"languages": ["en", "de"], "only": "ok"}, "languages en de, only ok"),
        ({"required_fields": "name", "about": "answer"}, "required_fields name, of the answer"),
        ({"json_schema": {"type": "object"}, "about": "answer"}, "json_schema, of the answer"),
        ({"must_match": "a\n  b"}, "must_match a b"),
        ({"must_match": "x" * 100}, "must_match " + "x" * 48 + "…"),
        ({"min_words": 2, "name": "short"}, "short"),
    ],
)
def test_a_rule_without_a_name_is_called_by_its_conditions(rule: dict[str, Any], title: str) -> None:
    assert RuleConfig(**rule).title == title


def test_every_language_that_can_be_told_can_be_asked_for() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    assert {*LANGUAGES, "zxx"} == set(LanguageIdentifier.from_model_file(MODEL_FILE).nb_classes)
