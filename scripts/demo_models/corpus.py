"""The English that the demo models are pretrained on, read from the public data sets in the folder `--data`.

Nothing of it is written into the project: only weights are. Comments marked toxic are left out. Intents of banking77
and clinc150 become the assistant's turn, so that the chat markers have a meaning before any task is taught.
"""

from __future__ import annotations

import csv
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

COMMENT_CHARACTERS = 400


@dataclass(frozen=True)
class Utterance:
    """A sentence of a user and the intent its data set gives it, in words."""

    text: str
    intent: str


@dataclass(frozen=True)
class Corpus:
    """Running English (`plain`) and short utterances with intents (`banking`, `clinc`)."""

    plain: tuple[str, ...]
    banking: tuple[Utterance, ...]
    clinc: tuple[Utterance, ...]


def _words(identifier: str) -> str:
    return re.sub(r"[_\s]+", " ", identifier).strip(" ?").lower()


def _unique(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))


def _banking(folder: Path) -> list[Utterance]:
    rows = []
    for name in ("train.csv", "test.csv"):
        with (folder / name).open(encoding="utf-8", newline="") as lines:
            rows += [Utterance(row["text"].strip(), _words(row["category"])) for row in csv.DictReader(lines)]
    return list(dict.fromkeys(rows))


def _clinc(path: Path) -> list[Utterance]:
    parts = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        Utterance(text, _words(intent)) for part in sorted(parts) for text, intent in parts[part] if intent != "oos"
    ]
    return list(dict.fromkeys(rows))


def _comments(path: Path, rng: random.Random) -> list[str]:
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = []
    for row in rows:
        text = re.sub(r"\s+", " ", row["text"])
        if row["toxic"] or len(text) < 30:
            continue
        if len(text) > COMMENT_CHARACTERS:
            text = text[:COMMENT_CHARACTERS].rsplit(". ", 1)[0]
        texts.append(text)
    texts = _unique(texts)
    rng.shuffle(texts)
    return texts


def _bookings(folder: Path, rng: random.Random, rows: int) -> list[str]:
    texts = []
    for name in ("train_0.json", "test.json"):
        turns = json.loads((folder / name).read_text(encoding="utf-8"))
        texts += [turn["userInput"]["text"] for turn in turns]
    texts = [text for text in _unique(texts) if len(text) > 25]
    rng.shuffle(texts)
    return texts[:rows]


def _personal(folder: Path) -> list[str]:
    texts = []
    for name in ("generated_large.json", "synth_dataset_v2.json"):
        rows = json.loads((folder / name).read_text(encoding="utf-8"))
        texts += [row["full_text"] for row in rows if len(row["full_text"]) < COMMENT_CHARACTERS]
    return _unique(texts)


def read_corpus(data: Path, seed: int, comments: int, bookings: int) -> Corpus:
    """Read the data sets below `data`; `comments` and `bookings` cap the two large ones (rows)."""
    rng = random.Random(seed)
    plain = _comments(data / "jigsaw" / "comments_20k.jsonl", rng)[:comments]
    plain += _bookings(data / "restaurant8k", rng, bookings)
    plain += _personal(data / "presidio_research")
    return Corpus(
        tuple(plain), tuple(_banking(data / "banking77")), tuple(_clinc(data / "clinc150" / "data_full.json"))
    )
