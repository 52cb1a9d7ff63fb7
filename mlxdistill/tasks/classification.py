"""Classification: one label of a fixed list for each row.

The task knows how a prompt reads and how a text names a label. It does not know any model: the chat template is
applied by whoever holds the tokenizer (`tasks/chat.py`).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdistill.errors import Problem
from mlxdistill.tasks.forms import FENCE, LABEL_ONLY, AnswerForm
from mlxdistill.tasks.rows import canonical_json, content_hash

# Past this many labels a student learns the list from its rows faster than it reads it from every prompt.
MOST_LABELS_IN_STUDENT_PROMPT = 20

TEACHER_PROMPT = "{instruction}\n\nLabels:\n{labels}\n\nText:\n{text}\n\n{answer}"
STUDENT_PROMPT = "{instruction}\nAnswer with one of: {names}.\n\n{text}"
STUDENT_PROMPT_MANY_LABELS = "{instruction}\n\n{text}"
RATIONALE_REQUEST = "\n\nSay why, in one or two sentences."

_PLACES = ("text", "instruction", "labels", "names", "answer")
_NAMED = re.compile(r"^\W*(?:label|answer|class|category|classification)\W+(.*)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Label:
    """A class: its name in files, what it means (for the teacher), and the text models write it as."""

    name: str
    description: str
    verbalizer: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A user message around the row's text: `head + text + tail`."""

    head: str
    tail: str

    def content(self, text: str) -> str:
        return self.head + text + self.tail

    @property
    def fingerprint(self) -> str:
        return content_hash(canonical_json([self.head, self.tail]))


@dataclass(frozen=True, slots=True)
class ClassificationTask:
    """What is asked (`instruction`) and what may be answered (`labels`, in the order of all probability vectors)."""

    instruction: str
    labels: tuple[Label, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def verbalizers(self) -> tuple[str, ...]:
        return tuple(label.verbalizer for label in self.labels)

    def verbalizer(self, name: str) -> str:
        return self.verbalizers[self.names.index(name)]

    def teacher_prompt(self, template: str | None = None, *, shift: int = 0, form: AnswerForm | None = None) -> Prompt:
        """The teacher's prompt: every label with its description.

        Args:
            template: as in `check_template`.
            shift: the labels are listed from this one on, and those before it at the end.
            form: how the answer is to be written; None: as nothing but a label.
        """
        return self._fill(template or TEACHER_PROMPT, shift, form.request if form else LABEL_ONLY)

    def student_prompt(self, template: str | None = None) -> Prompt:
        """The student's prompt: as short as the task allows, because the student pays for it on every row."""
        few = len(self.labels) <= MOST_LABELS_IN_STUDENT_PROMPT
        return self._fill(template or (STUDENT_PROMPT if few else STUDENT_PROMPT_MANY_LABELS))

    def read(self, text: str, form: AnswerForm) -> str | None:
        """The label that an answer of this form names, or None."""
        written = form.take_apart(text)
        if written is None:
            return None
        exact = (label.name for label in self.labels if label.verbalizer == written.label)
        return next(exact, None) or self.parse(written.label)

    def _fill(self, template: str, shift: int = 0, answer: str = LABEL_ONLY) -> Prompt:
        listed = self.labels[shift:] + self.labels[:shift]
        described = "\n".join(f"- {label.verbalizer}: {label.description}" for label in listed)
        head, tail = template.split("{text}")
        values = {
            "{instruction}": self.instruction,
            "{labels}": described,
            "{names}": ", ".join(label.verbalizer for label in listed),
            "{answer}": answer,
        }
        pattern = re.compile("|".join(re.escape(mark) for mark in values))
        return Prompt(*(pattern.sub(lambda match: values[match.group()], part) for part in (head, tail)))

    def parse(self, text: str, *, key: str | None = None, values: Mapping[str, str] | None = None) -> str | None:
        """The label that an answer names, or None.

        Reads JSON, fenced JSON and plain text. Strict on purpose: "not toxic" names no label of {ok, toxic}, though it
        contains one.

        Args:
            key: the JSON key that holds the label; without it an object must have just one.
            values: what the answerer wrote for each label (`{"0": "ok", "1": "toxic"}`), besides names and verbalizers.
        """
        known = {name.casefold(): name for name in self.names}
        known.update({label.verbalizer.casefold(): label.name for label in self.labels})
        known.update({str(value).casefold(): name for value, name in (values or {}).items()})
        fenced = FENCE.search(text)
        body = (fenced.group(1) if fenced else text).strip()
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return _plain_label(body, known)
        if isinstance(value, dict):
            if key is not None:
                value = value.get(key)
            elif len(value) == 1:
                value = next(iter(value.values()))
        return known.get(scalar_text(value).casefold()) if isinstance(value, str | int | float) else None


def rationale_prompt(prompt: Prompt) -> Prompt:
    """A student's prompt, asking for the reason instead of the label: its beginning stays that of every row."""
    return Prompt(prompt.head, prompt.tail + RATIONALE_REQUEST)


def scalar_text(value: Any) -> str:
    """A YAML or JSON scalar as the text that configurations name it by: True is `true`, 1.0 is `1`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _plain_label(text: str, known: Mapping[str, str]) -> str | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in (lines[0], lines[-1]) if lines else ():
        named = _NAMED.match(line)
        for candidate in (line, named.group(1) if named else line):
            label = known.get(candidate.strip(" \t.,;:!?\"'`*()[]").casefold())
            if label is not None:
                return label
    return None


def check_template(template: str) -> str | None:
    """What is wrong with a prompt file, or None. It must hold `{text}` once; `{instruction}`, `{labels}` (names with
    descriptions), `{names}` (names only) and `{answer}` (how to write the answer) are filled in where they stand.
    Other words in braces stay as they are, unless they look like one of these misspelt."""
    count = template.count("{text}")
    if count != 1:
        return f"a prompt holds {{text}} exactly once, this one {count} times"
    for word in re.findall(r"\{(\w+)\}", template):
        near = difflib.get_close_matches(word.lower(), _PLACES, 1, cutoff=0.75)
        if near and word not in _PLACES:
            return f"{{{word}}} means nothing in a prompt; did you mean {{{near[0]}}}?"
    return None


def read_template(path: Path, where: str) -> str | Problem:
    """The prompt file's text, or what is wrong with it."""
    try:
        template = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        return Problem(where, f"cannot read the prompt {path}: {error}")
    fault = check_template(template)
    return Problem(where, f"{path}: {fault}") if fault else template
