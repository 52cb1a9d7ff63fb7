"""The contenders of `bench_predict.py`, each in a process of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench_students import LABELS, PROMPT

from mlxdistill.student.requests import GenerateQuestion, PredictQuestion, PredictRequest
from mlxdistill.workers.channel import Channel

MOST_TOKENS = 1024


@dataclass(frozen=True)
class Setup:
    """`gpu`: leave MLX on its own default device, and let ours do what it does on Metal."""

    model: str
    gpu: bool


@dataclass(frozen=True)
class Label:
    """Asks ours for labels, which have these names and verbalizers."""

    rows: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Write:
    """Asks anyone for texts of up to so many tokens."""

    rows: tuple[tuple[str, str], ...]
    tokens: int


def open_ours(setup: Setup, channel: Channel) -> Callable[[Label | Write, Channel], Any]:
    """What `mlxdistill predict` opens."""
    from mlxdistill.student import base, child

    if setup.gpu:
        child.has_metal = base.has_metal = _on_gpu

    @functools.cache
    def opened(labels: tuple[tuple[str, str], ...]) -> Callable[[Any, Channel], Any]:
        return child.open_predictor(PredictRequest(setup.model, None, None, labels, PROMPT, MOST_TOKENS), channel)

    def answer(asked: Label | Write, channel: Channel) -> Any:
        if isinstance(asked, Label):
            return opened(asked.labels)(PredictQuestion(asked.rows), channel)
        return opened(LABELS)(GenerateQuestion(asked.rows, PROMPT, asked.tokens), channel)

    return answer


def open_row_by_row(setup: Setup, channel: Channel) -> Callable[[Write, Channel], list[str]]:
    from mlx_lm import generate, load

    model, tokenizer = load(setup.model)
    return lambda asked, _: [
        generate(model, tokenizer, prompt, max_tokens=asked.tokens) for prompt in chats(tokenizer, asked)
    ]


def open_batched(setup: Setup, channel: Channel) -> Callable[[Write, Channel], list[str]]:
    from mlx_lm import batch_generate, load

    model, tokenizer = load(setup.model)
    return lambda asked, _: batch_generate(model, tokenizer, chats(tokenizer, asked), max_tokens=asked.tokens).texts


def chats(tokenizer: Any, asked: Write) -> list[list[int]]:
    messages = [[{"role": "user", "content": PROMPT.content(text)}] for _, text in asked.rows]
    return [tokenizer.apply_chat_template(message, add_generation_prompt=True) for message in messages]


def _on_gpu() -> bool:
    import mlx.core as mx

    return bool(mx.default_device() == mx.gpu)
