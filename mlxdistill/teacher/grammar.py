"""Answers that cannot but be of the task's form: a JSON schema as a grammar, and llama.cpp's matcher for it.

The grammar is made here and not by the bindings' converter, so that properties come in the schema's order, white space
is at most a space, and what strangers' schemas may ask for is bounded: llama.cpp's parser overflows its stack on a
grammar nested sixty thousand deep, and its matcher crawls through a huge one.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.errors import ModelError, UsageError
from mlxdistill.teacher.engine import Model

MOST_DEPTH = 32
MOST_CHARACTERS = 200_000
MOST_REPETITIONS = 1000  # llama.cpp refuses more than 2000
MOST_REMEMBERED_TOKENS = 4096
MOST_REMEMBERED_TEXTS = 1024
THOUGHT_BREAK = r"[\n]{0,2} "  # what models write between a thought and the answer

_RULES = r"""space ::= " "?
char ::= [^"\\\x00-\x1F\x7F] | "\\" ["\\/bfnrt]
integer ::= "-"? ("0" | [1-9] [0-9]{0,15})
number ::= integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?
"""
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]', re.DOTALL)
_BY_TYPE = {"integer": "integer", "number": "number", "boolean": '("true" | "false")', "null": '"null"'}
_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


def schema_grammar(schema: Mapping[str, Any], *, after_thought: bool = False) -> str:
    """The grammar (GBNF, root rule `root`) of a JSON schema.

    Of JSON Schema: `enum`; objects, whose `properties` are all written, in the schema's order; arrays (`items`,
    `minItems`, `maxItems`); strings (`maxLength`); numbers, integers, booleans, null. Strings hold no `\\u` escapes:
    every character can be written as itself.

    Args:
        after_thought: the answer may begin with up to two newlines.

    Raises UsageError where the schema asks for something else, or is too deep or too large.
    """
    root = _expression(schema, 0)
    grammar = f"root ::= {THOUGHT_BREAK if after_thought else ''}{root}\n{_RULES}"
    check_grammar(grammar)
    return grammar


def check_grammar(grammar: str) -> None:
    """Raises UsageError where the grammar is too large, or nested too deeply for llama.cpp's parser."""
    if len(grammar) > MOST_CHARACTERS:
        message = f"the grammar of the answer has {len(grammar):,} characters; at most {MOST_CHARACTERS:,} are used"
        raise UsageError(message, hint="use fewer or shorter labels, or `answer: score`")
    depth = deepest = 0
    for character in _QUOTED.sub("", grammar):
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    if deepest > 2 * MOST_DEPTH:
        raise UsageError(f"the grammar of the answer is nested {deepest} deep", hint="make its schema flatter")


def _expression(schema: Mapping[str, Any], depth: int) -> str:
    if depth > MOST_DEPTH:
        message = f"the schema of the answer is nested more than {MOST_DEPTH} deep"
        raise UsageError(message, hint="make the schema flatter")
    if "enum" in schema:
        return "(" + " | ".join(_literal(value) for value in schema["enum"]) + ")"
    match schema.get("type"):
        case "object":
            members = [
                f'{_literal(name)} ":" space {_expression(value, depth + 1)}'
                for name, value in schema["properties"].items()
            ]
            return '"{" space ' + ' "," space '.join(members) + ' space "}"'
        case "array":
            return _array(schema, depth)
        case "string":
            return r'"\"" char' + _times(0, schema.get("maxLength")) + r' "\""'
        case str(kind) if kind in _BY_TYPE:
            return _BY_TYPE[kind]
    hint = "use object, array, string, enum, number, integer, boolean or null"
    raise UsageError(f"the schema of the answer has a part without a known type: {sorted(schema)}", hint=hint)


def _array(schema: Mapping[str, Any], depth: int) -> str:
    item = _expression(schema["items"], depth + 1)
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    if most == 0:
        return '"[]"'
    rest = f'("," space {item})' + _times(max(0, least - 1), None if most is None else most - 1)
    filled = f"{item} {rest}"
    return '"[" space ' + (filled if least else f"({filled})?") + ' space "]"'


def _times(least: int, most: int | None) -> str:
    if max(least, most or 0) > MOST_REPETITIONS:
        message = f"the schema of the answer asks for {max(least, most or 0)} repetitions"
        raise UsageError(message, hint=f"at most {MOST_REPETITIONS} are possible")
    return f"{{{least},{'' if most is None else most}}}"


def _literal(value: Any) -> str:
    """A value's JSON as a literal of the grammar; what JSON escapes is written escaped."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Grammar:
    """A grammar over a model's vocabulary. A context manager.

    Tokens that are more than text (control tokens, the ends of a turn) are never allowed: whoever generates stops when
    the answer is complete.

    Raises ModelError where llama.cpp does not take the grammar.
    """

    def __init__(self, model: Model, text: str) -> None:
        import llama_cpp

        check_grammar(text)
        self.model = model
        self.llama = llama_cpp
        self.pointer = llama_cpp.llama_sampler_init_grammar(model.vocabulary, text.encode(), b"root")
        if not self.pointer:
            hint = "use other labels, or `format: text`"
            raise ModelError("llama.cpp does not take the grammar of the answer", where=str(model.path), hint=hint)
        self.usable = np.array([not model.is_control(token) for token in range(model.vocabulary_size)])
        self.vocabulary = np.flatnonzero(self.usable).astype(np.int32)
        self.remembered: dict[bytes, NDArray[np.int32]] = {}

    def __enter__(self) -> Grammar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.pointer:
            self.llama.llama_sampler_free(self.pointer)
            self.pointer = None

    def begin(self) -> Matcher:
        """A matcher at the beginning of an answer."""
        return Matcher(self)


class Matcher:
    """One answer on its way through a grammar. To be closed, or used as a context manager."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._pointer = grammar.llama.llama_sampler_clone(grammar.pointer)
        self._text = b""

    def close(self) -> None:
        if self._pointer:
            self._grammar.llama.llama_sampler_free(self._pointer)
            self._pointer = None

    def __enter__(self) -> Matcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def accept(self, token: int) -> None:
        """Goes on with a token that is allowed; one that is not would abort the process."""
        self._grammar.llama.llama_sampler_accept(self._pointer, token)
        self._text += self._grammar.model.piece(token)

    def allows(self, tokens: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of the tokens may come next."""
        usable: NDArray[np.bool_] = self._grammar.usable[tokens]
        return usable & self._matches(tokens)

    def known(self) -> NDArray[np.int32] | None:
        """The tokens that may come next where `every` was asked after the same text before, and found few."""
        return self._grammar.remembered.get(self._text)

    def every(self) -> NDArray[np.int32]:
        """All tokens that may come next, ascending. What may come depends on the text so far alone, so few tokens are
        remembered: the next answer that comes to the same text does not try the vocabulary again."""
        grammar = self._grammar
        found: NDArray[np.int32] = grammar.vocabulary[self._matches(grammar.vocabulary)]
        if len(found) <= MOST_REMEMBERED_TOKENS:
            if len(grammar.remembered) >= MOST_REMEMBERED_TEXTS:
                del grammar.remembered[next(iter(grammar.remembered))]
            grammar.remembered[self._text] = found
        return found

    def _matches(self, tokens: NDArray[Any]) -> NDArray[np.bool_]:
        llama = self._grammar.llama
        data = np.zeros(len(tokens), _TOKEN_DATA)
        data["id"] = tokens
        candidates = llama.llama_token_data_array(
            data=ctypes.cast(data.ctypes.data, llama.llama_token_data_p), size=len(data), selected=-1, sorted=False
        )
        llama.llama_sampler_apply(self._pointer, ctypes.byref(candidates))
        result: NDArray[np.bool_] = data["logit"] >= 0
        return result
