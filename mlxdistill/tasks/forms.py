"""How a model is asked to write its answer, when it is complete, and where the label stands in it.

JSON or text, with or without a rationale. The rationale comes before the label, so that the label follows from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

THOUGHT_END = "</think>"
LABEL_ONLY = "Answer with one label only."

_JSON = 'Answer with a JSON object: {"label": "<one of the labels>"}'
_JSON_RATIONALE = (
    "Answer with a JSON object that first says why, in one or two sentences:"
    ' {"rationale": "<why>", "label": "<one of the labels>"}'
)
_TEXT_RATIONALE = (
    "First say why, in one or two sentences. Then end with a line that names one label only:"
    "\nLabel: <one of the labels>"
)
FENCE = re.compile(r"```[a-zA-Z]*\s*(.*?)```", re.DOTALL)
_LABEL_LINE = re.compile(r"^\W*label\W*?:[\s*_]*([^\s*_].*)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Written:
    """An answer taken apart: what names the label, and the rationale where there is one."""

    label: str
    rationale: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How an answer is written: `format`, and whether a rationale comes before the label."""

    format: Literal["json", "text"] = "json"
    rationale: bool = False

    @property
    def request(self) -> str:
        """The sentence that asks for this form."""
        if self.format == "json":
            return _JSON_RATIONALE if self.rationale else _JSON
        return _TEXT_RATIONALE if self.rationale else LABEL_ONLY

    def schema(self, verbalizers: Sequence[str], most_characters: int) -> dict[str, Any]:
        """The JSON schema of an answer, its properties in the order of writing.

        Args:
            most_characters: of the rationale.
        """
        properties: dict[str, Any] = {}
        if self.rationale:
            properties["rationale"] = {"type": "string", "maxLength": most_characters}
        properties["label"] = {"enum": list(verbalizers)}
        return {"type": "object", "properties": properties, "required": list(properties)}

    def shortest(self, verbalizer: str) -> str:
        """The shortest answer that names a label."""
        if self.format == "json":
            value = {"rationale": "", "label": verbalizer} if self.rationale else {"label": verbalizer}
            return json.dumps(value, ensure_ascii=False)
        return f"Label: {verbalizer}" if self.rationale else verbalizer

    def is_complete(self, text: str) -> bool:
        """Whether nothing of the answer can follow: the object is closed, or the line that names the label ended."""
        if self.format == "json":
            return _object(text) is not None
        finished, newline, _ = text.lstrip().rpartition("\n")
        if not newline or not finished.strip():
            return False
        return not self.rationale or _LABEL_LINE.match(finished.splitlines()[-1]) is not None

    def take_apart(self, text: str) -> Written | None:
        """The parts of a complete answer, a thought before it left out; None where it is not of this form."""
        answer = text.rpartition(THOUGHT_END)[2].strip()
        if self.format == "json":
            found = _object(answer)
            if found is None or not isinstance(found.get("label"), str):
                return None
            rationale = found.get("rationale")
            return Written(found["label"], rationale if isinstance(rationale, str) else None)
        if not self.rationale:
            return Written(answer) if answer else None
        lines = answer.splitlines()
        for place in reversed(range(len(lines))):
            if match := _LABEL_LINE.match(lines[place]):
                return Written(match.group(1), "\n".join(lines[:place]).strip() or None)
        return None


def rationale_in(text: str) -> str | None:
    """The rationale in an answer of whatever form: JSON, fenced or not, with a text under `rationale`; or text before a
    line that names a label. None where there is none."""
    answer = text.rpartition(THOUGHT_END)[2].strip()
    fenced = FENCE.search(answer)
    found = _object(fenced.group(1) if fenced else answer)
    if found is None:
        written = AnswerForm("text", rationale=True).take_apart(answer)
        return written.rationale if written else None
    rationale = found.get("rationale")
    if not isinstance(rationale, str):
        return None
    return rationale.encode("utf-8", "replace").decode().strip() or None  # JSON can escape half a character


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
