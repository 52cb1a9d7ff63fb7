"""Chat templates, kept apart from what users write.

A template is rendered once with marks in place of the messages, and cut at the marks. Template text may become control
tokens; message text never may, so that a row containing `<|im_end|>` cannot close its turn. Whoever tokenises takes the
segments as they come.

Templates come with models, which come from strangers: they run in Jinja's immutable sandbox, with a cap on their size
and on that of what they render.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlxdistill.errors import ModelError

MOST_TEMPLATE_CHARACTERS = 200_000
MOST_RENDERED_CHARACTERS = 2_000_000  # without the texts, which are put in afterwards
MOST_MESSAGE_CHARACTERS = 300
CLOSED_THINKING = "<think>\n\n</think>\n\n"


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
    marks = {f"\u27e6{secrets.token_hex(12)}\u27e7": message["content"] for message in messages}
    marked = [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)]
    rendered = _render(template, marked, special_tokens, generation_prompt, not close_thinking, where)
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


def _render(
    template: str,
    messages: Sequence[Mapping[str, str]],
    special_tokens: Mapping[str, str],
    generation_prompt: bool,
    enable_thinking: bool,
    where: str | None,
) -> str:
    from jinja2 import TemplateError, TemplateSyntaxError
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if len(template) > MOST_TEMPLATE_CHARACTERS:
        message = (
            f"the model's chat template has {len(template)} characters; at most {MOST_TEMPLATE_CHARACTERS} are run"
        )
        raise ModelError(message, where=where, hint="use another model")

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda format: (
        "2025-01-01"
    )  # a date in a prompt would change every day's answers
    try:
        pieces = environment.from_string(template).generate(
            messages=messages,
            add_generation_prompt=generation_prompt,
            enable_thinking=enable_thinking,
            tools=None,
            **special_tokens,
        )
        return _joined(pieces)
    except SecurityError as error:
        message = f"the model's chat template does something unsafe: {_one_line(error)}"
        raise ModelError(message, where=where, hint="use another model") from error
    except Exception as error:  # a stranger's program may fail in any way
        line = f" in its line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
        message = f"the model's chat template fails{line}: {_one_line(error)}"
        raise ModelError(message, where=where, hint="use a model with a working chat template") from error


def _one_line(error: Exception) -> str:
    """What a template says may be of any length."""
    return " ".join(str(error).split())[:MOST_MESSAGE_CHARACTERS] or type(error).__name__


def _joined(pieces: Iterable[str]) -> str:
    joined = []
    room = MOST_RENDERED_CHARACTERS
    for piece in pieces:
        joined.append(piece)
        room -= len(piece)
        if room < 0:
            raise ValueError(f"it renders more than {MOST_RENDERED_CHARACTERS} characters")
    return "".join(joined)
