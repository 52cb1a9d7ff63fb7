"""Which rows would lose their end: in the student by its own tokenizer, in a teacher by that of its GGUF."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlxdistill.config.models import Config
from mlxdistill.data.check.lengths import Measure, Words
from mlxdistill.data.check.long_texts import LongTexts
from mlxdistill.errors import MlxDistillError
from mlxdistill.pipeline.asking import key_of
from mlxdistill.pipeline.stage import Context, Reporter, prompt_template
from mlxdistill.pipeline.train import labels_of, student_prompt
from mlxdistill.platform.models import find_gguf
from mlxdistill.student.lengths import RowLengths
from mlxdistill.teacher.estimate import CountRequest, count_request, count_tokens
from mlxdistill.teacher.gguf import inspect_gguf


def student_measure(config: Config) -> Measure:
    """The student's tokens; words where the student is not here or no good, which its `needs` say."""
    try:
        return RowLengths(config.student.model, labels_of(config), student_prompt(config), config.student.max_tokens)
    except MlxDistillError:
        return Words()


@dataclass(frozen=True, slots=True)
class AskedTeacher:
    """A teacher with a model: what is put around a text, and the texts for which that may leave no room."""

    request: CountRequest
    n_ctx: int
    long: LongTexts


def asked_teachers(context: Context) -> Iterator[tuple[str, AskedTeacher]]:
    """By their names; without those that cannot be used, which their `needs` say."""
    for name, config in context.config.teachers.items():
        if config.model is None:
            continue
        try:
            info = inspect_gguf(find_gguf(config.model))
            template = prompt_template(config.prompt, ".".join(map(str, (*key_of(context.config, name), "prompt"))))
            request = count_request(config, info, context.task, template, (0,))
        except MlxDistillError:
            continue
        n_ctx = min(config.n_ctx, info.context_length or config.n_ctx)
        yield name, AskedTeacher(request, n_ctx, LongTexts(n_ctx - _most_around(request)))


def teacher_truncation(asked: Mapping[str, AskedTeacher], reporter: Reporter) -> dict[str, Any]:
    """For each teacher how many rows do not fit `n_ctx`, counted by its tokenizer on those that may not."""
    found: dict[str, Any] = {}
    for name, teacher in asked.items():
        long = teacher.long
        cut = count_tokens(teacher.request, long.texts, reporter)[0].truncated if long.texts else 0
        about = long.count > len(long.texts)
        rows = round(cut * long.count / len(long.texts)) if long.texts else 0
        found[name] = {"rows": rows, "about": about, "most_tokens": teacher.n_ctx}
    return found


def _most_around(request: CountRequest) -> int:
    """Tokens of what stands around a text and of the answer, were every byte of them a token."""
    around = 0
    for prompt in request.prompts.values():
        parts = (prompt.before, prompt.head, prompt.tail, prompt.after, *prompt.verbalizers)
        around = max(around, sum(len(part.encode("utf-8", "surrogatepass")) for part in parts))
    return around + request.max_tokens * request.written
