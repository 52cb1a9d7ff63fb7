"""The byte-level BPE tokenizer that teacher and student share, and its Hugging Face files.

Pre-tokenisation is GPT-2's own, because llama.cpp implements exactly that under `tokenizer.ggml.pre = "gpt-2"`.
The chat template is ChatML without a default system turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIALS = (END_OF_TEXT, TURN_START, TURN_END)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Train on `texts`; the three specials take ids 0 to 2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.encode_special_tokens = False
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": END_OF_TEXT, "eos_token": TURN_END, "pad_token": END_OF_TEXT}
    settings = names | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "add_eos_token": False,
        "additional_special_tokens": [TURN_START],
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(names, indent=2) + "\n", encoding="utf-8")


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a text; what looks like a special token stays text (llama.cpp: `parse_special=false`)."""
    tokenizer.encode_special_tokens = True
    return list(tokenizer.encode(text).ids)


def template_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a part of the chat template, special tokens parsed."""
    tokenizer.encode_special_tokens = False
    return list(tokenizer.encode(text).ids)


def chat_ids(tokenizer: Tokenizer, user: str, assistant: str) -> list[int]:
    """Ids of a user's turn and the assistant's, both closed."""
    return [
        *template_ids(tokenizer, f"{TURN_START}user\n"),
        *text_ids(tokenizer, user),
        *template_ids(tokenizer, f"{TURN_END}\n{TURN_START}assistant\n"),
        *text_ids(tokenizer, assistant),
        *template_ids(tokenizer, f"{TURN_END}\n"),
    ]
