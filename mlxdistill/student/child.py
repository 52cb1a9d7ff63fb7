"""What runs in the student's process: `open_trainer` and `open_predictor`."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxdistill.errors import DataError, ModelError
from mlxdistill.platform.memory import peak_memory_bytes
from mlxdistill.platform.metal import has_metal
from mlxdistill.platform.models import model_fingerprint
from mlxdistill.rundir.files import file_sha256
from mlxdistill.student.adapter import AdapterShape, add_adapter, load_adapter, write_adapter
from mlxdistill.student.base import Base, load_base, most_tokens
from mlxdistill.student.batches import COMPILED_MULTIPLE, UNCOMPILED_MULTIPLE
from mlxdistill.student.checkpoints import Checkpoints
from mlxdistill.student.device import prepare_device
from mlxdistill.student.divergence import NotFinite, diverged, unfinished_folder
from mlxdistill.student.encoding import EncodedRow, RowEncoder, read_encoded, reading_notes
from mlxdistill.student.head import SupervisedHead
from mlxdistill.student.loop import Material, Reporter, Training
from mlxdistill.student.memory_model import settled, this_place
from mlxdistill.student.parallel import Alone, Company, Parallel
from mlxdistill.student.predict import LabelScorer, best_labels
from mlxdistill.student.prefix import SharedPrefix, shared_beginning
from mlxdistill.student.recomputation import recompute_layers
from mlxdistill.student.requests import (
    GenerateQuestion,
    GenerateResult,
    PredictQuestion,
    PredictRequest,
    PredictResult,
    TrainRequest,
    TrainResult,
)
from mlxdistill.student.targets import TargetBuilder, TargetSettings, label_weights
from mlxdistill.student.writing import Writer
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import canonical_json, content_hash
from mlxdistill.workers.channel import Channel

PREDICTED_AT_ONCE = 512


def open_trainer(request: TrainRequest, channel: Channel) -> Callable[[object, Channel], TrainResult]:
    """Opens base and rows; the returned function trains, whatever it is asked."""
    company = Parallel(request.rank, request.ranks, channel) if request.ranks > 1 else None
    base, shape, training, truncated = prepare(request, channel, company)
    return lambda question, reporter: train(request, base, shape, training, truncated)


def prepare(
    request: TrainRequest, reporter: Reporter, company: Company | None = None
) -> tuple[Base, AdapterShape, Training, int]:
    """Everything a training needs, and how many rows were truncated. `company`: the other ranks, where there are any.

    Raises MlxDistillError for what a user can mend.
    """
    prepare_device()
    base = load_base(request.model, request.quantize)
    max_tokens = most_tokens(request.max_tokens, base.config)
    encoder = RowEncoder(
        base.tokenizer,
        labels=request.labels,
        prompt=request.prompt,
        max_tokens=max_tokens,
        soft=request.train.soft_weight > 0,
    )
    rows, valid = _read_rows(request, encoder, base, reporter)
    truncated = sum(row.truncated for row in [*rows, *valid])
    if truncated:
        limit = f"student.max_tokens is {max_tokens}"
        if max_tokens < request.max_tokens:
            limit = f"the model was made for no more than {max_tokens} tokens"
        reporter.note(f"{truncated} rows lost the end of their text ({limit})")
    for name in _absent_labels(rows, encoder):
        reporter.note(f"no row teaches the label {name!r}: the student will hardly give it")
    shape = add_adapter(base.model, request.fine_tune_type, request.lora, seed=request.train.seed)
    head = _head(base, reporter)
    prefix = _prefix(base, head, [*rows, *valid], reporter)
    if request.train.gradient_checkpointing:
        recompute_layers(base.model)
    weights = label_weights(rows, len(request.labels)) if request.train.class_balance == "weights" else None
    settings = TargetSettings(request.train.soft_weight, request.train.temperature, weights)
    material = Material(base.model, head, prefix, rows, valid, TargetBuilder(encoder.trie, settings, prefix.tokens))
    training = _open_training(request, material, _fingerprint(request, base), reporter, company or Alone())
    return base, shape, training, truncated


def _open_training(
    request: TrainRequest, material: Material, fingerprint: str, reporter: Reporter, company: Company
) -> Training:
    import mlx.core as mx

    checkpoints = Checkpoints(request.checkpoints, fingerprint)
    planned = settled(material, request.train, this_place(mx.get_peak_memory(), request.ranks))
    batch_size = request.train.batch_size
    if batch_size == "auto":
        # The memory that is free may differ the next time, and from machine to machine: the steps may not.
        saved, notes = checkpoints.load()
        assert planned is not None
        batch_size = company.settle(saved.state["batch_size"] if saved else planned.batch_size)
        if not saved:
            for note in notes:
                reporter.note(note)
            reporter.note(f"train.batch_size: {batch_size} rows a step fit the memory")
    return Training(
        material,
        request.train,
        batch_size,
        checkpoints,
        reporter,
        company,
        compiled=has_metal(),
        planned_bytes=None if planned is None else planned.peak,
    )


def train(request: TrainRequest, base: Base, shape: AdapterShape, training: Training, truncated: int) -> TrainResult:
    import mlx.core as mx

    try:
        training.run()
    except NotFinite as error:
        learned = any(event.best and event.gradient_norm is not None for event in training.state.history)
        if learned:
            _write_best(request, base, shape, training, unfinished_folder(request))
        raise diverged(request, training.state, str(error), kept=learned) from None
    _write_best(request, base, shape, training, request.output)
    if request.rank == 0 and request.dynamics is not None and training.record is not None:
        training.record.write(request.dynamics, [name for name, _ in request.labels])
    training.checkpoints.drop_others()
    shutil.rmtree(unfinished_folder(request), ignore_errors=True)
    state = training.state
    return TrainResult(
        steps=state.step,
        best_step=state.best_step,
        best_valid_loss=state.best_loss,
        rows_per_second=state.rows / state.step_seconds,
        tokens_per_second=state.tokens / state.step_seconds,
        peak_memory_bytes=peak_memory_bytes(),
        mlx_peak_bytes=mx.get_peak_memory(),
        predicted_peak_bytes=training.planned_bytes,
        batch_size=state.batch_size,
        rows_per_epoch=training.epochs.rows,
        label_counts=training.epochs.label_counts(0, len(request.labels)),
        truncated=truncated,
        padding_efficiency=training.padding_efficiency(),
        stopped_early=state.stopped_early,
        skipped_steps=state.skipped,
        seconds=state.seconds,
        history=tuple(state.history),
        losses=tuple(state.losses),
    )


def _write_best(request: TrainRequest, base: Base, shape: AdapterShape, training: Training, folder: Path) -> None:
    if request.rank == 0:
        quantization = {} if request.quantize is None else {"quantize": request.quantize}
        write_adapter(folder, training.best, shape, str(base.folder), quantization)


def open_predictor(
    request: PredictRequest, channel: Channel
) -> Callable[[PredictQuestion | GenerateQuestion, Channel], PredictResult | GenerateResult]:
    """Opens a student; the returned function sends lists of answers, in the order of the rows."""
    prepare_device()
    base = load_base(request.model, request.quantize)
    if request.adapter is not None:
        load_adapter(base.model, request.adapter)
    base.model.eval()
    max_tokens = most_tokens(request.max_tokens, base.config)
    encoder = RowEncoder(base.tokenizer, labels=request.labels, prompt=request.prompt, max_tokens=max_tokens)
    assert encoder.trie is not None
    scorer = LabelScorer(
        _head(base, channel),
        len(base.model.layers),
        encoder.trie,
        batch_tokens=request.batch_tokens,
        multiple=COMPILED_MULTIPLE if has_metal() else UNCOMPILED_MULTIPLE,
        beginning=encoder.beginning(),
    )

    @functools.cache
    def writer() -> Writer:
        return Writer(base, max_tokens=request.max_tokens, batch_tokens=request.batch_tokens)

    def answer(question: PredictQuestion | GenerateQuestion, reporter: Channel) -> PredictResult | GenerateResult:
        if isinstance(question, GenerateQuestion):
            return writer().answer(question, reporter)
        return _predict(question, reporter, encoder, scorer)

    return answer


def _predict(question: PredictQuestion, channel: Channel, encoder: RowEncoder, scorer: LabelScorer) -> PredictResult:
    import mlx.core as mx

    seconds, done, cut = 0.0, 0, 0
    for start in range(0, len(question.rows), PREDICTED_AT_ONCE):
        rows = question.rows[start : start + PREDICTED_AT_ONCE]
        began = time.monotonic()
        prompts = [encoder.prompt_tokens(row_id, text) for row_id, text in rows]
        probabilities = scorer.score([tokens for tokens, _ in prompts])
        took = time.monotonic() - began
        answers = [
            Answer(
                row_id=row_id,
                label=label,
                probabilities=tuple(float(value) for value in found),
                outcome="truncated" if truncated else "answered",
                seconds=took / len(rows),
            )
            for (row_id, _), label, found, (_, truncated) in zip(
                rows, best_labels(probabilities, encoder.names), probabilities, prompts, strict=True
            )
        ]
        seconds, done = seconds + took, done + len(rows)
        cut += sum(truncated for _, truncated in prompts)
        channel.advance(done, len(question.rows), rows_per_second=done / seconds)
        channel.send(answers)
    return PredictResult(done / seconds if seconds else 0.0, mx.get_peak_memory(), cut)


def _read_rows(
    request: TrainRequest, encoder: RowEncoder, base: Base, reporter: Reporter
) -> tuple[list[EncodedRow], list[EncodedRow]]:
    if not request.data.is_dir():
        raise DataError(
            "no such folder", where=str(request.data), hint="a data folder holds train.jsonl and valid.jsonl"
        )
    rows = read_encoded(request.data / "train.jsonl", encoder)
    valid: list[EncodedRow] = []
    if (request.data / "valid.jsonl").exists():
        valid = read_encoded(request.data / "valid.jsonl", encoder)
    else:
        reporter.note("no valid.jsonl: the last adapter is kept, not the best, and training never stops early")
    for note in reading_notes([*rows, *valid], encoder.left_out):
        reporter.note(note)
    _check_vocabulary([*rows, *valid], base)
    return rows, valid


def _absent_labels(rows: list[EncodedRow], encoder: RowEncoder) -> list[str]:
    taught = {row.label for row in rows}
    return [name for number, name in enumerate(encoder.names) if number not in taught]


def _check_vocabulary(rows: list[EncodedRow], base: Base) -> None:
    size = base.config.get("vocab_size") or base.config.get("text_config", {}).get("vocab_size")
    largest = max(max(row.tokens) if row.soft is None else max(*row.tokens, int(row.soft.ids.max())) for row in rows)
    if isinstance(size, int) and largest >= size:
        message = f"the tokenizer writes token {largest}, but the model knows only {size} tokens"
        raise ModelError(message, where=str(base.folder), hint="pull the model again, or use another")


def _head(base: Base, reporter: Any) -> SupervisedHead:
    head = SupervisedHead(base.model)
    if not head.partial:
        reporter.note(
            "this model's head cannot be applied to single positions; memory and time are those of all of them"
        )
    return head


def _prefix(base: Base, head: SupervisedHead, rows: list[EncodedRow], reporter: Reporter) -> SharedPrefix:
    shared = shared_beginning((row.tokens, row.first_target) for row in rows)
    prefix = SharedPrefix(head, len(base.model.layers), shared)
    if not prefix.supported:
        reporter.note(f"this model cannot go on from a shared beginning; its {len(shared)} tokens are run in every row")
    return prefix


def _fingerprint(request: TrainRequest, base: Base) -> str:
    """Of whatever decides the steps of a training.

    Not of what only says in how many parts they are computed: a training that ran out of memory goes on with smaller
    ones.
    """
    files = [request.data / "train.jsonl", request.data / "valid.jsonl"]
    parts = {
        "model": [model_fingerprint(str(base.folder)), request.quantize],
        "fine_tune_type": request.fine_tune_type,
        "lora": request.lora.model_dump(mode="json"),
        "train": request.train.model_dump(mode="json", exclude={"batch_tokens", "gradient_checkpointing"}),
        "labels": request.labels,
        "prompt": None if request.prompt is None else request.prompt.fingerprint,
        "max_tokens": request.max_tokens,
        "data": [file_sha256(path) if path.exists() else None for path in files],
    }
    return content_hash(canonical_json(parts))
