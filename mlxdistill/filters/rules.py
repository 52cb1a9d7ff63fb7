"""Drops rows that do not meet a rule of the user's (`config/rules.py`).

Reasons name the condition, never what stands in the row. A regular expression is given two seconds a row: one that goes
through a text in exponentially many ways would otherwise hold the run for ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlxdistill.config.rules import RuleConfig
from mlxdistill.errors import DataError
from mlxdistill.filters.candidate import BY_PERSON, Candidate
from mlxdistill.store import Decision
from mlxdistill.tasks.forms import FENCE

PREFIX = "rule: "
MATCH_SECONDS = 2.0
MOST_SLOW_ROWS = 3


@dataclass(frozen=True, slots=True)
class Found:
    """What a condition found: `fault` (None where the text meets it), and what it measured."""

    fault: str | None = None
    score: float | None = None


Condition = Callable[[str], Found]


class Rule:
    """One rule as a filter; its name in decisions is the rule's, behind PREFIX.

    A row on which a regular expression takes longer than MATCH_SECONDS is dropped. Raises DataError, with the row,
    where that happens on more than MOST_SLOW_ROWS: then it is the expression's fault, not the rows'.
    """

    def __init__(self, config: RuleConfig) -> None:
        self.name = PREFIX + config.title
        self._about_answer = config.about == "answer"
        self._only = config.only
        self._conditions = list(_conditions(config))

    def __call__(self, candidates: Iterable[Candidate]) -> Iterator[Decision]:
        slow = 0
        for candidate in candidates:
            try:
                found = self._look(candidate)
            except TimeoutError:
                slow += 1
                fault = f"a regular expression of `{self.name}` took longer than {MATCH_SECONDS:g} s"
                if slow > MOST_SLOW_ROWS:
                    raise DataError(
                        f"{fault} on {slow} rows",
                        where=f"row {candidate.row.id}",
                        hint="rewrite it in filter.rules so that repetitions do not stand inside one another: (a+)+",
                    ) from None
                found = (False, fault, None)
            yield Decision(candidate.row.id, self.name, found[0], found[1], found[2])

    def _look(self, candidate: Candidate) -> tuple[bool, str, float | None]:
        answer = candidate.answer
        if self._only is not None and (answer is None or answer.label not in self._only):
            return True, "the rule is for other labels", None
        text = candidate.row.text
        if self._about_answer:
            if candidate.by_person:
                return True, BY_PERSON, None
            if answer is None or answer.text is None:
                return True, "the teacher wrote no text", None
            text = answer.text
        score = None
        for condition in self._conditions:
            found = condition(text)
            if found.fault is not None:
                return False, found.fault, found.score
            score = found.score if score is None else score
        return True, "meets the rule", score


def _conditions(config: RuleConfig) -> Iterator[Condition]:
    """Those of the rule, the cheap ones first."""
    for what, measure in (("characters", _characters), ("words", _words)):
        least, most = getattr(config, f"min_{what}"), getattr(config, f"max_{what}")
        if least is not None or most is not None:
            yield partial(_length, what, measure, least, most)
    for pattern, wanted in ((config.must_match, True), (config.must_not_match, False)):
        if pattern is not None:
            yield _matching(pattern, wanted=wanted)
    if config.required_fields is not None:
        yield partial(_fields, config.required_fields)
    if config.json_schema is not None:
        assert not isinstance(config.json_schema, str)
        yield _schema(config.json_schema)
    if config.languages is not None:
        yield partial(_language, config.languages, config.unsure == "keep")


def _characters(text: str) -> int:
    return len(text.strip())


def _words(text: str) -> int:
    return len(text.split())


def _length(what: str, measure: Callable[[str], int], least: int | None, most: int | None, text: str) -> Found:
    count = measure(text)
    if least is not None and count < least:
        return Found(f"fewer than {least:,} {what}", count)
    if most is not None and count > most:
        return Found(f"more than {most:,} {what}", count)
    return Found(score=count)


def _matching(pattern: str, *, wanted: bool) -> Condition:
    import regex

    compiled = regex.compile(pattern)
    fault = "does not match must_match" if wanted else "matches must_not_match"

    def look(text: str) -> Found:
        found = compiled.search(text, timeout=MATCH_SECONDS) is not None
        return Found(None if found == wanted else fault)

    return look


def _language(languages: tuple[str, ...], keep_unsure: bool, text: str) -> Found:
    from mlxdistill.text.language import language_of

    found = language_of(text)
    if found is None:
        return Found(None if keep_unsure else "its language cannot be told")
    return Found(None if found in languages else f"its language is {found}")


def _read(text: str) -> Any:
    """The JSON value that the text is, or holds in a fence. Raises ValueError where it is none."""
    fenced = FENCE.search(text)
    try:
        return json.loads(fenced.group(1) if fenced else text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _fields(names: tuple[str, ...], text: str) -> Found:
    try:
        value = _read(text)
    except ValueError:
        return Found("it is not JSON")
    if not isinstance(value, Mapping):
        return Found("it is not a JSON object")
    for name in names:
        if value.get(name) in (None, "", [], {}):
            return Found(f"the field {name} is {'empty' if name in value else 'missing'}")
    return Found()


def _schema(schema: Mapping[str, Any]) -> Condition:
    import regex
    from jsonschema import ValidationError
    from jsonschema.validators import Draft202012Validator, extend, validator_for
    from referencing import Registry

    def pattern(_: Any, wanted: str, instance: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(instance, str) and regex.search(wanted, instance, timeout=MATCH_SECONDS) is None:
            yield ValidationError("does not match")

    # Its own `pattern` has no time limit, and its usual registry would fetch schemas from the network.
    base = validator_for(schema, default=Draft202012Validator)
    timed: Any = extend  # its stubs give it no types
    validator = timed(base, {"pattern": pattern})(schema, registry=Registry())

    def look(text: str) -> Found:
        try:
            error = next(validator.iter_errors(_read(text)), None)
        except ValueError:
            return Found("it is not JSON")
        except RecursionError:
            return Found("its JSON is nested too deeply")
        # The path in the schema, not in the row: keys are the row's own words.
        return Found(None if error is None else f"breaks the JSON schema at {'/'.join(map(str, error.schema_path))}")

    return look
