"""How a model is asked to write a new text of a class, and how the text is found in what it wrote.

After Self-Instruct (Wang et al. 2023, 2212.10560): the prompt shows texts that are there, others each time, and asks
for one more. What it says of every class stands before what it says of this one, so that it is decoded once.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlxdistill.tasks.classification import ClassificationTask

DRAFT_PROMPT = (
    "{instruction}\n\nLabels:\n{labels}\n\nThe text that is asked about is missing here: you write it.\n\n"
    "Texts whose label is {label} ({description}):\n{examples}\n\n"
    "Write one more text whose label is {label}. It is of the same kind, the same language and about the same length as"
    " those above, but it is about something else and says it in other words. {answer}"
)
_OF_A_CLASS = ("label", "description", "examples")
_PLACES = ("instruction", "labels", *_OF_A_CLASS, "answer")
_OPEN, _CLOSE = "<text>", "</text>"


@dataclass(frozen=True, slots=True)
class DraftForm:
    """How a text is written: within a JSON object, or between marks. Both say where it ends."""

    format: Literal["json", "text"] = "json"

    @property
    def request(self) -> str:
        """The sentence that asks for this form."""
        if self.format == "json":
            return 'Answer with a JSON object: {"text": "<the new text>"}'
        return f"Write it between {_OPEN} and {_CLOSE}."

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}

    def shortest(self, text: str) -> str:
        """The text in this form."""
        if self.format == "json":
            return json.dumps({"text": text}, ensure_ascii=False)
        return f"{_OPEN}{text}{_CLOSE}"

    def is_complete(self, text: str) -> bool:
        """Whether nothing can follow."""
        return self.take_apart(text) is not None

    def take_apart(self, text: str) -> str | None:
        """The text in a complete answer; None where it is not of this form."""
        if self.format == "text":
            found = re.search(f"{_OPEN}(.*?){_CLOSE}", text, re.DOTALL)
            return found.group(1).strip() if found else None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        found = value.get("text") if isinstance(value, dict) else None
        if not isinstance(found, str):
            return None
        return found.encode("utf-8", "replace").decode().strip()  # JSON can escape half a character


class DraftTask:
    """What a generator takes for a task: it only wants to know whether an answer is of the form."""

    def read(self, text: str, form: DraftForm) -> str | None:
        return None if form.take_apart(text) is None else ""


@dataclass(frozen=True, slots=True)
class DraftPrompt:
    """A prompt in its parts: what all drafts share before and after, and what is said of a class in between."""

    head: str
    tail: str
    middle: str
    form: DraftForm
    task: ClassificationTask

    def fill(self, label: str, examples: Sequence[str]) -> str:
        """What stands between head and tail for one draft."""
        of_task = next(one for one in self.task.labels if one.name == label)
        shown = "\n".join(self.form.shortest(text) for text in examples)
        return _fill(
            self.middle,
            {
                **_shared(self.task, self.form),
                "label": of_task.verbalizer,
                "description": of_task.description or of_task.verbalizer,
                "examples": shown or "(there are none yet)",
            },
        )


def draft_prompt(task: ClassificationTask, form: DraftForm, template: str | None = None) -> DraftPrompt:
    """The prompt by which texts are asked for.

    Args:
        template: as in `check_draft_template`.
    """
    template = template or DRAFT_PROMPT
    places = [match.span() for match in re.finditer("|".join(f"{{{name}}}" for name in _OF_A_CLASS), template)]
    first, last = places[0][0], places[-1][1]
    shared = _shared(task, form)
    head, tail = _fill(template[:first], shared), _fill(template[last:], shared)
    return DraftPrompt(head, tail, template[first:last], form, task)


def check_draft_template(template: str) -> str | None:
    """What is wrong with a prompt file, or None. It must hold `{examples}` once; `{instruction}`, `{labels}` (all, with
    descriptions), `{label}`, `{description}` (of the class) and `{answer}` (how to write the text) are filled in where
    they stand. Other words in braces stay as they are, unless they look like one of these misspelt."""
    count = template.count("{examples}")
    if count != 1:
        return f"a prompt for `synth` holds {{examples}} exactly once, this one {count} times"
    for word in re.findall(r"\{(\w+)\}", template):
        near = difflib.get_close_matches(word.lower(), _PLACES, 1, cutoff=0.75)
        if near and word not in _PLACES:
            return f"{{{word}}} means nothing in a prompt for `synth`; did you mean {{{near[0]}}}?"
    return None


def _shared(task: ClassificationTask, form: DraftForm) -> dict[str, str]:
    labels = "\n".join(f"- {label.verbalizer}: {label.description}" for label in task.labels)
    return {"instruction": task.instruction, "labels": labels, "answer": form.request}


def _fill(template: str, values: dict[str, str]) -> str:
    pattern = re.compile("|".join(re.escape(f"{{{name}}}") for name in values))
    return pattern.sub(lambda match: values[match.group()[1:-1]], template)
