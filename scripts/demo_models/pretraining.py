"""Language modelling from nothing on packed token blocks, with Muon for the matrices and AdamW for the rest.

Muon (Jordan et al. 2024) orthogonalises the momentum of a matrix; on so few tokens it learns about as much from one
pass as AdamW from two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .llama import Llama

Note = Callable[[str], None]


@dataclass(frozen=True)
class LanguageSettings:
    """Settings of pretraining; a step reads `rows` blocks of `block` tokens."""

    passes: float
    rows: int = 12
    block: int = 192
    matrix_rate: float = 0.03
    embedding_rate: float = 1e-2
    weight_decay: float = 0.05
    warmup: float = 0.05
    seed: int = 0


class Optimisers:
    """Muon for hidden matrices, AdamW for embeddings and norms, one schedule: warm-up, then a straight line down."""

    def __init__(
        self,
        model: nn.Module,
        steps: int,
        matrix_rate: float,
        embedding_rate: float,
        weight_decay: float,
        warmup: float,
    ) -> None:
        named = list(model.named_parameters())
        matrices = [weight for name, weight in named if weight.dim() == 2 and "embed" not in name]
        others = [weight for name, weight in named if weight.dim() != 2 or "embed" in name]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=matrix_rate, weight_decay=weight_decay, adjust_lr_fn="original"),
            torch.optim.AdamW(others, lr=embedding_rate, betas=(0.9, 0.98), weight_decay=weight_decay),
        ]
        self.model = model
        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(
                part, lambda step: min(1.0, (step + 1) / (warmup * steps + 1)) * max(0.02, 1 - step / steps)
            )
            for part in self.parts
        ]

    def step(self) -> None:
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for part, schedule in zip(self.parts, self.schedules, strict=True):
            part.step()
            schedule.step()
            part.zero_grad(set_to_none=True)


def pack(documents: Sequence[list[int]], block: int, end: int, generator: torch.Generator) -> Tensor:
    """Documents in random order, each closed by `end`, cut into (blocks, block + 1) with one token of overlap."""
    order = torch.randperm(len(documents), generator=generator).tolist()
    stream = torch.tensor([token for index in order for token in (*documents[index], end)])
    blocks = (len(stream) - 1) // block
    return torch.stack([stream[i * block : i * block + block + 1] for i in range(blocks)])


def language_loss(model: Llama, rows: Tensor) -> Tensor:
    """Mean cross-entropy of the next token over rows of shape (batch, length + 1)."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden, _ = model(rows[:, :-1])
        logits = model.logits(hidden)
    return F.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())


def pretrain(
    model: Llama, documents: Sequence[list[int]], end: int, settings: LanguageSettings, note: Note
) -> list[float]:
    """Train `model` in place on `documents`; returns the loss of each step."""
    generator = torch.Generator().manual_seed(settings.seed)
    whole = [pack(documents, settings.block, end, generator) for _ in range(int(settings.passes + 0.999))]
    blocks = torch.cat(whole)[: int(settings.passes * len(whole[0]))]
    steps = len(blocks) // settings.rows
    optimisers = Optimisers(
        model, steps, settings.matrix_rate, settings.embedding_rate, settings.weight_decay, settings.warmup
    )
    model.train()
    losses: list[float] = []
    started = time.monotonic()
    for step in range(steps):
        loss = language_loss(model, blocks[step * settings.rows : (step + 1) * settings.rows])
        loss.backward()
        optimisers.step()
        losses.append(loss.item())
        if step % 25 == 24 or step == steps - 1:
            mean = sum(losses[-25:]) / len(losses[-25:])
            note(f"step {step + 1}/{steps} loss {mean:.3f} {time.monotonic() - started:.0f} s")
    return losses
