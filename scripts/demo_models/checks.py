"""Proof that the written files say what the trained models say: in llama.cpp and in mlx-lm."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from tokenizers import Tokenizer

from .bpe import SPECIALS, text_ids
from .llama import Llama

ODD_PIECES = (
    *SPECIALS, "<|im", "|>", "£", "€", "  ", "\n", "\n\n", "\t", " \n ", "'s", "'LL", "don't", "café", "naïve", "日本語",
    "😀", "👩‍👩‍👧", "1234 5678", "٣٤", "½", "É", "…", "—", "\u00a0", "\u200b", "\r\n", "ß", "Ω≈ç", "...", "!!!", "a_b", "x@y.example",
)  # fmt: skip


def messy_strings(texts: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` strings made of pieces of `texts`, odd characters and special-token look-alikes."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        pieces = []
        for _ in range(rng.randrange(1, 5)):
            text = rng.choice(texts)
            start = rng.randrange(len(text))
            pieces += [text[start : start + rng.randrange(1, 60)], rng.choice(ODD_PIECES)]
        rng.shuffle(pieces)
        made.append("".join(pieces))
    return made


class GgufModel:
    """A GGUF loaded through llama-cpp-python's low-level interface, for checks only."""

    def __init__(self, path: Path) -> None:
        llama_cpp.llama_backend_init()
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch, settings.n_threads = 512, 512, 512, 2
        self.context = llama_cpp.llama_init_from_model(self.model, settings)

    def tokenize(self, text: str, parse_special: bool) -> list[int]:
        data = text.encode()
        room = (llama_cpp.llama_token * (len(data) + 8))()
        found = llama_cpp.llama_tokenize(self.vocabulary, data, len(data), room, len(room), False, parse_special)
        return list(room[:found])

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Logits after the last of `ids`, (vocabulary,)."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        batch = llama_cpp.llama_batch_get_one(tokens, len(ids))
        if llama_cpp.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        return np.array(llama_cpp.llama_get_logits_ith(self.context, -1)[:size])

    def close(self) -> None:
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


@torch.no_grad()
def torch_logits(model: Llama, ids: Sequence[int]) -> np.ndarray:
    """Logits after the last of `ids`, (vocabulary,)."""
    model.eval()
    hidden, _ = model(torch.tensor([list(ids)]))
    return model.logits(hidden[0, -1]).numpy()


def check_gguf(
    path: Path, model: Llama, tokenizer: Tokenizer, texts: Sequence[str], prompts: Sequence[list[int]]
) -> dict[str, float]:
    """Compare tokens on `texts` and logits on `prompts`; raises where tokens differ or logits are far apart."""
    other = GgufModel(path)
    for text in texts:
        if other.tokenize(text, parse_special=False) != text_ids(tokenizer, text):
            raise RuntimeError(f"llama.cpp tokenizes {text!r} differently")
    apart, agree = [], 0
    for ids in prompts:
        ours, theirs = torch_logits(model, ids), other.logits(ids)
        apart.append(float(np.abs(ours - theirs).max()))
        agree += int(ours.argmax() == theirs.argmax())
    other.close()
    if max(apart) > 1.0:
        raise RuntimeError(f"logits of {path} are {max(apart):.2f} away from the trained model's")
    return {
        "texts_tokenized_alike": len(texts),
        "logits_largest_difference": max(apart),
        "logits_mean_largest_difference": sum(apart) / len(apart),
        "same_first_token": agree / len(prompts),
    }


def check_hub_folder(
    folder: Path, model: Llama, tokenizer: Tokenizer, texts: Sequence[str], prompts: Sequence[list[int]]
) -> dict[str, float]:
    """Load `folder` with mlx-lm and compare tokens and logits; raises where they differ."""
    import mlx.core as mx
    from mlx_lm import load

    loaded, wrapper = load(str(folder))
    loaded.set_dtype(mx.float32)
    for text in texts:
        if any(special in text for special in SPECIALS):
            continue
        if wrapper.encode(text, add_special_tokens=False) != text_ids(tokenizer, text):
            raise RuntimeError(f"mlx-lm tokenizes {text!r} differently")
    apart = []
    for ids in prompts:
        theirs = np.array(loaded(mx.array([ids]))[0, -1].astype(mx.float32))
        apart.append(float(np.abs(torch_logits(model, ids) - theirs).max()))
    if max(apart) > 0.1:
        raise RuntimeError(f"logits of {folder} are {max(apart):.2f} away from the trained model's")
    chat = wrapper.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
    if chat != "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n":
        raise RuntimeError(f"unexpected chat template: {chat!r}")
    return {"logits_largest_difference": max(apart)}
