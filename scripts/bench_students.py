"""Random Llamas in mlx-lm's format, and the rows that student benchmarks run on.

Weights do not matter to speed, tokens a word do: the vocabulary is byte-level BPE over the comments' own language. The
rows are comments that GPT-4 has judged (Predibase's LLM Distillation Playbook), in the playbook's own prompt.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxdistill.tasks.classification import Prompt

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MOST_CHARACTERS = 1200
CONTEXT = 2048
PROMPT = Prompt(
    "Given the input text below, please classify whether it is toxic. Provide your classification in a JSON format "
    "with the key 'is_bad'. If the comment is indeed toxic, set is_bad=1, otherwise set is_bad=0.\n\nInput text: '",
    "'\n\nOutput:",
)
LABELS = (("ok", "0"), ("toxic", "1"))  # names and verbalizers: one token each, the shortest there are


@dataclass(frozen=True)
class Shape:
    """Of a Llama whose embedding is its head too."""

    width: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int


SIZES = {
    "7m": Shape(width=256, layers=6, heads=4, feed_forward=688, vocabulary=8_192),
    "23m": Shape(width=384, layers=6, heads=6, feed_forward=1024, vocabulary=32_000),
}


@dataclass(frozen=True)
class BenchRow:
    """A comment, cut at `MOST_CHARACTERS`, and its label by gold."""

    id: str
    text: str
    label: str


def jigsaw_rows(data: Path, count: int, *, skip: int = 0) -> list[BenchRow]:
    """The `count` comments after the first `skip` in `jigsaw/train.5k.gpt4_log.jsonl` of the folder `data`."""
    records = itertools.islice(_records(data / "jigsaw" / "train.5k.gpt4_log.jsonl"), skip, skip + count)
    rows = [
        BenchRow(record["id"], record["text"][:MOST_CHARACTERS], "toxic" if record["gold"] else "ok")
        for record in records
    ]
    if len(rows) < count:
        raise SystemExit(f"there are no {count} rows after the first {skip} in {data / 'jigsaw'}")
    return rows


def jigsaw_prompts(data: Path, count: int, *, skip: int = 0) -> list[str]:
    """The user's messages of `jigsaw_rows`."""
    return [PROMPT.content(row.text) for row in jigsaw_rows(data, count, skip=skip)]


def write_rows(path: Path, rows: list[BenchRow]) -> None:
    """The rows as mlx-lm's trainer and ours read them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            question = {"role": "user", "content": PROMPT.content(row.text)}
            answer = {"role": "assistant", "content": dict(LABELS)[row.label]}
            file.write(json.dumps({"messages": [question, answer], "id": row.id, "label": row.label}) + "\n")


def make_student(cache: Path, size: str, data: Path, seed: int = 0) -> Path:
    """The folder, inside `cache`, of the random Llama called `size` in `SIZES`; made where it is not there yet."""
    folder = cache / f"student-{size}-{seed}"
    if (folder / "config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    shape = SIZES[size]
    _write_tokenizer(folder, data, shape.vocabulary)
    _write_weights(folder, shape, seed)
    (folder / "config.json").write_text(json.dumps(_config(shape), indent=1), encoding="utf-8")
    return folder


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "eos_token_id": SPECIAL.index("<|im_end|>"),
        "torch_dtype": "float32",
    }


def _write_tokenizer(folder: Path, data: Path, vocabulary: int) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    comments = (record["text"] for record in _records(data / "jigsaw" / "comments_20k.jsonl"))
    prompt = PROMPT.content(" ".join(verbalizer for _, verbalizer in LABELS))
    tokenizer.train_from_iterator(itertools.chain(comments, itertools.repeat(prompt, 1000)), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": CONTEXT,
        "chat_template": CHATML,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def _write_weights(folder: Path, shape: Shape, seed: int) -> None:
    from safetensors.numpy import save_file

    random = np.random.default_rng(seed)
    weights = {
        name: np.ones(size, np.float32) if len(size) == 1 else random.standard_normal(size, np.float32) * 0.02
        for name, size in _tensors(shape).items()
    }
    save_file({name: value.astype(np.float32) for name, value in weights.items()}, folder / "model.safetensors")


def _tensors(shape: Shape) -> dict[str, tuple[int, ...]]:
    width, feed_forward = shape.width, shape.feed_forward
    tensors: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (shape.vocabulary, width),
        "model.norm.weight": (width,),
    }
    for layer in range(shape.layers):
        block = f"model.layers.{layer}."
        tensors |= {f"{block}{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
        tensors |= {f"{block}self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        tensors |= {f"{block}mlp.{name}_proj.weight": (feed_forward, width) for name in ("gate", "up")}
        tensors |= {f"{block}mlp.down_proj.weight": (width, feed_forward)}
    return tensors


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    except FileNotFoundError:
        raise SystemExit(f"there is no {path}; give the folder that holds jigsaw/ with --data") from None
