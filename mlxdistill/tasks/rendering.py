"""Renders a stranger's chat template, in a process of its own: run as a script by `tasks/chat.py`.

Jinja's sandbox keeps a template away from the machine, but not from looping without end or from asking for a string
of ten gigabytes, and nothing inside a process can interrupt either. So the template gets a process, with limits on
processor time and memory that the system keeps. Imports nothing but Jinja: the script is run by its path.

Reads one JSON object from standard input, writes one to standard output: `{"text": ...}`, or `{"fault": ..., "said":
..., "line": ...}`.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections.abc import Iterable
from typing import Any

MOST_SECONDS = 5  # of the processor; Python and a real template take a tenth of one
MOST_BYTES = 2**31  # of addresses; macOS knows the limit, but does not keep it
MOST_RENDERED_CHARACTERS = 2_000_000  # without the texts, which are put in afterwards
MOST_SAID_CHARACTERS = 300


def main() -> None:
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, MOST_SECONDS),
        (resource.RLIMIT_AS, MOST_BYTES),
    ):
        with contextlib.suppress(ValueError, OSError):  # a lower limit is set already
            resource.setrlimit(limit, (value, value))
    json.dump(render(**json.load(sys.stdin)), sys.stdout)


def render(template: str, variables: dict[str, Any]) -> dict[str, Any]:
    from jinja2 import TemplateError, TemplateSyntaxError
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = raise_exception
    # A date in a prompt would change every day's answers.
    environment.globals["strftime_now"] = lambda format: "2025-01-01"
    try:
        return {"text": _joined(environment.from_string(template).generate(**variables))}
    except SecurityError as error:
        return {"fault": "unsafe", "said": _one_line(error)}
    except MemoryError:
        return {"fault": "memory", "said": ""}
    except Exception as error:  # a stranger's program may fail in any way
        line = error.lineno if isinstance(error, TemplateSyntaxError) else None
        return {"fault": "failed", "said": _one_line(error), "line": line}


def _one_line(error: Exception) -> str:
    """What a template says may be of any length."""
    return " ".join(str(error).split())[:MOST_SAID_CHARACTERS] or type(error).__name__


def _joined(pieces: Iterable[str]) -> str:
    joined = []
    room = MOST_RENDERED_CHARACTERS
    for piece in pieces:
        joined.append(piece)
        room -= len(piece)
        if room < 0:
            raise ValueError(f"it renders more than {MOST_RENDERED_CHARACTERS} characters")
    return "".join(joined)


if __name__ == "__main__":
    main()
