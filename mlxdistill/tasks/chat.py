"""Chat templates, kept apart from what users write.

A template is rendered once with marks in place of the messages, and cut at the marks. Template text may become control
tokens; message text never may, so that a row containing `<|im_end|>` cannot close its turn. Whoever tokenises takes the
segments as they come.

Templates come with models, which come from strangers: they run in Jinja's immutable sandbox, in a process of its own
with limits on time and memory (`tasks/rendering.py`), and with a cap on their size and on that of what they render.
"""

from __future__ import annotations

import functools
import json
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlxdistill.errors import ModelError
from mlxdistill.tasks import rendering
from mlxdistill.tasks.rendering import MOST_SAID_CHARACTERS, MOST_SECONDS

MOST_TEMPLATE_CHARACTERS = 200_000
MOST_WALL_SECONDS = 60.0  # on a machine so busy that the seconds of the processor take that long
CLOSED_THINKING = "<think>\n\n</think>\n\n"
OPEN_THINKING = "<think>\n"
_SECRET = secrets.token_hex(12)  # one for the whole process, so that the same chat is rendered once


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered chat. `control`: the template's own text, in which control tokens count."""

    text: str
    control: bool


def render_chat(
    template: str,
    messages: Sequence[Mapping[str, str]],
    *,
    special_tokens: Mapping[str, str],
    generation_prompt: bool,
    close_thinking: bool = True,
    where: str | None = None,
) -> list[Segment]:
    """The chat as segments, in order; joined, they are what the template renders.

    Args:
        template: the model's Jinja chat template.
        messages: each with `role` and `content`.
        special_tokens: `bos_token`, `eos_token` and others that templates name.
        generation_prompt: end with the beginning of the assistant's turn.
        close_thinking: for templates that let the model think first, end with an empty thought, so that the next token
            is the answer's; otherwise the template is told that thinking is wanted.
        where: the model, for messages.

    Raises ModelError where the template fails, or is or renders too much.
    """
    marks = {f"\u27e6{_SECRET}-{number}\u27e7": message["content"] for number, message in enumerate(messages)}
    marked = [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)]
    rendered = _rendered(template, marked, special_tokens, generation_prompt, not close_thinking, where)
    if generation_prompt and close_thinking and "<think>" in template and not _thinking_is_closed(rendered):
        rendered = re.sub(r"<think>\s*$", "", rendered) + CLOSED_THINKING
    pieces = re.split("(" + "|".join(map(re.escape, marks)) + ")", rendered) if marks else [rendered]
    missing = [mark for mark in marks if mark not in pieces]
    if missing:
        hint = "use a model with a chat template for user turns"
        raise ModelError("the model's chat template leaves out a message", where=where, hint=hint)
    return [
        Segment(marks.get(piece, piece), control=piece not in marks)
        for piece in pieces
        if piece and marks.get(piece, piece)
    ]


def user_turn(
    template: str, *, special_tokens: Mapping[str, str], close_thinking: bool = True, where: str | None = None
) -> tuple[str, str]:
    """What the template puts before and after the content of one user message, up to the assistant's first token.

    Raises ModelError as `render_chat`, and where the template repeats the content.
    """
    mark = secrets.token_hex(12)
    segments = render_chat(
        template,
        [{"role": "user", "content": mark}],
        special_tokens=special_tokens,
        generation_prompt=True,
        close_thinking=close_thinking,
        where=where,
    )
    parts = "".join(segment.text for segment in segments).split(mark)
    if len(parts) != 2:
        hint = "use a model with another chat template"
        raise ModelError("the model's chat template repeats a message", where=where, hint=hint)
    return parts[0], parts[1]


def _thinking_is_closed(rendered: str) -> bool:
    return rendered.rstrip().endswith("</think>")


def _rendered(
    template: str,
    messages: Sequence[Mapping[str, str]],
    special_tokens: Mapping[str, str],
    generation_prompt: bool,
    enable_thinking: bool,
    where: str | None,
) -> str:
    if len(template) > MOST_TEMPLATE_CHARACTERS:
        message = (
            f"the model's chat template has {len(template)} characters; at most {MOST_TEMPLATE_CHARACTERS} are run"
        )
        raise ModelError(message, where=where, hint="use another model")
    variables = {
        "messages": messages,
        "add_generation_prompt": generation_prompt,
        "enable_thinking": enable_thinking,
        "tools": None,
        **special_tokens,
    }
    outcome = _run(json.dumps({"template": template, "variables": variables}))
    line = f" in its line {outcome['line']}" if outcome.get("line") else ""
    match outcome.get("fault"):
        case None:
            return str(outcome["text"])
        case "unsafe":
            message, hint = f"the model's chat template does something unsafe: {outcome['said']}", "use another model"
        case "memory":
            message, hint = "the model's chat template takes too much memory", "use another model"
        case "seconds":
            message, hint = f"the model's chat template runs for more than {MOST_SECONDS} s", "use another model"
        case _:
            message = f"the model's chat template fails{line}: {outcome['said']}"
            hint = "use a model with a working chat template"
    raise ModelError(message, where=where, hint=hint)


@functools.lru_cache(maxsize=64)
def _run(request: str) -> dict[str, Any]:
    """What `tasks/rendering.py` answers, in a process that the system stops where it takes too long."""
    command = [sys.executable, "-P", rendering.__file__]
    try:
        done = subprocess.run(command, input=request.encode(), capture_output=True, timeout=MOST_WALL_SECONDS)
    except subprocess.TimeoutExpired:
        return {"fault": "seconds"}
    if -done.returncode in (signal.SIGXCPU, signal.SIGKILL):
        return {"fault": "seconds"}
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return {"fault": "failed", "said": last[0][:MOST_SAID_CHARACTERS] if last else f"exit code {done.returncode}"}
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome
