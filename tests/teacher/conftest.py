"""A tiny chat model with random weights: a Llama of two layers, a byte-level BPE vocabulary, ChatML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxdistill.teacher.engine import Model

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CORPUS = "ok okay toxic toxicity card payment card arrival card lost text the a of to user assistant label answer only"
CONTEXT = 512
WIDTH, FEED_FORWARD, LAYERS, HEADS = 32, 64, 2, 4
STORIES = Path(__file__).parents[2].parent / "shared" / "data" / "stories260K" / "stories260K-f32.gguf"


def byte_letters() -> list[str]:
    """GPT-2's printable letter for each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def learned_merges(count: int) -> list[tuple[str, str]]:
    words = [["Ġ", *word] for word in CORPUS.split()] + [list(word) for word in CORPUS.split()]
    merges = []
    for _ in range(count):
        pairs = Counter(pair for word in words for pair in pairwise(word))
        if not pairs:
            break
        best = max(sorted(pairs), key=lambda pair: pairs[pair])
        merges.append(best)
        for word in words:
            place = 0
            while place < len(word) - 1:
                if (word[place], word[place + 1]) == best:
                    word[place : place + 2] = ["".join(best)]
                place += 1
    return merges


def write_model(
    path: Path, *, seed: int = 0, chat_template: str | None = CHATML, scale: float = 0.2, **extra: Any
) -> Path:
    """Writes the tiny model. `extra`: metadata of text besides."""
    import gguf

    random = np.random.default_rng(seed)
    merges = learned_merges(60)
    tokens = [*byte_letters(), *("".join(pair) for pair in merges), *CONTROL]
    kinds = [gguf.TokenType.NORMAL] * (len(tokens) - len(CONTROL)) + [gguf.TokenType.CONTROL] * len(CONTROL)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    for key, value in extra.items():
        writer.add_string(key.replace("__", "."), value)
    for name, shape in tensor_shapes(len(tokens)).items():
        values = np.ones(shape) if name.endswith("norm.weight") else random.normal(0, scale, shape)
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensor_shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocabulary, WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        shapes |= {
            block + "attn_norm.weight": (WIDTH,),
            block + "ffn_norm.weight": (WIDTH,),
            block + "attn_q.weight": (WIDTH, WIDTH),
            block + "attn_k.weight": (WIDTH // 2, WIDTH),
            block + "attn_v.weight": (WIDTH // 2, WIDTH),
            block + "attn_output.weight": (WIDTH, WIDTH),
            block + "ffn_gate.weight": (FEED_FORWARD, WIDTH),
            block + "ffn_up.weight": (FEED_FORWARD, WIDTH),
            block + "ffn_down.weight": (WIDTH, FEED_FORWARD),
        }
    return shapes | {"output.weight": (vocabulary, WIDTH)}


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def make_gguf(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes variants of the tiny model."""
    return lambda **settings: write_model(tmp_path_factory.mktemp("variant") / "variant.gguf", **settings)


@pytest.fixture(scope="session")
def tiny_model(tiny_gguf: Path) -> Iterator[Model]:
    with Model(tiny_gguf) as model:
        yield model


@pytest.fixture(scope="session")
def stories_gguf() -> Path:
    if not STORIES.exists():
        pytest.skip("reads a public model, which the project does not carry, from ../shared/data")
    return STORIES


@pytest.fixture(scope="session")
def stories_model(stories_gguf: Path) -> Iterator[Model]:
    with Model(stories_gguf) as model:
        yield model
