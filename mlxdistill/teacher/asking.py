"""What all teachers with a model have in common on the parent's side: rows to the model's process, answers back.

The process starts with the first row that needs an answer, so that a run which has them all loads nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from mlxdistill.tasks.protocols import Answer, Progress
from mlxdistill.tasks.rows import Row
from mlxdistill.teacher.child import LabelQuestion, LabelStats
from mlxdistill.teacher.gguf import GgufInfo
from mlxdistill.teacher.tuning import Tuned
from mlxdistill.workers import Worker


class ModelLabeller:
    """A GGUF model as a `Labeller`. A context manager: the model's process ends with the block.

    Args:
        entry: what opens the model in its process (see `workers/child.py`); it answers a `LabelQuestion` with one
            `Tuned`, lists of answers, and `LabelStats` at last.
        request: what the entry is given.
        info: the model's file.
        samples, fingerprint, prompt_fingerprint: as in `tasks.protocols.Labeller`.
        progress: hears of what takes time.
    """

    def __init__(
        self,
        entry: str,
        request: object,
        info: GgufInfo,
        *,
        samples: tuple[int, ...],
        fingerprint: str,
        prompt_fingerprint: str,
        progress: Progress,
    ) -> None:
        self._entry = entry
        self._request = request
        self.info = info
        self.samples = samples
        self.fingerprint = fingerprint
        self.prompt_fingerprint = prompt_fingerprint
        self.stats = LabelStats()
        self.tuned: Tuned | None = None
        self.peak_memory_bytes = 0
        self._progress = _Relay(progress)
        self._job_rows = 0
        self._worker: Worker | None = None

    @property
    def settings(self) -> dict[str, Any] | None:
        """How the model is run (n_ctx, n_batch, n_seq, threads, kv), or None before any row was answered."""
        return dataclasses.asdict(self.tuned.limits) if self.tuned else None

    def prepare(self, rows: int, settings: Mapping[str, Any] | None) -> None:
        """Says how many rows there will be, and with which settings rows of this job were answered before."""
        self._job_rows = rows

    def __enter__(self) -> ModelLabeller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def label(
        self, rows: Sequence[Row], done: frozenset[tuple[str, int]], progress: Progress
    ) -> Iterator[list[Answer]]:
        """Answers in waves; see `tasks.protocols.Labeller`.

        Raises ModelError, WorkerError where the model's process dies, Interrupted after Ctrl-C. What was yielded before
        the generator is resumed counts as kept.
        """
        if all((row.id, sample) in done for row in rows for sample in self.samples):
            return
        self._progress.target = progress
        texts = tuple((row.id, row.text) for row in rows)
        worker = self._open()
        whole = False
        try:
            for message in worker.ask(LabelQuestion(texts, done, max(self._job_rows, len(rows)))):
                if isinstance(message, Tuned):
                    self._keep(message)
                else:
                    yield message
            whole = True
            self.stats += worker.result
        finally:
            self.peak_memory_bytes = max(self.peak_memory_bytes, worker.peak_memory_bytes)
            if not whole:
                self._close()  # the child may be in the midst of an answer that nobody waits for

    def _keep(self, tuned: Tuned) -> None:
        self.tuned = tuned
        limits = tuned.limits
        self._progress.note(
            f"n_batch {limits.n_batch}, n_seq {limits.n_seq}, {limits.kv} key-value memory, {limits.threads} threads: "
            + tuned.reason
        )

    def _open(self) -> Worker:
        if self._worker is None:
            self._progress.note(f"loading {self.info.files[0].name}")
            worker = Worker(self._entry, self._request, name="teacher", progress=self._progress)
            self._worker = worker.__enter__()
        return self._worker

    def _close(self) -> None:
        if self._worker is not None:
            worker, self._worker = self._worker, None
            worker.__exit__()


class _Relay:
    """Progress to whoever asked last: a worker outlives the question it was started for."""

    def __init__(self, target: Progress) -> None:
        self.target = target

    def advance(self, done: int, total: int, **figures: float) -> None:
        self.target.advance(done, total, **figures)

    def note(self, message: str) -> None:
        self.target.note(message)
