"""Teaching the demo teacher its task: the label as the answer to the product's own prompt.

The part of the prompt before the text is the same in every row, so a step computes it once and lets all rows attend to
it. Besides the hand-written cores, some intents of banking77 and clinc150 that mean the same are shown, so that the
model meets more ways of saying things than the cores hold.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from demo_rows import LABELS, Core, prompt_parts, vary
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from .bpe import TURN_END, TURN_START, template_ids, text_ids
from .corpus import Corpus
from .llama import Llama
from .pretraining import Note, Optimisers

REPORT_INTENTS = frozenset({
    "compromised card", "card payment not recognised", "cash withdrawal not recognised",
    "direct debit payment not recognised", "report fraud",
})  # fmt: skip
UNCLEAR_INTENTS = frozenset({
    "lost or stolen card", "lost or stolen phone", "report lost card", "card swallowed", "freeze account",
    "extra charge on statement", "account blocked", "cancel transfer", "find phone",
})  # fmt: skip


@dataclass(frozen=True)
class TeachingSettings:
    """Settings of the teaching stage; a step sees `rows` messages, `intent_share` of them from the data sets."""

    steps: int = 360
    rows: int = 40
    intent_share: float = 0.35
    smoothing: float = 0.05
    text_weight: float = 0.1
    token_noise: float = 0.08
    matrix_rate: float = 0.007
    embedding_rate: float = 1.4e-3
    weight_decay: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Prompt:
    """Token ids around a message, and of each label as an answer."""

    head: list[int]
    tail: list[int]
    answers: dict[str, list[int]]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Prompt:
        before, after = prompt_parts()
        end = template_ids(tokenizer, TURN_END)
        return cls(
            head=template_ids(tokenizer, f"{TURN_START}user\n{before}"),
            tail=template_ids(tokenizer, f"{after}{TURN_END}\n{TURN_START}assistant\n"),
            answers={label: text_ids(tokenizer, label) + end for label in LABELS},
        )


@dataclass(frozen=True)
class Example:
    """A message as token ids, with its label."""

    text: list[int]
    label: str


def core_examples(cores: Sequence[Core], variants: int, tokenizer: Tokenizer, seed: int) -> list[Example]:
    """`variants` messages of each core."""
    rng = random.Random(f"{seed}-teaching")
    return [Example(text_ids(tokenizer, vary(core, rng)), core.label) for core in cores for _ in range(variants)]


def intent_examples(corpus: Corpus, tokenizer: Tokenizer) -> list[Example]:
    """Utterances whose intent settles the label; unclear ones are left out."""
    found = []
    for utterance in corpus.banking + corpus.clinc:
        if utterance.intent not in UNCLEAR_INTENTS:
            label = "report" if utterance.intent in REPORT_INTENTS else "other"
            found.append(Example(text_ids(tokenizer, utterance.text), label))
    return found


class Draw:
    """Endless examples with equally many of each label, each shown once before any is shown again."""

    def __init__(self, examples: Sequence[Example], seed: str) -> None:
        self.rng = random.Random(seed)
        self.all = {label: [e for e in examples if e.label == label] for label in LABELS}
        self.left: dict[str, list[Example]] = {label: [] for label in LABELS}

    def take(self, count: int) -> list[Example]:
        taken = []
        for index in range(count):
            label = list(LABELS)[index % len(LABELS)]
            if not self.left[label]:
                self.left[label] = list(self.all[label])
                self.rng.shuffle(self.left[label])
            taken.append(self.left[label].pop())
        return taken


@dataclass(frozen=True)
class Batch:
    """Right-padded ids (rows, length); targets are -100 where nothing is asked, `wrong_targets` the other label's."""

    ids: Tensor
    answer_targets: Tensor
    wrong_targets: Tensor
    text_targets: Tensor


def make_batch(examples: Sequence[Example], prompt: Prompt, noise: float, vocabulary: int, rng: random.Random) -> Batch:
    """Text, tail and answer of each example; `noise` is the share of input tokens replaced by random ones."""
    rows = [e.text + prompt.tail + prompt.answers[e.label] for e in examples]
    length = max(map(len, rows)) - 1
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    answers = torch.full((len(rows), length), -100)
    wrong = torch.full((len(rows), length), -100)
    texts = torch.full((len(rows), length), -100)
    for index, (example, row) in enumerate(zip(examples, rows, strict=True)):
        size, answer = len(example.text), len(prompt.answers[example.label])
        seen = [rng.randrange(3, vocabulary) if rng.random() < noise else token for token in example.text]
        ids[index, : len(row) - 1] = torch.tensor((seen + row[size:])[:-1])
        answers[index, len(row) - 1 - answer : len(row) - 1] = torch.tensor(row[-answer:])
        other = next(ids for label, ids in prompt.answers.items() if label != example.label)
        wrong[index, len(row) - 1 - answer] = other[0]
        texts[index, : size - 1] = torch.tensor(row[1:size])
    return Batch(ids, answers, wrong, texts)


def _steps_of_examples(draws: list[tuple[Draw, int]], steps: int, rng: random.Random) -> list[list[Example]]:
    """Examples of each step; within eight steps rows are sorted by length, so that little is padding."""
    batches: list[list[Example]] = []
    while len(batches) < steps:
        rows = [e for draw, count in draws for e in draw.take(count * 8)]
        rows.sort(key=lambda e: len(e.text))
        size = len(rows) // 8
        chunk = [rows[i * size : (i + 1) * size] for i in range(8)]
        rng.shuffle(chunk)
        batches += chunk
    return batches[:steps]


def teaching_loss(model: Llama, batch: Batch, head: Tensor, settings: TeachingSettings) -> Tensor:
    """Smoothed cross-entropy of the answer plus `text_weight` times that of the message's own tokens."""
    with torch.autocast("cpu", torch.bfloat16):
        _, prefix = model(head)
        hidden, _ = model(batch.ids, prefix)
        asked = batch.answer_targets >= 0
        logits = model.logits(hidden[asked]).float()
        right = F.cross_entropy(logits, batch.answer_targets[asked])
        wrong = F.cross_entropy(logits, batch.wrong_targets[asked], ignore_index=-100)
        answer = (1 - settings.smoothing) * right + settings.smoothing * wrong
        if not settings.text_weight:
            return answer
        written = batch.text_targets >= 0
        text = F.cross_entropy(model.logits(hidden[written]).float(), batch.text_targets[written])
    return answer + settings.text_weight * text


def teach(
    model: Llama,
    cores: Sequence[Example],
    intents: Sequence[Example],
    prompt: Prompt,
    settings: TeachingSettings,
    note: Note,
    check: Callable[[], str] | None = None,
) -> None:
    """Train `model` in place."""
    rng = random.Random(f"{settings.seed}-steps")
    of_intents = round(settings.rows * settings.intent_share)
    draws = [
        (Draw(cores, f"{settings.seed}-c"), settings.rows - of_intents),
        (Draw(intents, f"{settings.seed}-i"), of_intents),
    ]
    batches = _steps_of_examples([d for d in draws if d[1]], settings.steps, rng)
    optimisers = Optimisers(
        model, settings.steps, settings.matrix_rate, settings.embedding_rate, settings.weight_decay, warmup=0.05
    )
    head = torch.tensor([prompt.head])
    losses, started = [], time.monotonic()
    for step, examples in enumerate(batches, start=1):
        model.train()
        batch = make_batch(examples, prompt, settings.token_noise, model.shape.vocabulary, rng)
        loss = teaching_loss(model, batch, head, settings)
        loss.backward()
        optimisers.step()
        losses.append(loss.item())
        if step % 40 == 0 or step == settings.steps:
            said = check() if check else ""
            seconds = time.monotonic() - started
            note(f"step {step}/{settings.steps} loss {sum(losses[-40:]) / 40:.3f} {seconds:.0f} s {said}")


@torch.no_grad()
def label_probabilities(model: Llama, texts: Sequence[list[int]], prompt: Prompt, rows: int = 32) -> Tensor:
    """Probability of each label, (texts, labels) in float64, normalised over the labels; order of `LABELS`."""
    model.eval()
    _, prefix = model(torch.tensor([prompt.head]))
    scores = torch.zeros(len(texts), len(prompt.answers), dtype=torch.float64)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for column, answer in enumerate(prompt.answers.values()):
        for start in range(0, len(order), rows):
            chosen = order[start : start + rows]
            sequences = [texts[i] + prompt.tail + answer for i in chosen]
            ids = torch.zeros(len(chosen), max(map(len, sequences)), dtype=torch.long)
            for row, sequence in enumerate(sequences):
                ids[row, : len(sequence)] = torch.tensor(sequence)
            hidden, _ = model(ids, prefix)
            for row, (index, sequence) in enumerate(zip(chosen, sequences, strict=True)):
                places = torch.arange(len(sequence) - len(answer) - 1, len(sequence) - 2)
                logits = model.logits(hidden[row, places]).double()
                picked = logits.log_softmax(-1)[torch.arange(len(places)), torch.tensor(answer[:-1])]
                scores[index, column] = picked.sum()
    return scores.softmax(-1)
