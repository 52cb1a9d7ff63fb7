"""The contenders of `bench_train.py`, each in a process of its own, and the judge of what they have learned.

A trainer sends a `Turn` after so many steps and waits until it is asked for the next, so that trainers on a shared
machine take turns and its moods hit all alike. Its clock runs only during its own turns. Nobody validates in a timed
process: the adapter is left in a file, and the judge, one and the same for all, measures it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_students import LABELS, PROMPT

from mlxdistill.config.models import LoraConfig, TrainConfig
from mlxdistill.platform.device import device_facts
from mlxdistill.platform.memory import peak_memory_bytes
from mlxdistill.workers.channel import Channel

MOST_TOKENS = 2048
JUDGED_AT_ONCE = 32
GEMM_REPEATS = 3


@dataclass(frozen=True)
class Setup:
    """What all trainers are given alike.

    Attributes:
        model: folder of the student.
        data: folder with `train.jsonl`; `valid`: with the judge's `valid.jsonl`.
        scratch: folder for what is left behind.
        warm_steps: steps before the clock starts; `turn_steps`: of each turn after that.
        batch_tokens: ours alone: most positions at once.
        gpu: leave MLX on its own default device, and let ours do what it does on Metal.
    """

    model: str
    data: Path
    valid: Path
    scratch: Path
    batch_size: int
    epochs: int
    total_steps: int
    learning_rate: float
    rank: int
    scale: float
    warm_steps: int
    turn_steps: int
    batch_tokens: int | None
    gpu: bool

    @property
    def warmup(self) -> int:
        """Steps over which the learning rate rises."""
        return -(-self.total_steps // 20)


@dataclass(frozen=True)
class Turn:
    """One turn. `seconds`, `rows`, `tokens` and `positions` (tokens and padding) are of its steps alone; `step` counts
    from the beginning, and the peaks are of the process so far."""

    step: int
    seconds: float
    rows: int
    tokens: int
    positions: int
    peak_memory_bytes: int
    mlx_peak_bytes: int
    adapter: Path


@dataclass(frozen=True)
class RowSizes:
    """Of each training row: the tokens fed to the model, and how many of them are learned from."""

    fed: tuple[int, ...]
    supervised: tuple[int, ...]


class Turns:
    """Counts a trainer's steps, and makes it wait for its turn."""

    def __init__(self, setup: Setup, channel: Channel, model: Any, name: str) -> None:
        self._setup = setup
        self._channel = channel
        self._model = model
        self._adapter = setup.scratch / f"{name}.safetensors"
        self._step = 0
        self._begin()

    def _begin(self) -> None:
        self._rows = self._tokens = self._positions = 0
        self._began = time.perf_counter()

    def start(self) -> None:
        """Starts the clock anew."""
        self._began = time.perf_counter()

    def step(self, rows: int, tokens: int, positions: int) -> None:
        """After each step. Raises StopRequested when there are no more turns."""
        seconds = time.perf_counter() - self._began
        self._step += 1
        self._rows, self._tokens, self._positions = (
            self._rows + rows,
            self._tokens + tokens,
            self._positions + positions,
        )
        timed = self._step - self._setup.warm_steps
        if timed >= 0 and timed % self._setup.turn_steps == 0:
            self._send(seconds)
            self._begin()

    def _send(self, seconds: float) -> None:
        import mlx.core as mx
        from mlx.utils import tree_flatten

        peaks = peak_memory_bytes(), mx.get_peak_memory()
        mx.save_safetensors(str(self._adapter), dict(tree_flatten(self._model.trainable_parameters())))
        turn = Turn(self._step, seconds, self._rows, self._tokens, self._positions, *peaks, self._adapter)
        self._channel.send(turn)


class _Reporter:
    """Our loop's reporter, which is told of every step."""

    stop_requested = False
    turns: Turns
    training: Any
    efficiency: float

    def __init__(self) -> None:
        self._rows = self._tokens = 0

    def advance(self, done: int, total: int, **figures: float) -> None:
        state = self.training.state
        rows, tokens = state.rows - self._rows, state.tokens - self._tokens
        self._rows, self._tokens = state.rows, state.tokens
        self.turns.step(rows, tokens, round(tokens / self.efficiency))

    def note(self, message: str) -> None:
        pass

    def send(self, payload: object) -> None:
        pass


def open_ours(setup: Setup, channel: Channel) -> Callable[[object, Channel], None]:
    """`mlxdistill train`, its own way to the training loop."""
    from mlxdistill.student import base, child
    from mlxdistill.student.requests import TrainRequest

    if setup.gpu:
        child.has_metal = base.has_metal = _on_gpu
    request = TrainRequest(
        model=setup.model,
        quantize=None,
        lora=LoraConfig(rank=setup.rank, scale=setup.scale, dropout=0.0, layers=-1),
        train=TrainConfig(
            epochs=setup.epochs,
            batch_size=setup.batch_size,
            batch_tokens=setup.batch_tokens,
            learning_rate=setup.learning_rate,
            warmup=setup.warmup / setup.total_steps,
            soft_weight=0.0,
            validations_per_epoch=1,
        ),
        max_tokens=MOST_TOKENS,
        data=setup.data,
        output=setup.scratch / "ours",
        checkpoints=setup.scratch / "checkpoints",
        labels=LABELS,
        prompt=PROMPT,
    )
    reporter = _Reporter()
    opened, shape, training, truncated = child.prepare(request, reporter)
    reporter.training, reporter.efficiency = training, training.padding_efficiency()

    def train(question: object, channel: Channel) -> None:
        reporter.turns = Turns(setup, channel, opened.model, "ours")
        child.train(request, opened, shape, training, truncated)

    return train


def open_mlx_lm(setup: Setup, channel: Channel) -> Callable[[object, Channel], None]:
    """`mlx_lm.lora --train --mask-prompt`, with its own loader, datasets, LoRA layers, schedule and loop."""
    import types

    import mlx.core as mx
    import mlx.optimizers
    import numpy as np
    from mlx_lm.tuner.datasets import CacheDataset, load_local_dataset
    from mlx_lm.tuner.trainer import TrainingArgs, iterate_batches, train
    from mlx_lm.tuner.utils import build_schedule
    from mlx_lm.utils import load

    model, tokenizer = load(setup.model)
    dataset = CacheDataset(load_local_dataset(setup.data, tokenizer, types.SimpleNamespace(mask_prompt=True))[0])
    for number in range(len(dataset)):
        dataset[number]  # tokenised now, as ours are: neither's clock runs for it
    np.random.seed(0)
    mx.random.seed(0)
    model.freeze()
    _add_lora(model, setup)
    decay = {
        "name": "cosine_decay",
        "warmup": setup.warmup,
        "arguments": [setup.learning_rate, setup.total_steps - setup.warmup],
    }
    optimizer = mlx.optimizers.AdamW(learning_rate=build_schedule(decay), weight_decay=0.0, bias_correction=True)
    arguments = TrainingArgs(
        batch_size=setup.batch_size,
        iters=setup.total_steps,
        max_seq_length=MOST_TOKENS,
        adapter_file=str(setup.scratch / "adapters.safetensors"),
    )

    def run(question: object, channel: Channel) -> RowSizes | None:
        if question is RowSizes:
            rows = [dataset[number] for number in range(len(dataset))]
            return RowSizes(
                tuple(len(tokens) - 1 for tokens, _ in rows), tuple(len(tokens) - start for tokens, start in rows)
            )
        turns = Turns(setup, channel, model, "mlx_lm")

        def taking_turns(**given: Any) -> Iterator[Any]:
            turns.start()
            for batch, lengths in iterate_batches(**given):
                yield batch, lengths
                # The loop asks for the next batch when the step is computed.
                rows, width = batch.shape
                turns.step(rows, int(lengths[:, 1].sum().item()) - rows, rows * (width - 1))

        train(model, optimizer, dataset, args=arguments, iterate_batches=taking_turns)
        return None

    return run


@dataclass(frozen=True)
class Gemm:
    """Asks the judge for the speed of products of [rows, columns] with [columns, width] for each (columns, width)."""

    rows: int
    shapes: tuple[tuple[int, int], ...]


def open_judge(setup: Setup, channel: Channel) -> Callable[[object, Channel], Any]:
    """Answers RowSizes (the class) with one, a Gemm with operations a second, an adapter's path with the mean loss of
    the validation rows' answers, over the whole vocabulary."""
    import mlx.core as mx

    from mlxdistill.student.base import load_base
    from mlxdistill.student.cpu_kernels import use_cpu_kernels
    from mlxdistill.student.encoding import RowEncoder, read_encoded

    if not setup.gpu:
        use_cpu_kernels()
    base = load_base(setup.model)
    encoder = RowEncoder(base.tokenizer, labels=LABELS, prompt=PROMPT, max_tokens=MOST_TOKENS)
    train = read_encoded(setup.data / "train.jsonl", encoder)
    valid = sorted(read_encoded(setup.valid / "valid.jsonl", encoder), key=lambda row: len(row.tokens))
    _add_lora(base.model, setup)
    base.model.eval()

    def answer(question: object, channel: Channel) -> Any:
        if isinstance(question, Gemm):
            return _gemm_speed(question)
        if isinstance(question, Path):
            base.model.load_weights(list(mx.load(str(question)).items()), strict=False)
            return _loss(base.model, valid)
        return RowSizes(tuple(len(row.tokens) - 1 for row in train), tuple(row.targets for row in train))

    return answer


def device_name() -> str:
    import mlx.core as mx

    if _on_gpu():
        return str(mx.device_info().get("device_name", mx.default_device()))
    return device_facts(Path.cwd()).chip


def _on_gpu() -> bool:
    import mlx.core as mx

    return bool(mx.default_device() == mx.gpu)


def _add_lora(model: Any, setup: Setup) -> None:
    from mlx_lm.tuner.utils import linear_to_lora_layers

    shape = {"rank": setup.rank, "scale": setup.scale, "dropout": 0.0}
    linear_to_lora_layers(model, len(model.layers), shape)


def _loss(model: Any, rows: list[Any]) -> float:
    """The mean cross-entropy of the answers' tokens; the head of a tied Llama at those positions alone."""
    import mlx.core as mx
    import numpy as np

    total, count = 0.0, 0
    for start in range(0, len(rows), JUDGED_AT_ONCE):
        part = rows[start : start + JUDGED_AT_ONCE]
        inputs = np.zeros((len(part), max(len(row.tokens) for row in part) - 1), np.int32)
        places, following = [], []
        for number, row in enumerate(part):
            inputs[number, : len(row.tokens) - 1] = row.tokens[:-1]
            places += [number * inputs.shape[1] + place - 1 for place in range(row.first_target, len(row.tokens))]
            following += row.tokens[row.first_target :]
        hidden = model.model(mx.array(inputs))
        logits = model.model.embed_tokens.as_linear(hidden.reshape(-1, hidden.shape[-1])[mx.array(places)])
        chosen = mx.take_along_axis(logits, mx.array(following)[:, None], axis=-1)[:, 0]
        total += float((mx.logsumexp(logits, axis=-1) - chosen).sum().item())
        count += len(places)
    return total / count


def _gemm_speed(asked: Gemm) -> float:
    """Operations a second over all the shapes, each at its best."""
    import mlx.core as mx

    seconds, operations = 0.0, 0
    for columns, width in asked.shapes:
        a, b = mx.random.normal((asked.rows, columns)), mx.random.normal((width, columns))
        mx.eval(a, b)
        best = float("inf")
        for _ in range(GEMM_REPEATS):
            began = time.perf_counter()
            mx.eval(a @ b.T)
            best = min(best, time.perf_counter() - began)
        seconds += best
        operations += 2 * asked.rows * columns * width
    return operations / seconds
