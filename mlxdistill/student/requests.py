"""What the pipeline asks of the student's processes, and what it hears back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlxdistill.config.models import LoraConfig, TrainConfig
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
        steps: optimizer steps done; `best_step` is the one whose adapter was kept.
        rows_per_second, tokens_per_second: over the training steps alone, padding not counted.
        peak_memory_bytes: the process's peak; `mlx_peak_bytes` is MLX's own figure, which leaves out its cache.
        truncated: training and validation rows that lost the end of their text.
        padding_efficiency: share of the computed positions that held tokens.
        seconds: of training and validation, over all sessions of a resumed training.
    """

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
