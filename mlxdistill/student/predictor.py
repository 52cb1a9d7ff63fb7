"""A student that answers rows, in a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from mlxdistill.platform.cores import thread_environment
from mlxdistill.student.requests import (
    GenerateQuestion,
    GenerateResult,
    PredictQuestion,
    PredictRequest,
    PredictResult,
)
from mlxdistill.tasks.classification import Prompt
from mlxdistill.tasks.protocols import Answer, Progress
from mlxdistill.tasks.rows import Row
from mlxdistill.workers import Worker


class StudentPredictor:
    """Implements `tasks.protocols.Predictor`; a context manager.

    Attributes:
        peak_memory_bytes, rows_per_second: of the last finished `predict`.
        truncated: rows that lost the end of their text, over every `predict`.
        tokens_per_second: written, of the last finished `generate`.
        unfinished: texts that were cut at their most tokens, over every `generate`.
    """

    def __init__(self, request: PredictRequest, progress: Progress) -> None:
        self._request = request
        self._progress = progress
        self._stack = contextlib.ExitStack()
        self.peak_memory_bytes = 0
        self.rows_per_second = 0.0
        self.truncated = 0
        self.tokens_per_second = 0.0
        self.unfinished = 0

    def __enter__(self) -> StudentPredictor:
        entry = "mlxdistill.student.child:open_predictor"
        self._worker = self._stack.enter_context(
            Worker(entry, self._request, name="student", progress=self._progress, environment=thread_environment())
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def predict(self, rows: Sequence[Row], progress: Progress) -> Iterator[list[Answer]]:
        """Answers in the order of the rows, some hundreds at a time.

        Raises DataError for a row that leaves no room for its text, WorkerError, Interrupted.
        """
        yield from self._worker.ask(PredictQuestion(tuple((row.id, row.text) for row in rows)))
        result: PredictResult = self._worker.result
        self.peak_memory_bytes = self._worker.peak_memory_bytes
        self.rows_per_second = result.rows_per_second
        self.truncated += result.truncated

    def generate(
        self, rows: Sequence[Row], prompt: Prompt, max_tokens: int, *, temperature: float = 0.0, seed: int = 0
    ) -> Iterator[list[Answer]]:
        """Answers in free text, in the order of the rows, some tens at a time.

        Args:
            prompt: the prompt around each row's text, instead of the one that asks for a label.
            max_tokens: most tokens of an answer.
            temperature: 0: the likeliest token each time; above, tokens are drawn, and follow from `seed` and row.

        Raises as `predict` does.
        """
        texts = tuple((row.id, row.text) for row in rows)
        yield from self._worker.ask(GenerateQuestion(texts, prompt, max_tokens, temperature, seed))
        result: GenerateResult = self._worker.result
        self.peak_memory_bytes = self._worker.peak_memory_bytes
        self.tokens_per_second = result.tokens_per_second
        self.unfinished += result.unfinished
