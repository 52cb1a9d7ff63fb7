"""label --estimate: what labelling would take, said before any model loads. Labels nothing and writes nothing."""

from __future__ import annotations

import heapq
import itertools
import statistics
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from mlxdistill.config.load import LoadedConfig
from mlxdistill.config.models import TeacherConfig
from mlxdistill.errors import MlxDistillError
from mlxdistill.pipeline.asking import key_of, open_teacher
from mlxdistill.pipeline.budget import Choice, budget_in_force, choice_in_force, measuring_rows, pool_rows
from mlxdistill.pipeline.stage import Context, Options, Reporter, prompt_template, task_of
from mlxdistill.platform.device import DeviceFacts, device_facts
from mlxdistill.platform.memory import machine_memory_bytes
from mlxdistill.platform.models import cached_sha256, find_gguf
from mlxdistill.rundir.files import file_sha256
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.statistics.resampling import generator
from mlxdistill.store import LabelReader, StoredLabeller
from mlxdistill.tasks.protocols import Labeller
from mlxdistill.tasks.rows import content_hash, count_rows, iter_rows
from mlxdistill.teacher.duplicates import find_sources
from mlxdistill.teacher.estimate import (
    SAMPLE_ROWS,
    MemorySettings,
    count_request,
    count_tokens,
    expected_memory,
    expected_seconds,
)
from mlxdistill.teacher.generating import N_BATCH, N_SEQ
from mlxdistill.teacher.gguf import inspect_gguf
from mlxdistill.teacher.label import ROWS_PER_PIECE
from mlxdistill.teacher.recorded import RecordedLabeller
from mlxdistill.teacher.remembered import machine_key, remembered
from mlxdistill.teacher.tuning import FIRST_BATCH, FIRST_SEQUENCES


@dataclass(slots=True)
class _Rows:
    """What is to be done about the rows of one teacher.

    Attributes:
        wanted: rows in all; `copied`: of them, those that take the answer to another row.
        from_store, asked: answers there are, and answers to be given.
        sample: texts of some of the rows asked about, by chance.
        found: of a log's teacher, the rows it has answered.
    """

    wanted: int = 0
    copied: int = 0
    from_store: int = 0
    asked: int = 0
    found: int = 0
    sample: list[str] = field(default_factory=list)


def estimate_labelling(loaded: LoadedConfig, run: RunDir, options: Options, reporter: Reporter) -> dict[str, Any]:
    """Rows, tokens, seconds and memory of `label`, teacher by teacher, and what the machine has.

    Raises MlxDistillError where there are no rows yet, ModelError and DataError where a teacher cannot be used.
    """
    context = Context(loaded.config, task_of(loaded.config), run, options, reporter, Manifest(run))
    if not context.manifest.stages.get("ingest", {}).get("finished") or not run.pool.exists():
        hint = "mlxdistill ingest CONFIG, then this command again"
        raise MlxDistillError("there are no rows to label yet", where=str(run.path), hint=hint)
    choice = _choice(context)
    device = device_facts(Path.cwd())
    teachers = {name: _teacher(context, name, choice, device) for name in loaded.config.teachers}
    return {
        "rows": {
            "pool": count_rows(run.pool),
            "chosen": count_rows(run.pool) if choice is None else len(choice.ids),
            "validation_and_test": len({row.id for row in measuring_rows(run)}),
        },
        "teachers": teachers,
        "together": _together(teachers.values()),
        "machine": {
            "chip": device.chip,
            "memory_bytes": device.memory_bytes,
            "working_set_bytes": device.working_set_bytes,
        },
    }


def _together(teachers: Collection[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What several teachers take: they load in turn, so their times add up and the largest memory counts."""
    loading = [entry for entry in teachers if entry.get("tokens")]
    if len(loading) < 2:
        return None
    return {
        "answers": sum(entry["answers"]["asked"] for entry in loading),
        "tokens": sum(entry["tokens"]["total"] for entry in loading),
        "seconds": {name: sum(entry["seconds"][name] for entry in loading) for name in ("value", "low", "high")},
        "memory_bytes": max(entry["memory_bytes"]["total"] for entry in loading),
    }


def _choice(context: Context) -> Choice | None:
    """The rows of the pool that would be labelled; where they are not chosen yet, as many by chance."""
    budget, kept = budget_in_force(context), choice_in_force(context.run)
    if budget is None:
        return None
    rows = count_rows(context.run.pool)
    if (
        kept
        and kept.pool_sha256 == file_sha256(context.run.pool)
        and min(budget, rows) <= len(kept.pilot) + len(kept.chosen)
    ):
        return Choice(budget, kept.pool_sha256, kept.pilot, kept.chosen)
    drawn = generator(context.config.data.seed).permutation(rows) < budget
    ids = (row.id for row, is_drawn in zip(iter_rows(context.run.pool), drawn, strict=True) if is_drawn)
    return Choice(budget, "", tuple(ids))


def _teacher(context: Context, name: str, choice: Choice | None, device: DeviceFacts) -> dict[str, Any]:
    config = context.config.teachers[name]
    with open_teacher(context, name) as labeller, ExitStack() as stack:
        store, stored = None, None
        if context.run.labels.exists():
            store = stack.enter_context(LabelReader(context.run.labels))
            stored = _stored(store, labeller, context.task.names)
        rows = _rows(context, config, labeller, choice, store, stored)
    figures: dict[str, Any] = {
        "rows": rows.wanted,
        "answers": {"asked": rows.asked, "from_store": rows.from_store},
        "copied": rows.copied,
    }
    if config.log is not None:
        return {"log": list(config.log), **figures, "found_in_log": rows.found}
    if not rows.asked:
        return {"model": config.model, **figures, "tokens": None, "seconds": None, "memory_bytes": None}
    known = dict(stored.settings or {}) if stored else {}
    return {"model": config.model, **figures, **_cost(context, name, rows, labeller, known, device)}


def _stored(store: LabelReader, labeller: Labeller, labels: tuple[str, ...]) -> StoredLabeller | None:
    key = (labeller.fingerprint, labeller.prompt_fingerprint, labels)
    for each in store.labellers():
        if (each.teacher_fingerprint, each.prompt_fingerprint, each.labels) == key:
            return each
    return None


def _rows(
    context: Context,
    config: TeacherConfig,
    labeller: Labeller,
    choice: Choice | None,
    store: LabelReader | None,
    stored: StoredLabeller | None,
) -> _Rows:
    run, rows = context.run, _Rows()
    sources: Mapping[str, str] = {}
    if config.log is None:
        sources = find_sources(pool_rows(run, choice), measuring_rows(run), config.near_duplicates)

    measuring = {row.id: row for row in measuring_rows(run)}
    left = chain((row for row in pool_rows(run, choice) if row.id not in measuring), measuring.values())

    def pending() -> Iterator[tuple[str, str]]:
        while piece := list(itertools.islice(left, ROWS_PER_PIECE)):
            asked = [row for row in piece if row.id not in sources]
            rows.wanted += len(piece)
            rows.copied += len(piece) - len(asked)
            if isinstance(labeller, RecordedLabeller):
                rows.found += sum(map(len, labeller.label(asked, frozenset(), _Quiet())))
            hashes = {row.id: content_hash(row.text) for row in asked}
            done = store.answered(stored, hashes, config.keep_logprobs or 0) if store and stored else frozenset()
            for row in asked:
                missing = sum((row.id, sample) not in done for sample in labeller.samples)
                rows.asked += missing
                rows.from_store += len(labeller.samples) - missing
                if missing:
                    yield content_hash(f"{context.config.data.seed}:{row.id}"), row.text

    rows.sample = [text for _, text in heapq.nsmallest(SAMPLE_ROWS, pending())]
    return rows


class _Quiet:
    def advance(self, done: int, total: int, **figures: float) -> None:
        pass

    def note(self, message: str) -> None:
        pass


def _cost(
    context: Context, name: str, rows: _Rows, labeller: Labeller, known: Mapping[str, Any], device: DeviceFacts
) -> dict[str, Any]:
    """Tokens, seconds and memory of a teacher with a model. `known`: the settings of its answers so far."""
    config = context.config.teachers[name]
    assert config.model is not None
    info = inspect_gguf(find_gguf(config.model))
    template = prompt_template(config.prompt, ".".join(map(str, (*key_of(context.config, name), "prompt"))))
    request = count_request(config, info, context.task, template, labeller.samples)
    counted, process = count_tokens(request, rows.sample, context.reporter)
    before = remembered(machine_key([cached_sha256(path) for path in info.files]))
    samples = len(labeller.samples)
    asked = rows.asked / samples
    speed = None if request.written else before.get("tokens_per_second")
    gflops = device.gemm_gflops_metal or device.gemm_gflops
    seconds = expected_seconds(counted, asked, samples, speed=speed, shape=info.shape, gflops=gflops)
    memory = expected_memory(
        info, counted, _memory_settings(config, known if request.written else {**before, **known}), process
    )
    per_row = statistics.fmean(counted.rows)
    written = counted.answer.value * rows.asked
    return {
        "tokens": {
            "prefix": counted.prefix,
            "per_row": per_row,
            "written_per_answer": asdict(counted.answer) if request.written else None,
            "total": round(counted.prefix + asked * per_row + written),
            "sample_rows": len(rows.sample),
        },
        "truncated_share": counted.truncated / len(rows.sample),
        "seconds": {**asdict(seconds), "origin": "measured" if speed else "guess"},
        "memory_bytes": {**asdict(memory), "total": memory.total},
    }


def _memory_settings(config: TeacherConfig, known: Mapping[str, Any]) -> MemorySettings:
    written = config.answer == "generate"
    return MemorySettings(
        n_ctx=config.n_ctx,
        n_batch=config.n_batch or known.get("n_batch") or (N_BATCH if written else FIRST_BATCH),
        n_seq=config.n_seq or known.get("n_seq") or (N_SEQ if written else FIRST_SEQUENCES),
        split=(config.kv or known.get("kv")) == "split",
        written_tokens=config.max_tokens if written else 0,
        machine_bytes=machine_memory_bytes(),
    )
