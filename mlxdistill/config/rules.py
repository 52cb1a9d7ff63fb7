"""A rule of `filter.rules`: what a row's text, or what the teacher wrote, must be like to teach.

Everything about a rule that can be wrong is found when the configuration is read: a filter runs after hours of
labelling.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mlxdistill.config.section import Count, Section, scalar_name

# What `text.language.language_of` may name: the labels of py3langid's model.
_CODES = """
ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv fy
ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la lb lg
lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl
sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu
"""
LANGUAGES = frozenset(_CODES.split())
MOST_TITLE_CHARACTERS = 60
_CONDITIONS = (
    *("min_characters", "max_characters", "min_words", "max_words", "must_match", "must_not_match", "languages"),
    *("required_fields", "json_schema"),
)


class RuleConfig(Section):
    """Rows that do not meet every condition are dropped."""

    name: str | None = Field(
        None,
        pattern=r"^[^\s](.{0,58}[^\s])?$",
        description="What reports and decisions call the rule; default: made of its conditions.",
    )
    about: Literal["text", "answer"] = Field(
        "text", description="What the conditions are about: the row's text, or what the teacher wrote about it."
    )
    only: tuple[str, ...] | None = Field(
        None, min_length=1, description="Labels; rows with another label of the teacher's are let through."
    )
    min_characters: Count | None = None
    max_characters: Count | None = None
    min_words: Count | None = Field(None, description="Words are what stands between spaces.")
    max_words: Count | None = None
    must_match: str | None = Field(
        None, min_length=1, description="A regular expression that must be found somewhere in the text."
    )
    must_not_match: str | None = Field(
        None, min_length=1, description="A regular expression that must not be found in the text."
    )
    languages: tuple[str, ...] | None = Field(
        None, min_length=1, description="Codes of ISO 639 (en, de, ...) of the languages that the text may be in."
    )
    unsure: Literal["keep", "drop"] = Field(
        "keep", description="With `languages`: what becomes of texts too short or too mixed to tell."
    )
    required_fields: tuple[str, ...] | None = Field(
        None, min_length=1, description="The text must be a JSON object with these keys, none of them empty."
    )
    json_schema: dict[str, Any] | str | None = Field(
        None, description="The text must be JSON that meets this JSON schema: the schema itself, or its file."
    )

    @field_validator("only", "languages", "required_fields", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        if isinstance(value, str | bool):
            value = [value]
        return [scalar_name(item) for item in value] if isinstance(value, list | tuple) else value

    @field_validator("must_match", "must_not_match")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            check_pattern(value)
        return value

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = [code for code in value or () if code not in LANGUAGES]
        if unknown:
            known = "for example en, de, fr, es, pt, it, nl, zh, ja, ar, hi"
            raise ValueError(f"{', '.join(map(repr, unknown))}: no code of a language that can be told; {known}")
        return value

    @field_validator("json_schema")
    @classmethod
    def _valid_schema(cls, value: dict[str, Any] | str | None) -> dict[str, Any] | None:
        """The schema itself, also where its file was named: what rows were held against stays with the run."""
        return None if value is None else check_schema(read_schema(value))

    @model_validator(mode="after")
    def _conditions_make_sense(self) -> RuleConfig:
        given = [name for name in _CONDITIONS if getattr(self, name) is not None]
        if not given:
            raise ValueError(f"a rule needs a condition: {', '.join(_CONDITIONS)}")
        for what in ("characters", "words"):
            least, most = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if least is not None and most is not None and least > most:
                raise ValueError(f"no text has at least {least} and at most {most} {what}")
        if self.unsure != "keep" and self.languages is None:
            raise ValueError("`unsure` means something only beside `languages`")
        return self

    @property
    def title(self) -> str:
        """Its name, or one made of its conditions."""
        if self.name is not None:
            return self.name
        given = [name for name in _CONDITIONS if getattr(self, name) is not None]
        parts = [f"{name} {_shown(getattr(self, name))}".rstrip() for name in given]
        parts += ["of the answer"] if self.about == "answer" else []
        parts += [f"only {' '.join(self.only)}"] if self.only else []
        title = " ".join(", ".join(parts).split())
        return title if len(title) <= MOST_TITLE_CHARACTERS else title[: MOST_TITLE_CHARACTERS - 1] + "…"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("title", ""))
    return " ".join(value) if isinstance(value, tuple) else str(value)


def check_pattern(pattern: str) -> None:
    """Raises ValueError, with the position, where the text is no regular expression."""
    import regex

    try:
        regex.compile(pattern)
    except regex.error as error:
        fault: Any = error  # its stubs know neither `msg` nor `pos`
        at = "" if fault.pos is None else f" at character {fault.pos + 1}"
        raise ValueError(f"no regular expression: {fault.msg}{at}") from None


def read_schema(schema: Mapping[str, Any] | str) -> Any:
    """The schema, read from its file where that is named. Raises ValueError where the file holds none."""
    if not isinstance(schema, str):
        return schema
    try:
        return json.loads(Path(schema).read_text("utf-8-sig"))
    except OSError as error:
        raise ValueError(f"the file cannot be read: {(error.strerror or 'unknown reason').lower()}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the file is not JSON: {error}") from None


def check_schema(schema: Any) -> dict[str, Any]:
    """The schema. Raises ValueError where it is none, or none that can be used here."""
    from jsonschema import FormatChecker, SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    if not isinstance(schema, dict):
        raise ValueError("a JSON schema is a mapping")
    try:
        validator: Any = validator_for(schema, default=Draft202012Validator)
        validator.check_schema(schema, FormatChecker(()))  # its `regex` format is Python's, which knows no \\p{L}
    except SchemaError as error:
        place = "/".join(map(str, error.path)) or "its top"
        raise ValueError(f"no JSON schema: at {place}: {error.message}") from None
    for key, value in _entries(schema):
        if key == "$ref" and isinstance(value, str) and not value.startswith("#"):
            raise ValueError(f"the JSON schema refers to {value!r}; it may refer to its own parts only (#/...)")
        if key == "patternProperties":
            raise ValueError("`patternProperties` of a JSON schema are not supported; name the properties")
        if key == "pattern" and isinstance(value, str):
            try:
                check_pattern(value)
            except ValueError as error:
                raise ValueError(f"`pattern` of the JSON schema: {error}") from None
    return schema


def _entries(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    places = [schema]
    while places:
        place = places.pop()
        if isinstance(place, dict):
            yield from place.items()
            places += place.values()
        elif isinstance(place, list):
            places += place
