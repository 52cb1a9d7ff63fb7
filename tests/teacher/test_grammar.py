"""Schemas as grammars: what they allow in a model's tokens, and what is too much."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxdistill.errors import ModelError, UsageError
from mlxdistill.teacher.engine import Model
from mlxdistill.teacher.grammar import MOST_DEPTH, Grammar, check_grammar, schema_grammar


def label_schema(*labels: str, rationale: int | None = None) -> dict[str, Any]:
    properties: dict[str, Any] = {} if rationale is None else {"rationale": {"type": "string", "maxLength": rationale}}
    properties["label"] = {"enum": list(labels)}
    return {"type": "object", "properties": properties}


def accepts(model: Model, grammar: Grammar, text: str) -> bool:
    """Whether the grammar goes along with the text's tokens, and then with the end of the turn."""
    with grammar.begin() as matcher:
        for token in model.tokenise(text, control=False):
            if not matcher.allows(np.array([token]))[0]:
                return False
            matcher.accept(token)
        end = model.end_of_turn
        assert end is not None
        return bool(matcher._matches(np.array([end]))[0])


@pytest.fixture(params=["tiny_model", "stories_model"])
def model(request: pytest.FixtureRequest) -> Model:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Model)
    return found


TRICKY = [
    "ok",
    'say "hi"',
    "back\\slash",
    "new\nline",
    "ümlaut 🙂",
    "a | b",
    "(((",
    "[x]",
    "]",
    "{",
    "# no",
    "\x00",
    "…",
]


@pytest.mark.parametrize("indent", [" ", ""])
def test_every_label_can_be_written_and_nothing_else(tiny_model: Model, indent: str) -> None:
    with Grammar(tiny_model, schema_grammar(label_schema(*TRICKY))) as grammar:
        for label in TRICKY:
            written = json.dumps(label, ensure_ascii=False)
            assert accepts(tiny_model, grammar, f'{{{indent}"label":{indent}{written}{indent}}}')
            assert not accepts(tiny_model, grammar, f'{{"label": {written}}} ')
            assert not accepts(tiny_model, grammar, f'{{"label": {written}')
            assert not accepts(tiny_model, grammar, f'{{"label": {written}, "label": {written}}}')
        for wrong in (
            '{"label": "k"}',
            '{"label": 1}',
            "{}",
            '{"Label": "ok"}',
            ' {"label": "ok"}',
            '{\n"label": "ok"}',
        ):
            assert not accepts(tiny_model, grammar, wrong)


def test_a_rationale_comes_first_and_ends(model: Model) -> None:
    with Grammar(model, schema_grammar(label_schema("ok", rationale=30))) as grammar:
        assert accepts(model, grammar, '{"rationale": "because", "label": "ok"}') == (not model.adds_space)
        with grammar.begin() as matcher:
            assert matcher.every().tolist() == [
                token
                for token in range(model.vocabulary_size)
                if model.piece(token) in (b"{", b'{"', b'{ "') and not model.is_control(token)
            ]


def test_the_rationale_is_bounded(tiny_model: Model) -> None:
    with Grammar(tiny_model, schema_grammar(label_schema("ok", rationale=30))) as grammar:
        for rationale, good in (
            ("x" * 30, True),
            ("x" * 31, False),
            ("", True),
            ("ü🙂" * 15, True),
            ('a "quote" and a \\ in it', True),
            ("two\nlines", True),
        ):
            written = json.dumps({"rationale": rationale, "label": "ok"}, ensure_ascii=False)
            assert accepts(tiny_model, grammar, written) == good
        assert not accepts(tiny_model, grammar, '{"rationale": "two\nlines", "label": "ok"}')
        assert not accepts(tiny_model, grammar, '{"label": "ok", "rationale": "x"}')


def test_control_tokens_are_never_allowed(model: Model) -> None:
    with Grammar(model, schema_grammar(label_schema("ok", rationale=30))) as grammar, grammar.begin() as matcher:
        control = [token for token in range(model.vocabulary_size) if model.is_control(token)]
        assert len(control) >= 2
        for text in ('{"rationale":"a', "b"):
            for byte in text:
                (token,) = [t for t in matcher.every().tolist() if model.piece(t) == byte.encode()][:1]
                matcher.accept(token)
            assert not matcher.allows(np.array(control)).any()
            assert not set(matcher.every().tolist()) & set(control)


def test_what_may_come_next_is_remembered_by_the_text_before(tiny_model: Model) -> None:
    with Grammar(tiny_model, schema_grammar(label_schema("ok", "toxic"))) as grammar:
        with grammar.begin() as first:
            assert first.known() is None
            found = first.every()
        with grammar.begin() as second:
            known = second.known()
            assert known is not None
            assert known.tolist() == found.tolist()
            second.accept(int(found[0]))
            assert second.known() is None


def test_after_a_thought_there_may_be_newlines(tiny_model: Model) -> None:
    with Grammar(tiny_model, schema_grammar(label_schema("ok"), after_thought=True)) as grammar:
        assert accepts(tiny_model, grammar, '{"label": "ok"}')
        assert accepts(tiny_model, grammar, '\n\n{"label": "ok"}')
        assert not accepts(tiny_model, grammar, '\n\n\n{"label": "ok"}')


SCHEMAS = st.recursive(
    st.one_of(
        st.sampled_from([{"type": kind} for kind in ("integer", "number", "boolean", "null")]),
        st.just({"type": "string", "maxLength": 8}),
        st.lists(st.one_of(st.text(max_size=3), st.integers(), st.none()), min_size=1, max_size=3).map(
            lambda values: {"enum": values}
        ),
    ),
    lambda inner: st.one_of(
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(
            lambda each: {"type": "object", "properties": each}
        ),
        st.builds(lambda items, most: {"type": "array", "items": items, "maxItems": most}, inner, st.integers(0, 3)),
    ),
    max_leaves=5,
)


def value_of(schema: dict[str, Any], data: st.DataObject) -> Any:
    if "enum" in schema:
        return data.draw(st.sampled_from(schema["enum"]))
    match schema["type"]:
        case "object":
            return {name: value_of(part, data) for name, part in schema["properties"].items()}
        case "array":
            return [value_of(schema["items"], data) for _ in range(data.draw(st.integers(0, schema["maxItems"])))]
        case "string":
            plain = st.characters(exclude_categories=["Cs", "Cc"])
            return data.draw(st.text(plain, max_size=8))
        case "integer":
            return data.draw(st.integers(-(10**9), 10**9))
        case "number":
            return data.draw(st.floats(-1e9, 1e9).map(lambda value: round(value, 3)))
        case "boolean":
            return data.draw(st.booleans())
    return None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schema=SCHEMAS, data=st.data())
def test_every_value_of_a_schema_can_be_written(tiny_model: Model, schema: dict[str, Any], data: st.DataObject) -> None:
    value = value_of(schema, data)
    with Grammar(tiny_model, schema_grammar(schema)) as grammar:
        assert accepts(tiny_model, grammar, json.dumps(value, ensure_ascii=False, separators=(",", ":")))
        assert not accepts(tiny_model, grammar, json.dumps(value, ensure_ascii=False)[:-1] + "@")


def test_a_schema_nested_sixty_thousand_deep_is_refused() -> None:
    deep: dict[str, Any] = {"type": "null"}
    for _ in range(60_000):
        deep = {"type": "array", "items": deep}
    with pytest.raises(UsageError, match=f"more than {MOST_DEPTH} deep") as raised:
        schema_grammar(deep)
    assert raised.value.hint
    while "items" in deep:  # taken down by hand: Python would recurse
        deep = deep.pop("items")


def test_a_grammar_nested_sixty_thousand_deep_never_reaches_the_parser(tiny_model: Model) -> None:
    with pytest.raises(UsageError, match="nested 60000 deep"):
        Grammar(tiny_model, "root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000)


def test_labels_with_parentheses_are_not_nested() -> None:
    check_grammar(schema_grammar(label_schema(*[f":( {'(' * number}[(" for number in range(150)])))


def test_a_huge_grammar_is_refused() -> None:
    with pytest.raises(UsageError, match="characters; at most 200,000") as raised:
        schema_grammar(label_schema(*[f"label {number} " * 10 for number in range(3000)]))
    assert "fewer or shorter labels" in str(raised.value.hint)
    with pytest.raises(UsageError, match="asks for 1001 repetitions"):
        schema_grammar({"type": "string", "maxLength": 1001})
    with pytest.raises(UsageError, match="without a known type"):
        schema_grammar({"type": "object", "properties": {"a": {"$ref": "#"}}})


def test_a_grammar_that_llama_cpp_does_not_take_says_so(tiny_model: Model) -> None:
    with pytest.raises(ModelError, match="does not take the grammar"):
        Grammar(tiny_model, "root ::= nothing")
