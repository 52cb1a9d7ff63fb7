"""A Llama small enough to train on two CPU cores, with the weight names of `LlamaForCausalLM`.

The model is our own so that a prefix that all rows of a batch share is computed once, with its gradient, instead
of once a row: with the demo's prompt this halves the work of teaching. RoPE pairs dimension i with i + d/2, as
Hugging Face does; the GGUF writer permutes for llama.cpp.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KeyValues = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a model; `hidden` and `feed_forward` are multiples of 32, the block of Q8_0."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int = 4096
    context: int = 512
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    """Causal self-attention; rows may attend to keys and values of a shared prefix before them."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.heads, self.head_dim = shape.heads, shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch, length, hidden = x.shape
        split = (batch, length, self.heads, self.head_dim)
        query = _rotate(self.q_proj(x).view(split).transpose(1, 2), cos, sin)
        key = _rotate(self.k_proj(x).view(split).transpose(1, 2), cos, sin)
        value = self.v_proj(x).view(split).transpose(1, 2)
        if past is not None:
            key = torch.cat((past[0].expand(batch, -1, -1, -1), key), dim=2)
            value = torch.cat((past[1].expand(batch, -1, -1, -1), value), dim=2)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, hidden)), (key, value)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One transformer layer, normalised before each half."""

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden, eps=shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, eps=shape.norm_eps)
        self.mlp = FeedForward(shape)


class Llama(nn.Module):
    """Token ids (batch, length) in, hidden states (batch, length, hidden) out; `logits` applies the tied head."""

    def __init__(self, shape: LlamaShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=shape.norm_eps)
        self.dropout = nn.Dropout(dropout)
        frequencies = shape.rope_theta ** (-torch.arange(0, shape.head_dim, 2).float() / shape.head_dim)
        angles = torch.outer(torch.arange(shape.context).float(), frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * self.shape.layers) ** 0.5 if last else 0.02)

    def forward(self, ids: Tensor, prefix: KeyValues | None = None) -> tuple[Tensor, KeyValues]:
        """Run `ids` after `prefix` (the keys and values a forward of one shared row returned)."""
        start = 0 if prefix is None else prefix[0][0].shape[2]
        length = ids.shape[1]
        x = self.dropout(self.embed_tokens(ids))
        cos = self.cos[start : start + length].to(x.dtype)
        sin = self.sin[start : start + length].to(x.dtype)
        mask = None
        if start:
            mask = torch.ones(length, start + length, dtype=torch.bool).tril(start)
        kept: KeyValues = []
        for index, layer in enumerate(self.layers):
            past = None if prefix is None else prefix[index]
            mixed, key_values = layer.self_attn(layer.input_layernorm(x), cos, sin, mask, past)
            kept.append(key_values)
            x = x + self.dropout(mixed)
            x = x + self.dropout(layer.mlp(layer.post_attention_layernorm(x)))
        return self.norm(x), kept

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embed_tokens.weight)

    def hub_state(self) -> dict[str, Tensor]:
        """The weights in float32 under the names of `LlamaForCausalLM` (no `lm_head`: it is tied)."""
        return {f"model.{name}": weight.detach().float() for name, weight in self.named_parameters()}


def parameter_count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())
