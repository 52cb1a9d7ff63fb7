"""A random-weight Llama in GGUF, Q8_0, with a vocabulary learned from text: as slow as a trained one of its size.

Weights do not matter to speed, tokens a word do: the vocabulary is byte-level BPE over the rows' own language, filled
up with tokens that no text has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LEARNED = 32_000
WORDS = ["yes", "no"]  # labels of one token each


@dataclass(frozen=True)
class Shape:
    """110 million parameters at a vocabulary of 32,000, the embedding used for the head too."""

    vocabulary: int = 32_000
    width: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward: int = 2048
    context: int = 4096

    @property
    def block_parameters(self) -> int:
        """Of all blocks: what every token passes."""
        return self.layers * (4 * self.width**2 + 3 * self.width * self.feed_forward)


def write_random_model(path: Path, shape: Shape, texts: Iterable[str], seed: int = 0) -> None:
    """Writes the model, its vocabulary learned from `texts`."""
    import gguf
    from gguf.quants import quantize

    tokens, merges = _learn(texts, shape.vocabulary)
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in CONTROL else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.index(CONTROL[0]))
    writer.add_eos_token_id(tokens.index(CONTROL[2]))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)
    for name, size in _tensors(shape).items():
        if name.endswith("norm.weight"):
            writer.add_tensor(name, np.ones(size, np.float32))
        else:
            values = random.standard_normal(size, np.float32) * np.float32(0.02)
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _learn(texts: Iterable[str], vocabulary: int) -> tuple[list[str], list[str]]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(vocabulary, LEARNED) - len(CONTROL) - len(WORDS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *(word for word in WORDS for _ in range(100_000))], trainer)
    known = tokenizer.get_vocab()
    tokens = sorted(known, key=known.__getitem__)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    filling = [f"<unused {number}>" for number in range(vocabulary - len(tokens) - len(CONTROL))]
    return [*tokens, *filling, *CONTROL], [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def _tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    width = shape.width
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (shape.vocabulary, width),
        "output_norm.weight": (width,),
    }
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        tensors |= {f"{block}{name}.weight": (width,) for name in ("attn_norm", "ffn_norm")}
        tensors |= {f"{block}{name}.weight": (width, width) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        tensors |= {f"{block}{name}.weight": (shape.feed_forward, width) for name in ("ffn_gate", "ffn_up")}
        tensors |= {f"{block}ffn_down.weight": (width, shape.feed_forward)}
    return tensors
