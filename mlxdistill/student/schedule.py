"""How large each step is."""

from __future__ import annotations

import math

from mlxdistill.config.models import TrainConfig


def learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """The learning rate of a step, counted from 0: linear warm-up, then by `config.schedule` towards 0, or level.

    A function of the step's number alone, so that a training that goes on takes the same steps. The cosine is that of
    Loshchilov and Hutter (SGDR, 2017), without restarts.

    Args:
        total: steps of the whole training.
    """
    warmup = math.ceil(config.warmup * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * (1 - done if config.schedule == "linear" else 1)
