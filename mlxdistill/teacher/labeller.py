"""The parent's side of the teacher: which model, which prompt, and rows in, answers out.

The model's process starts with the first row that needs an answer, so that a run which has them all loads nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

from mlxdistill.config.models import TeacherConfig
from mlxdistill.errors import ModelError
from mlxdistill.platform.models import cached_sha256, find_gguf
from mlxdistill.tasks.chat import user_turn
from mlxdistill.tasks.classification import ClassificationTask
from mlxdistill.tasks.protocols import Answer, Progress
from mlxdistill.tasks.rows import Row, canonical_json, content_hash
from mlxdistill.teacher.child import ENTRY, LabelQuestion, LabelStats, TeacherRequest
from mlxdistill.teacher.gguf import GgufInfo, inspect_gguf
from mlxdistill.teacher.recorded import RecordedLabeller
from mlxdistill.teacher.scoring import CHUNK_ROWS, LabelPrompt, Limits
from mlxdistill.workers import Worker

ROWS_PER_QUESTION = 8 * CHUNK_ROWS  # whole chunks, so that asking in pieces changes no wave


class LlamaLabeller:
    """A GGUF model as a `Labeller`. A context manager: the model's process ends with the block.

    Args:
        config: the teacher, with a `model`.
        task: what is asked.
        progress: hears of what takes time.
        template: the text of a prompt file, or None for the task's own prompt.

    Raises ModelError where the model is missing, damaged or of a kind that cannot be asked.
    """

    def __init__(
        self, config: TeacherConfig, task: ClassificationTask, progress: Progress, template: str | None = None
    ) -> None:
        assert config.model is not None
        info = inspect_gguf(find_gguf(config.model))
        self._request = TeacherRequest(info.files[0], _prompt(info, config, task, template), _limits(config))
        self._progress = _Relay(progress)
        self.fingerprint = content_hash(
            canonical_json(
                {
                    "model_sha256": [cached_sha256(path, progress.note) for path in info.files],
                    "llama_cpp_python": version("llama-cpp-python"),
                    "answer": config.answer,
                    "thinking": config.thinking,
                    "n_ctx": config.n_ctx,
                    "n_batch": config.n_batch,
                    "n_seq": config.n_seq,
                }
            )
        )
        prompt = self._request.prompt
        self.prompt_fingerprint = content_hash(
            canonical_json([prompt.before, prompt.head, prompt.tail, prompt.after, prompt.verbalizers])
        )
        self.info = info
        self.stats = LabelStats()
        self.peak_memory_bytes = 0
        self._worker: Worker | None = None

    @property
    def settings(self) -> dict[str, int] | None:
        """How the model was run (n_ctx, n_batch, n_seq, threads), or None before any row was answered."""
        return dataclasses.asdict(self.stats.limits) if self.stats.limits else None

    def __enter__(self) -> LlamaLabeller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def label(self, rows: Sequence[Row], done: frozenset[str], progress: Progress) -> Iterator[list[Answer]]:
        """Answers in waves; see `tasks.protocols.Labeller`.

        Raises ModelError, WorkerError where the model's process dies, Interrupted after Ctrl-C. What was yielded before
        the generator is resumed counts as kept.
        """
        self._progress.target = progress
        for start in range(0, len(rows), ROWS_PER_QUESTION):
            part = rows[start : start + ROWS_PER_QUESTION]
            ids = frozenset(row.id for row in part)
            if ids <= done:
                progress.advance(start + len(part), len(rows))
                continue
            texts = tuple((row.id, row.text) for row in part)
            yield from self._ask(LabelQuestion(texts, ids & done, start, len(rows)))

    def _ask(self, question: LabelQuestion) -> Iterator[list[Answer]]:
        worker = self._open()
        whole = False
        try:
            yield from worker.ask(question)
            whole = True
            self.stats += worker.result
        finally:
            self.peak_memory_bytes = max(self.peak_memory_bytes, worker.peak_memory_bytes)
            if not whole:
                self._close()  # the child may be in the midst of an answer that nobody waits for

    def _open(self) -> Worker:
        if self._worker is None:
            self._progress.note(f"loading {self._request.model.name}")
            worker = Worker(ENTRY, self._request, name="teacher", progress=self._progress)
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


def open_labeller(
    config: TeacherConfig,
    task: ClassificationTask,
    progress: Progress,
    template: str | None = None,
    *,
    text_column: str | None = None,
    id_column: str | None = None,
    strict: bool = False,
) -> LlamaLabeller | RecordedLabeller:
    """The teacher that the configuration names, as a context manager.

    Args:
        template: the text of `teacher.prompt`'s file.
        text_column, id_column: `data.fields`, by which request logs are read.
        strict: stop at the first line of a log that cannot be used.

    Raises ModelError for a model, DataError for a log that cannot be used.
    """
    if config.log is not None:
        return RecordedLabeller(config, task, text_column=text_column, id_column=id_column, strict=strict)
    return LlamaLabeller(config, task, progress, template)


def check_teacher(name: str, *, thinking: bool) -> Path:
    """The file of the teacher called `name`, whose header and chat template were found to be whole.

    Raises ModelError, with the mend, for whatever is missing, damaged or refused.
    """
    path = find_gguf(name)
    asked_turn(inspect_gguf(path), thinking=thinking)
    return path


def asked_turn(info: GgufInfo, *, thinking: bool) -> tuple[str, str]:
    """What the model's template puts before and after a prompt, up to the answer's first token.

    Raises ModelError where the model has no template, or where it does not work.
    """
    where = str(info.files[0])
    if info.chat_template is None:
        hint = "use an instruction-tuned model, whose GGUF file holds a chat template"
        raise ModelError("the model has no chat template", where=where, hint=hint)
    special_tokens = {"bos_token": info.bos_token or "", "eos_token": info.eos_token or ""}
    return user_turn(info.chat_template, special_tokens=special_tokens, close_thinking=not thinking, where=where)


def _prompt(info: GgufInfo, config: TeacherConfig, task: ClassificationTask, template: str | None) -> LabelPrompt:
    before, after = asked_turn(info, thinking=config.thinking)
    prompt = task.teacher_prompt(template)
    return LabelPrompt(before, prompt.head, prompt.tail, after, task.names, task.verbalizers)


def _limits(config: TeacherConfig) -> Limits:
    return Limits(config.n_ctx, config.n_batch, config.n_seq, config.threads)
