"""The process of a teacher that writes its answers: opens the model once, then answers questions of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlxdistill.teacher.child import LabelQuestion, LabelStats
from mlxdistill.teacher.drafts import Reader, Writing
from mlxdistill.teacher.engine import Model
from mlxdistill.teacher.generation import Generator, Group
from mlxdistill.teacher.lanes import Limits
from mlxdistill.teacher.prompts import LabelPrompt
from mlxdistill.teacher.tuning import Tuned
from mlxdistill.workers.channel import Channel

ENTRY = "mlxdistill.teacher.generating_child:open_generator"


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What to open, and how. Where `limits.threads` is None, the fastest number is found by trying."""

    model: Path
    prompt: LabelPrompt
    task: Reader
    writing: Writing
    limits: Limits


def open_generator(request: GenerateRequest, channel: Channel) -> Callable[[LabelQuestion, Channel], LabelStats]:
    """Loads the model and returns the function that labels (see `workers/child.py`).

    It sends `Tuned` once, before its first answers, and then lists of answers.
    """
    model = Model(request.model)
    generator = Generator(model, request.prompt, request.task, request.writing, request.limits).__enter__()
    total = LabelStats()
    told = False

    def answer(question: LabelQuestion, channel: Channel) -> LabelStats:
        nonlocal total, told
        if not told:
            told = True
            if request.limits.threads is None and not model.on_gpu:
                generator.use_fastest_threads(channel)
            if (needed := generator.fewest_tokens) > request.writing.max_tokens:
                channel.note(
                    f"teacher.max_tokens is {request.writing.max_tokens}, but an answer takes up to {needed} tokens"
                )
            channel.send(Tuned(generator.limits, "many answers written at a time"))
        stats = LabelStats(limits=generator.limits)
        for group in generator.generate(question.rows, question.done):
            new = _stats(group)
            stats, total = stats + new, total + new
            channel.advance(
                group.finished,
                len(question.rows),
                rows_per_second=total.rows_per_second,
                tokens_per_second=total.tokens_per_second,
            )
            channel.send(group.answers)
        return stats

    return answer


def _stats(group: Group) -> LabelStats:
    truncated = sum(answer.outcome == "truncated" for answer in group.answers)
    tokens = group.prefill_tokens + group.decode_tokens
    return LabelStats(len(group.answers), tokens, truncated, group.seconds, group.engine_seconds)
