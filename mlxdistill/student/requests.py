"""What the pipeline asks of the student's processes, and what it hears back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from mlxdistill.config.models import FineTuneType, LoraConfig, TrainConfig
from mlxdistill.tasks.classification import Prompt


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """One training.

    Attributes:
        model: a folder or a pulled hub id.
        quantize: bits (4 or 8) to quantize a float base to, or None.
        max_tokens: most tokens of one row.
        data: folder with `train.jsonl` and `valid.jsonl`, in mlx-lm's formats.
        output: folder for the adapter.
        checkpoints: folder for the checkpoints.
        labels: name and verbalizer of each label in the task's order; empty for a plain mlx-lm folder.
        prompt: the prompt around each row's text, so that only the text is cut where a row is too long.
        fine_tune_type: whether the adapter is LoRA, DoRA, or the top layers themselves.
        rank, ranks: this process's number, from 0, among those that share the training; only 0 leaves files.
        dynamics: the file for what `train.record_dynamics` recorded, or None.
    """

    model: str
    quantize: int | None
    lora: LoraConfig
    train: TrainConfig
    max_tokens: int
    data: Path
    output: Path
    checkpoints: Path
    labels: tuple[tuple[str, str], ...] = ()
    prompt: Prompt | None = None
    fine_tune_type: FineTuneType = "lora"
    rank: int = 0
    ranks: int = 1
    dynamics: Path | None = None


@dataclass(frozen=True, slots=True)
class TrainStart:
    """The first thing a training says, each time its command is run.

    Attributes:
        training: stands for whatever decides its steps: the same after a resume.
        step: steps done before, of `total_steps`.
        rows, valid_rows: how many rows it learns from and is validated on.
        largest_part, longest_row: positions, padding included, of the largest batch that is computed at once, and of
            the longest row.
        quantized: whether the base is.
    """

    training: str
    step: int
    total_steps: int
    rows: int
    valid_rows: int
    largest_part: int
    longest_row: int
    quantized: bool


@dataclass(frozen=True, slots=True)
class LossEvent:
    """The training loss, per supervised token, over the steps since the event before.

    Attributes:
        loss: None where no step since then was finite.
        tokens_per_second: over all steps of the training so far; with `peak_memory_bytes`, MLX's own figure, not part
            of what two trainings have in common.
    """

    step: int
    epoch: float
    loss: float | None
    learning_rate: float
    gradient_norm: float | None
    tokens_per_second: float = field(compare=False)
    peak_memory_bytes: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class TrainEvent:
    """One validation. Losses are means per supervised token.

    Attributes:
        loss: the mean training loss since the event before.
        valid_loss, valid_accuracy: over the validation rows; None without such rows. The accuracy is that of choosing
            the likeliest branch at every node of a row's path through the label trie; None without labels.
        skipped_steps: non-finite steps so far.
        best: whether this is the best validation so far.
    """

    step: int
    epoch: float
    loss: float | None
    valid_loss: float | None
    valid_accuracy: float | None
    learning_rate: float
    gradient_norm: float | None
    skipped_steps: int
    best: bool


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished training.

    Attributes:
        batch_size: rows per step.
        steps: optimizer steps done; `best_step` is the one whose adapter was kept.
        rows_per_second, tokens_per_second: over the training steps alone, padding not counted.
        peak_memory_bytes: the process's peak; `mlx_peak_bytes` is MLX's own figure, which leaves out its cache.
        predicted_peak_bytes: what the process's peak was said to be before training.
        truncated: training and validation rows that lost the end of their text.
        padding_efficiency: share of the computed positions that held tokens.
        seconds: of training and validation, over all sessions of a resumed training.
        history, losses: its validations, and its training losses at up to some hundred steps.
        rows_per_epoch: how many an epoch has after `train.class_balance`, copies and rationales counted.
        label_counts: of them, those of each label, in the task's order.
    """

    batch_size: int
    steps: int
    best_step: int
    best_valid_loss: float | None
    rows_per_second: float
    tokens_per_second: float
    peak_memory_bytes: int
    mlx_peak_bytes: int
    truncated: int
    padding_efficiency: float
    stopped_early: bool
    skipped_steps: int
    seconds: float
    history: tuple[TrainEvent, ...]
    losses: tuple[LossEvent, ...] = ()
    predicted_peak_bytes: int | None = None
    rows_per_epoch: int | None = None
    label_counts: tuple[int, ...] = ()


TrainReport: TypeAlias = TrainStart | LossEvent | TrainEvent
"""What a training says of itself while it goes on: no more than some hundred reports, none with a row's text."""


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A student to open for prediction.

    Attributes:
        adapter: folder of the adapter, or None for the base before training.
        labels: name and verbalizer of each label in the task's order.
        batch_tokens: most positions of one forward pass.
    """

    model: str
    adapter: Path | None
    quantize: int | None
    labels: tuple[tuple[str, str], ...]
    prompt: Prompt
    max_tokens: int
    batch_tokens: int = 4096


@dataclass(frozen=True, slots=True)
class PredictQuestion:
    """Rows as pairs of id and text."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PredictResult:
    rows_per_second: float
    mlx_peak_bytes: int
    truncated: int


@dataclass(frozen=True, slots=True)
class GenerateQuestion:
    """Rows as pairs of id and text, to be answered in free text.

    Attributes:
        prompt: the prompt around each row's text.
        max_tokens: most tokens of an answer.
        temperature: 0: the likeliest token each time; above, tokens are drawn, and follow from `seed` and row.
    """

    rows: tuple[tuple[str, str], ...]
    prompt: Prompt
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """Rows that were answered in free text.

    Attributes:
        tokens_per_second: tokens written, over all the time that reading and writing took.
        truncated: rows that lost the end of their text.
        unfinished: answers that were cut at `max_tokens`.
    """

    rows_per_second: float
    tokens_per_second: float
    mlx_peak_bytes: int
    truncated: int
    unfinished: int
