"""Teachers as the parent sees them: the one that the configuration names, and the one that scores labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlxdistill.config.models import TeacherConfig
from mlxdistill.errors import UsageError
from mlxdistill.platform.models import cached_sha256, find_gguf
from mlxdistill.tasks.classification import ClassificationTask
from mlxdistill.tasks.protocols import Answer, Progress
from mlxdistill.tasks.rows import Row, canonical_json, content_hash
from mlxdistill.teacher.asking import ModelLabeller
from mlxdistill.teacher.child import ENTRY, TeacherRequest
from mlxdistill.teacher.generating import GeneratingLabeller
from mlxdistill.teacher.gguf import GgufInfo, inspect_gguf
from mlxdistill.teacher.prompts import LabelPrompt, asked_turn
from mlxdistill.teacher.recorded import RecordedLabeller
from mlxdistill.teacher.remembered import TUNED, machine_key, remember, remembered
from mlxdistill.teacher.tuning import Choices


class LlamaLabeller(ModelLabeller):
    """A GGUF model that scores the labels of each row, as a `Labeller`.

    Args:
        config: the teacher, with a `model`.
        task: what is asked.
        progress: hears of what takes time.
        template: the text of a prompt file, or None for the task's own prompt.

    Raises ModelError where the model is missing, damaged or of a kind that cannot be asked.
    """

    _request: TeacherRequest

    def __init__(
        self, config: TeacherConfig, task: ClassificationTask, progress: Progress, template: str | None = None
    ) -> None:
        assert config.model is not None
        info = inspect_gguf(find_gguf(config.model))
        prompts = _prompts(info, config, task, template)
        prompt = prompts[0]
        choices = Choices(config.n_ctx, config.n_batch, config.n_seq, config.threads, config.kv)
        hashes = [cached_sha256(path, progress.note) for path in info.files]
        decoding = {
            "model_sha256": hashes,
            "llama_cpp_python": version("llama-cpp-python"),
            "answer": config.answer,
            "thinking": config.thinking,
            "n_ctx": min(config.n_ctx, info.context_length or config.n_ctx),
            "n_batch": config.n_batch,
            "n_seq": config.n_seq,
            "kv": config.kv,
        }
        parts = [prompt.before, prompt.head, prompt.tail, prompt.after, prompt.verbalizers]
        super().__init__(
            ENTRY,
            TeacherRequest(info.files[0], prompts, choices),
            info,
            samples=tuple(prompts),
            fingerprint=content_hash(canonical_json(decoding)),
            prompt_fingerprint=content_hash(canonical_json(parts)),
            progress=progress,
        )
        self._machine_key = machine_key(hashes)

    def prepare(self, rows: int, settings: Mapping[str, Any] | None) -> None:
        super().prepare(rows, settings)
        choices = self._request.choices
        known, origin = settings, "as for the answers already there"
        if known is None and None in (choices.n_batch, choices.n_seq, choices.kv):
            known, origin = remembered(self._machine_key), "the fastest when tried on this machine before"
        if known is not None and known.keys() >= TUNED.keys():
            found = {name: known[name] for name in TUNED if getattr(choices, name) is None}
            choices = dataclasses.replace(choices, **found, origin=origin if found else choices.origin)
            self._request = dataclasses.replace(self._request, choices=choices)

    def label(
        self, rows: Sequence[Row], done: frozenset[tuple[str, int]], progress: Progress
    ) -> Iterator[list[Answer]]:
        yield from super().label(rows, done, progress)
        if self.tuned is not None and self.stats.tokens_per_second:
            found = self.settings if self.tuned.tried > 1 else None
            remember(self._machine_key, self.stats.tokens_per_second, found)


def open_labeller(
    config: TeacherConfig,
    task: ClassificationTask,
    progress: Progress,
    template: str | None = None,
    *,
    text_column: str | None = None,
    id_column: str | None = None,
    strict: bool = False,
    change: Callable[[str], str] | None = None,
) -> LlamaLabeller | GeneratingLabeller | RecordedLabeller:
    """The teacher that the configuration names, as a context manager.

    Args:
        template: the text of `teacher.prompt`'s file.
        text_column, id_column: `data.fields`, by which request logs are read.
        strict: stop at the first line of a log that cannot be used.
        change: what was done to the rows' texts; it is done to those of a log too, so that they are the same.

    Raises ModelError for a model, DataError for a log that cannot be used.
    """
    if config.log is not None:
        return RecordedLabeller(
            config, task, text_column=text_column, id_column=id_column, strict=strict, change=change
        )
    if config.answer == "generate":
        return GeneratingLabeller(config, task, progress, template)
    return LlamaLabeller(config, task, progress, template)


def check_teacher(name: str, *, thinking: bool) -> Path:
    """The file of the teacher called `name`, whose header and chat template were found to be whole.

    Raises ModelError, with the mend, for whatever is missing, damaged or refused.
    """
    path = find_gguf(name)
    asked_turn(inspect_gguf(path), thinking=thinking)
    return path


def _prompts(
    info: GgufInfo, config: TeacherConfig, task: ClassificationTask, template: str | None
) -> dict[int, LabelPrompt]:
    """By how far the list of labels is shifted: every label comes first, in the middle and last about equally often."""
    before, after = asked_turn(info, thinking=config.thinking)
    count = len(task.labels)
    orders = min(config.label_orders, count)
    prompts = {}
    for shift in sorted({round(order * count / orders) for order in range(orders)}):
        prompt = task.teacher_prompt(template, shift=shift)
        prompts[shift] = LabelPrompt(before, prompt.head, prompt.tail, after, task.names, task.verbalizers)
    if len(prompts) > 1 and len(set(prompts.values())) == 1:
        hint = "put {labels} or {names} into it, or leave label_orders out"
        raise UsageError("the prompt lists no labels, so they have no orders", where=str(config.prompt), hint=hint)
    return prompts
