"""Tiny random students: real mlx-lm models, a real byte-level BPE tokenizer, ChatML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlxdistill.config.models import LoraConfig, TrainConfig
from mlxdistill.student.child import prepare, train
from mlxdistill.student.requests import TrainRequest, TrainResult
from mlxdistill.tasks.classification import Prompt

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CORPUS = [
    "user assistant system Is this a complaint? Answer with one of: ok, bad, badly, not sure.",
    "the parcel never came and nobody answers the phone, I want my money back",
    "thank you very much, everything arrived in time and works well",
    "how do I change the address of my account? please tell me where to click",
    "bad badly ok not sure toxic",
]
VOCABULARY = 400
# Transformers' own defaults for some architectures lie outside so small a vocabulary.
SPECIAL_IDS = {"bos_token_id": 0, "pad_token_id": 0, "eos_token_id": 2}

SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16},
    "qwen3": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "head_dim": 16,
        "tie_word_embeddings": False,
        "max_position_embeddings": 512,
        "rope_theta": 10000.0,
    },
    "qwen2": {"hidden_size": 64, "intermediate_size": 96},
    "mistral": {"hidden_size": 64, "intermediate_size": 96, "tie_word_embeddings": False},
    "smollm3": {"hidden_size": 64, "intermediate_size": 96, "no_rope_layer_interval": 2, **SPECIAL_IDS},
    "phi3": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "tie_word_embeddings": False,
        "partial_rotary_factor": 0.5,
        **SPECIAL_IDS,
    },
    "gemma2": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "head_dim": 16,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma3_text": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 12,
        "sliding_window_pattern": 2,
    },
    "granite": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "logits_scaling": 4.0,
        "attention_multiplier": 0.25,
        "embedding_multiplier": 2.0,
        "residual_multiplier": 0.5,
        "max_position_embeddings": 512,
        "attention_bias": False,
        "mlp_bias": False,
        "rope_theta": 10000.0,
    },
}


def make_tokenizer(folder: Path, template: str | None = CHATML) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 8,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def make_model(folder: Path, kind: str = "llama", template: str | None = CHATML, layers: int = 2) -> Path:
    import importlib

    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import MODEL_REMAPPING

    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": kind,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": True,
        **SHAPES[kind],
    }
    architecture = importlib.import_module(f"mlx_lm.models.{MODEL_REMAPPING.get(kind, kind)}")
    mx.random.seed(7)
    model = architecture.Model(architecture.ModelArgs.from_dict(config))
    weights = {name: mx.random.normal(value.shape) * 0.08 for name, value in tree_flatten(model.parameters())}
    weights |= {name: mx.ones(value.shape) for name, value in weights.items() if name.endswith("norm.weight")}
    if config["tie_word_embeddings"]:
        weights.pop("lm_head.weight", None)  # Gemma 3 has its head tied where the file holds none
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    make_tokenizer(folder, template)
    return folder


PROMPT = Prompt("Is this a complaint?\n", "")
LABELS = (("ok", "ok"), ("bad", "bad"), ("worse", "badly"), ("unsure", "not sure"))


def write_rows(path: Path, count: int, *, probabilities: bool = True, seed: int = 0) -> None:
    """Rows in the form of the student's data folder."""
    import random

    chance = random.Random(seed)
    words = " ".join(CORPUS).split()
    lines = []
    for number in range(count):
        label = chance.randrange(len(LABELS))
        text = " ".join(chance.choices(words, k=chance.randint(1, 30)))
        spread = [chance.random() + 3 * (index == label) for index in range(len(LABELS))]
        row = {
            "messages": [
                {"role": "user", "content": f"Is this a complaint?\n{text}"},
                {"role": "assistant", "content": LABELS[label][1]},
            ],
            "id": f"row{number}",
            "label": LABELS[label][0],
            "probabilities": [value / sum(spread) for value in spread] if probabilities else None,
        }
        lines.append(json.dumps(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Reporter:
    """Stands in for the channel to the parent."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.step = 0
        self.notes: list[str] = []
        self.sent: list[Any] = []

    @property
    def stop_requested(self) -> bool:
        return self.stop_at is not None and self.step >= self.stop_at

    def advance(self, done: int, total: int, **figures: float) -> None:
        self.step = done

    def note(self, message: str) -> None:
        self.notes.append(message)

    def send(self, payload: Any) -> None:
        self.sent.append(payload)


def train_request(model: Path, folder: Path, **changes: Any) -> TrainRequest:
    """A training on `folder/data`; `changes` go to the request, or by name to its `lora` and `train` settings."""
    settings = {
        "lora": LoraConfig(**{"rank": 4, "scale": 8.0, **changes.pop("lora", {})}),
        "train": TrainConfig(**{"learning_rate": 1e-3, "batch_size": 8, "epochs": 2, **changes.pop("train", {})}),
        "labels": LABELS,
        "prompt": PROMPT,
        **changes,
    }
    paths = {"data": folder / "data", "output": folder / "adapters", "checkpoints": folder / "checkpoints"}
    return TrainRequest(**{"model": str(model), "quantize": None, "max_tokens": 128, **paths, **settings})


def train_here(request: TrainRequest, reporter: Reporter | None = None) -> tuple[TrainResult, Reporter]:
    """Trains in this process."""
    reporter = reporter or Reporter()
    base, shape, training, truncated = prepare(request, reporter)
    return train(request, base, shape, training, truncated), reporter
