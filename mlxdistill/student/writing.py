"""Answers in free text, in the student's process."""

from __future__ import annotations

import time

from mlxdistill.student.base import Base, context_tokens
from mlxdistill.student.batches import common_beginning
from mlxdistill.student.encoding import RowEncoder
from mlxdistill.student.generate import Sampling, TextGenerator
from mlxdistill.student.requests import GenerateQuestion, GenerateResult
from mlxdistill.tasks.protocols import Answer
from mlxdistill.workers.channel import Channel

ROLES = ("user", "assistant")


class Writer:
    """Answers rows with texts.

    Args:
        base: with its adapter loaded.
        max_tokens: most tokens of a row's prompt, where the model's context leaves so many beside an answer.
        batch_tokens: as in `TextGenerator`.
    """

    def __init__(self, base: Base, *, max_tokens: int, batch_tokens: int) -> None:
        self._base = base
        self._max_tokens = max_tokens
        self._context = context_tokens(base.config)
        self._generator = TextGenerator(base.model, _stop_tokens(base), batch_tokens=batch_tokens)

    def answer(self, question: GenerateQuestion, channel: Channel) -> GenerateResult:
        """Sends lists of answers, in the order of the rows.

        Raises DataError for a row whose prompt leaves no room for its text, StopRequested.
        """
        import mlx.core as mx

        if not self._generator.batched:
            channel.note("this model writes one text at a time: its layers or caches cannot take several at once")
        total, done, tokens, unfinished, seconds = len(question.rows), 0, 0, 0, 0.0
        most = question.max_tokens if self._context is None else min(question.max_tokens, self._context // 2)
        prompts, beginning = self._prompts(question, most)
        waves = self._generator.generate(
            (prompt for prompt, _ in prompts),
            most,
            beginning=beginning,
            sampling=Sampling(question.temperature, question.seed),
            check_stop=channel.check_stop,
        )
        began = time.monotonic()
        for wave in waves:
            took = time.monotonic() - began
            answered = slice(done, done + len(wave))
            answers = [
                Answer(
                    row_id=row_id,
                    label=None,
                    outcome="truncated" if truncated else "answered",
                    text=self._base.tokenizer.decode(written.tokens),
                    seconds=took / len(wave),
                )
                for (row_id, _), (_, truncated), written in zip(
                    question.rows[answered], prompts[answered], wave, strict=True
                )
            ]
            seconds, done = seconds + took, done + len(wave)
            tokens += sum(len(written.tokens) for written in wave)
            unfinished += sum(not written.ended for written in wave)
            channel.advance(done, total, rows_per_second=done / seconds, tokens_per_second=tokens / seconds)
            channel.send(answers)
            began = time.monotonic()
        return GenerateResult(
            rows_per_second=done / seconds if seconds else 0.0,
            tokens_per_second=tokens / seconds if seconds else 0.0,
            mlx_peak_bytes=mx.get_peak_memory(),
            truncated=sum(truncated for _, truncated in prompts),
            unfinished=unfinished,
        )

    def _prompts(
        self, question: GenerateQuestion, most: int
    ) -> tuple[list[tuple[tuple[int, ...], bool]], tuple[int, ...]]:
        """Each row's tokens, and whether its text was cut; and what all of them begin with."""
        room = self._max_tokens if self._context is None else min(self._max_tokens, self._context - most)
        encoder = RowEncoder(self._base.tokenizer, labels=(), prompt=question.prompt, max_tokens=room)
        prompts = [encoder.question_tokens(row_id, text) for row_id, text in question.rows]
        tokens = [prompt for prompt, _ in prompts]
        return prompts, tokens[0][: common_beginning(tokens)] if len(tokens) > 1 else ()


def _stop_tokens(base: Base) -> set[int]:
    """The end of the turn, and whatever else mlx-lm ends a text at."""
    named = base.config.get("eos_token_id")
    ends = [base.tokenizer.frame(ROLES).end_of_turn, base.tokenizer.eos_token_id]
    ends += named if isinstance(named, list) else [named]
    return {token for token in ends if isinstance(token, int)}
