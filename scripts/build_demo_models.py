"""Makes the models and rows embedded in `mlxdistill demo`, from public data and the cores in `demo_cores/`.

    python scripts/build_demo_models.py --data ../shared/data --cache /tmp/demo-models

Needs the extra `models` (torch). Stages: rows, tokenizer, teacher pretraining, teacher teaching, student pretraining,
files, checks, scores. Trained weights are kept in `--cache` under a name made of all that went into them, so that a
change of a later stage does not repeat the earlier ones. The last line on stdout is a JSON object with what was
measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from demo_models import bpe, checks, files, scores, teaching
from demo_models.corpus import Corpus, read_corpus
from demo_models.llama import Llama, LlamaShape, parameter_count
from demo_models.pretraining import LanguageSettings, pretrain
from demo_rows import (
    CORES_FOLDER,
    Core,
    CoreSplit,
    Row,
    demo_sets,
    prompt_parts,
    split_cores,
    vary,
    write_rows,
)
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
THREADS = 2


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how the models come out."""

    seed: int = 0
    vocabulary: int = 4096
    comments: int = 5000
    bookings: int = 2000
    teacher: LlamaShape = LlamaShape(hidden=320, layers=8, heads=5, feed_forward=864)
    student: LlamaShape = LlamaShape(hidden=160, layers=6, heads=5, feed_forward=448)
    teacher_language: LanguageSettings = LanguageSettings(passes=1.0, embedding_rate=1e-2)
    student_language: LanguageSettings = LanguageSettings(passes=2.0, embedding_rate=1.2e-2)
    teaching: teaching.TeachingSettings = teaching.TeachingSettings()
    teaching_dropout: float = 0.15
    variants: int = 9
    held_out_every: int = 8

    def tiny(self) -> Recipe:
        """The same stages in about a minute, to try the script out."""
        return replace(
            self,
            comments=200,
            bookings=100,
            teacher=LlamaShape(hidden=64, layers=2, heads=2, feed_forward=96),
            student=LlamaShape(hidden=32, layers=2, heads=2, feed_forward=64),
            teacher_language=replace(self.teacher_language, passes=0.02),
            student_language=replace(self.student_language, passes=0.02),
            teaching=replace(self.teaching, steps=8),
            variants=2,
        )


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Stages:
    """Runs stages and remembers what each cost; a stage that makes weights may come out of the cache."""

    def __init__(self, cache: Path, seed: int) -> None:
        self.cache, self.seed = cache, seed
        self.costs: dict[str, dict[str, float]] = {}
        cache.mkdir(parents=True, exist_ok=True)

    def weights(self, name: str, model: Llama, inputs: object, train: Callable[[], object]) -> None:
        """Load the weights that `inputs` lead to into `model`, or make them by `train` and keep them."""
        key = hashlib.sha256(json.dumps([name, inputs], sort_keys=True, default=str).encode()).hexdigest()[:16]
        path = self.cache / f"{name}-{key}.pt"
        if path.exists():
            note(f"{name}: from {path}")
            kept = torch.load(path, weights_only=True)
            model.load_state_dict(kept["weights"])
            self.costs[name] = kept["cost"]
            return
        note(name)
        wall, cpu = time.monotonic(), time.process_time()
        _seed(self.seed)
        train()
        self.costs[name] = {"seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}
        torch.save({"weights": model.state_dict(), "cost": self.costs[name]}, path)


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)


def make_tokenizer(corpus: Corpus, split: CoreSplit, recipe: Recipe) -> Tokenizer:
    """Train the tokenizer on the corpus and on messages of the teacher's cores, never on the demo's rows."""
    rng = random.Random(recipe.seed)
    texts = [utterance.text for utterance in corpus.banking + corpus.clinc] + list(corpus.plain)
    texts += [vary(core, rng) for core in split.teacher for _ in range(6)]
    before, after = prompt_parts()
    texts += [before + after] * 20 + ["report", "other", "user", "assistant"] * 50
    return bpe.train_tokenizer(texts, recipe.vocabulary)


def language_documents(corpus: Corpus, tokenizer: Tokenizer) -> list[list[int]]:
    """Plain text, and utterances as a user's turn that the assistant answers with the intent; banking comes twice."""
    plain = [bpe.text_ids(tokenizer, text) for text in corpus.plain]
    utterances = corpus.banking * 2 + corpus.clinc
    return plain + [bpe.chat_ids(tokenizer, utterance.text, utterance.intent) for utterance in utterances]


def hold_out(cores: tuple[Core, ...], every: int) -> tuple[list[Core], list[Core]]:
    """Cores to teach and cores kept back to see what was learnt."""
    return [c for i, c in enumerate(cores) if i % every], [c for i, c in enumerate(cores) if i % every == 0]


def pretrain_teacher(model: Llama, corpus: Corpus, tokenizer: Tokenizer, recipe: Recipe) -> None:
    end = tokenizer.token_to_id(bpe.END_OF_TEXT)
    pretrain(model, language_documents(corpus, tokenizer), end, recipe.teacher_language, note)


def pretrain_student(model: Llama, corpus: Corpus, tokenizer: Tokenizer, recipe: Recipe) -> None:
    end = tokenizer.token_to_id(bpe.END_OF_TEXT)
    pretrain(model, language_documents(corpus, tokenizer), end, recipe.student_language, note)


def teach_teacher(model: Llama, cores: list[Core], corpus: Corpus, tokenizer: Tokenizer, recipe: Recipe) -> None:
    examples = teaching.core_examples(cores, recipe.variants, tokenizer, recipe.seed)
    intents = teaching.intent_examples(corpus, tokenizer)
    prompt = teaching.Prompt.of(tokenizer)
    teaching.teach(model, examples, intents, prompt, recipe.teaching, note)


def check_files(
    teacher: Llama, student: Llama, tokenizer: Tokenizer, texts: list[str], gguf_path: Path, student_folder: Path
) -> dict[str, object]:
    """Tokens on 2,000 messy strings and logits on 50 prompts, in llama.cpp and in mlx-lm."""
    messy = checks.messy_strings(texts, 2000, seed=1)
    asked, short = teaching.Prompt.of(tokenizer), scores.student_prompt(tokenizer)
    ids = [bpe.text_ids(tokenizer, text) for text in texts[:50]]
    return {
        "llama.cpp": checks.check_gguf(
            gguf_path, teacher, tokenizer, messy, [asked.head + i + asked.tail for i in ids]
        ),
        "mlx_lm": checks.check_hub_folder(
            student_folder, student, tokenizer, messy, [short.head + i + short.tail for i in ids]
        ),
    }


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def build(recipe: Recipe, data: Path, models: Path, rows_folder: Path, cache: Path) -> dict[str, object]:
    """Run every stage; returns what was measured."""
    _seed(recipe.seed)
    stages = Stages(cache, recipe.seed)
    split = split_cores(CORES_FOLDER, recipe.seed)
    corpus = read_corpus(data, recipe.seed, recipe.comments, recipe.bookings)
    tokenizer = make_tokenizer(corpus, split, recipe)
    taught, kept_back = hold_out(split.teacher, recipe.held_out_every)
    taught += split.teacher_more
    sets: dict[str, list[Row]] = demo_sets(split, recipe.seed)
    for name, rows in sets.items():
        write_rows(rows_folder / f"{name}.jsonl", rows)
    words = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
    language = [words, recipe.comments, recipe.bookings, recipe.seed]

    teacher = Llama(recipe.teacher)
    teacher_inputs = [*language, asdict(recipe.teacher), asdict(recipe.teacher_language)]
    stages.weights(
        "teacher_pretraining", teacher, teacher_inputs, lambda: pretrain_teacher(teacher, corpus, tokenizer, recipe)
    )
    _seed(recipe.seed)
    student = Llama(recipe.student)
    student_inputs = [*language, asdict(recipe.student), asdict(recipe.student_language)]
    stages.weights(
        "student_pretraining", student, student_inputs, lambda: pretrain_student(student, corpus, tokenizer, recipe)
    )
    teacher.dropout.p = recipe.teaching_dropout
    teaching_inputs = [*teacher_inputs, asdict(recipe.teaching), recipe.teaching_dropout, recipe.variants]
    teaching_inputs += [[core.text for core in taught]]
    stages.weights(
        "teacher_teaching", teacher, teaching_inputs, lambda: teach_teacher(teacher, taught, corpus, tokenizer, recipe)
    )

    gguf_path, student_folder = models / "teacher" / "demo-teacher-q8_0.gguf", models / "student"
    files.write_gguf(teacher, tokenizer, gguf_path, "mlxdistill demo teacher")
    files.write_hub_folder(student, tokenizer, student_folder)
    rng = random.Random(recipe.seed)
    held = [core for core in kept_back for _ in range(2)]
    held_texts = [vary(core, rng) for core in held]
    return {
        "parameters": {"teacher": parameter_count(teacher), "student": parameter_count(student)},
        "bytes": {
            "teacher": gguf_path.stat().st_size,
            "student": _folder_bytes(student_folder),
            "all": _folder_bytes(models),
        },
        "rows": {name: len(rows) for name, rows in sets.items()},
        "checks": check_files(teacher, student, tokenizer, list(corpus.plain), gguf_path, student_folder),
        "teacher_on_held_out_cores": scores.held_out_scores(teacher, tokenizer, held, held_texts),
        "demo_sets": scores.demo_scores(teacher, student, tokenizer, sets),
        "stages": stages.costs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with jigsaw/, banking77/, clinc150/, …")
    parser.add_argument("--cache", type=Path, required=True, help="folder outside the checkout for trained weights")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--rows", type=Path, default=ROOT / "mlxdistill" / "demo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="a minute's run that makes useless models")
    arguments = parser.parse_args()
    recipe = replace(Recipe(), seed=arguments.seed)
    wall, cpu = time.monotonic(), time.process_time()
    measured = build(
        recipe.tiny() if arguments.tiny else recipe, arguments.data, arguments.models, arguments.rows, arguments.cache
    )
    measured["seconds"] = round(time.monotonic() - wall, 1)
    measured["cpu_seconds"] = round(time.process_time() - cpu, 1)
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
