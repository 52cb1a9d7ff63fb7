"""How fast the teacher labels: against llama.cpp's own prefill, and against the bindings' one row at a time.

    python scripts/bench_label.py --data ../shared/data [--model FILE.gguf] [--rounds 5] [--only NAME ...]

Builds a random-weight Llama of 110M parameters (Q8_0, vocabulary 32k; and one of vocabulary 152k), or takes a GGUF of
one's own. Each round runs every contender once, in turn, so that a shared machine's moods hit all alike; a ratio is of
one round, and its median and spread are over rounds. Prints one JSON object; what it is doing goes to stderr.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_model import Shape, write_random_model

from mlxdistill.config.models import TeacherConfig
from mlxdistill.platform.cores import usable_cores
from mlxdistill.store import LabelStore
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.forms import AnswerForm
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row
from mlxdistill.teacher.engine import Engine, EngineSettings, Model, Token
from mlxdistill.teacher.generation import Generator, Writing
from mlxdistill.teacher.label import label_rows
from mlxdistill.teacher.labeller import LlamaLabeller, asked_turn
from mlxdistill.teacher.lanes import Limits
from mlxdistill.teacher.prompts import LabelPrompt
from mlxdistill.teacher.tuning import Choices, tune

ROWS = 200
RIVAL_ROWS = 24  # a round; one row at a time is slow
PREFILL_TOKENS = 512
WRITTEN_TOKENS = 48
MANY_ROWS = 1_500_000
INSTRUCTION = "Decide whether the customer's message is about a card."
YES_NO = (Label("yes", "it is about a card", "yes"), Label("no", "it is about something else", "no"))


class Quiet:
    """Progress that nobody sees."""

    def advance(self, done: int, total: int, **figures: float) -> None:
        pass

    def note(self, message: str) -> None:
        print(message, file=sys.stderr)


@dataclass(frozen=True)
class Setting:
    """What every part of the benchmark is given."""

    data: Path
    small: Path
    large: Path
    threads: int
    rounds: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with banking77/ and jigsaw/")
    parser.add_argument("--model", type=Path, help="a GGUF of one's own instead of the random ones")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = arguments.model or random_model(Path(folder), arguments.data, Shape())
        large = arguments.model
        if large is None and "large_vocabulary" in arguments.only:
            large = random_model(Path(folder), arguments.data, Shape(vocabulary=151_936))
        setting = Setting(arguments.data, small, large, arguments.threads, arguments.rounds)
        results = {name: PARTS[name](setting) for name in arguments.only}
    print(json.dumps({"threads": arguments.threads, "rounds": arguments.rounds, **results}, indent=1))


def in_turn(setting: Setting, contenders: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Each contender's speed, round by round."""
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(setting.rounds):
        for name, contender in contenders.items():
            print(f"round {number + 1} of {setting.rounds}: {name}", file=sys.stderr)
            speeds[name].append(contender())
    return speeds


def ratios(speeds: dict[str, list[float]], of: str, to: Sequence[str]) -> dict[str, dict[str, float]]:
    return {
        f"{of} / {name}": spread([ours / theirs for ours, theirs in zip(speeds[of], speeds[name], strict=True)])
        for name in to
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    return {
        name: float(f"{value:.4g}")
        for name, value in (("median", statistics.median(values)), ("min", min(values)), ("max", max(values)))
    }


def random_model(folder: Path, data: Path, shape: Shape) -> Path:
    path = folder / f"random-{shape.vocabulary}.gguf"
    print(f"writing {path.name}", file=sys.stderr)
    with (data / "jigsaw" / "comments_20k.jsonl").open(encoding="utf-8") as lines:
        comments = [json.loads(line)["text"] for line in lines]
    write_random_model(path, shape, comments + [row.text for row in banking(data, 10_000)])
    return path


def banking(data: Path, count: int = ROWS) -> list[Row]:
    with (data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        texts = [record["text"] for record in csv.DictReader(file)]
    step = max(1, len(texts) // count)
    return [Row(f"banking {number}", text) for number, text in enumerate(texts[::step][:count])]


def jigsaw(data: Path) -> list[Row]:
    with (data / "jigsaw" / "train.pools.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"][:1200] for line in itertools.islice(lines, ROWS)]
    return [Row(f"jigsaw {number}", text) for number, text in enumerate(texts)]


def intents(data: Path) -> ClassificationTask:
    names = json.loads((data / "banking77" / "categories.json").read_text("utf-8"))
    labels = tuple(Label(name, "", name.replace("_", " ")) for name in names)
    return ClassificationTask("Name the intent of the customer's message.", labels)


def label_prompt(model: Model, task: ClassificationTask, template: str | None = None) -> LabelPrompt:
    before, after = asked_turn(model.info, thinking=False)
    prompt = task.teacher_prompt(template)
    return LabelPrompt(before, prompt.head, prompt.tail, after, task.names, task.verbalizers)


class Prefill:
    """llama.cpp decoding full batches of one sequence and nothing else: tokens a second.

    `heads` is the share of tokens after which logits are asked for, besides the last: each costs a product with the
    whole vocabulary.
    """

    def __init__(self, path: Path, threads: int, heads: float = 0.0) -> None:
        self._model = Model(path)
        wanted = {PREFILL_TOKENS - 1 - int(place / heads) for place in range(int(heads * PREFILL_TOKENS))}
        wanted.add(PREFILL_TOKENS - 1)
        settings = EngineSettings(PREFILL_TOKENS, PREFILL_TOKENS, 1, len(wanted), threads)
        self._engine = Engine(self._model, settings)
        self._tokens = [Token(100 + place, place, (0,), place in wanted) for place in range(PREFILL_TOKENS)]

    def __call__(self) -> float:
        began = time.perf_counter()
        for _ in range(3):
            self._engine.decode(self._tokens, lambda index, logits: None)
            self._engine.forget(0)
        return 3 * PREFILL_TOKENS / (time.perf_counter() - began)


class Scoring:
    """Label scoring, tuned at its opening as the product tunes it. `tokens` and `rows` a second."""

    def __init__(self, path: Path, rows: list[Row], task: ClassificationTask, threads: int) -> None:
        model = Model(path)
        self.path = path
        self._rows = [(row.id, row.text) for row in rows]
        prompts = {0: label_prompt(model, task)}
        self._scorer, tuned = tune(model, prompts, Choices(4096, threads=threads), self._rows, 10**6, Quiet())
        self.inner = self._scorer.inner_tokens
        self.prefix = self._scorer.prefix_tokens
        self.facts = {"limits": dataclasses.asdict(tuned.limits), "chosen because": tuned.reason}
        self.rows = 0.0

    def tokens(self) -> float:
        began = time.perf_counter()
        decoded = sum(wave.tokens for wave in self._scorer.score(self._rows))
        seconds = time.perf_counter() - began
        self.rows = len(self._rows) / seconds
        self.decoded = decoded / len(self._rows)
        return decoded / seconds


class OneByOne:
    """The bindings' `create_completion`, a row at a time, prefix reuse included: rows a second."""

    def __init__(self, path: Path, rows: list[Row], task: ClassificationTask, threads: int, **how: Any) -> None:
        import llama_cpp

        self._how = how
        self._llama = llama_cpp.Llama(
            str(path),
            n_ctx=4096,
            n_batch=512,
            n_threads=threads,
            n_threads_batch=threads,
            logits_all="logprobs" in how,
            verbose=False,
        )
        with Model(path) as model:
            prompt = label_prompt(model, task)
        self._texts = [prompt.before + prompt.head + row.text + prompt.tail + prompt.after for row in rows]

    def __call__(self) -> float:
        began = time.perf_counter()
        for text in self._texts:
            self._llama.create_completion(text, temperature=0.0, **self._how)
        return len(self._texts) / (time.perf_counter() - began)


def grammar(rules: str) -> Any:
    from llama_cpp import LlamaGrammar

    return LlamaGrammar.from_string(rules, verbose=False)


def json_grammar(task: ClassificationTask) -> Any:
    schema = {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": list(task.verbalizers)}},
        "required": ["label"],
    }
    from llama_cpp import LlamaGrammar

    return LlamaGrammar.from_json_schema(json.dumps(schema), verbose=False)


def two_labels(setting: Setting) -> dict[str, Any]:
    """Banking messages, two labels of one token each: against prefill and every way of asking row by row."""
    task = ClassificationTask(INSTRUCTION, YES_NO)
    rows = banking(setting.data)
    ours = Scoring(setting.small, rows, task, setting.threads)
    rival = functools.partial(OneByOne, setting.small, rows[:: ROWS // RIVAL_ROWS], task, setting.threads)
    as_json = rival(grammar=json_grammar(task), max_tokens=16)
    one_word = rival(grammar=grammar('root ::= "yes" | "no"'), max_tokens=4)
    logprobs = rival(logprobs=20, max_tokens=1)
    speeds = in_turn(
        setting,
        {
            "prefill, tokens/s": Prefill(setting.small, setting.threads),
            "scoring, tokens/s": ours.tokens,
            "scoring, rows/s": lambda: ours.rows,
            "JSON grammar, rows/s": as_json,
            "one-word grammar, rows/s": one_word,
            "logprobs, rows/s": logprobs,
        },
    )
    rivals = ("JSON grammar, rows/s", "one-word grammar, rows/s", "logprobs, rows/s")
    return {
        **ratios(speeds, "scoring, tokens/s", ("prefill, tokens/s",)),
        **ratios(speeds, "scoring, rows/s", rivals),
        **about(ours, speeds),
    }


def long_texts(setting: Setting) -> dict[str, Any]:
    """Jigsaw comments, two labels."""
    ours = Scoring(setting.small, jigsaw(setting.data), ClassificationTask(INSTRUCTION, YES_NO), setting.threads)
    speeds = in_turn(
        setting,
        {
            "prefill, tokens/s": Prefill(setting.small, setting.threads),
            "scoring, tokens/s": ours.tokens,
            "scoring, rows/s": lambda: ours.rows,
        },
    )
    return {**ratios(speeds, "scoring, tokens/s", ("prefill, tokens/s",)), **about(ours, speeds)}


def many_labels(setting: Setting) -> dict[str, Any]:
    """Banking messages, all 77 intents as labels: tokens are the rows' and the trie's inner nodes'."""
    task = intents(setting.data)
    rows = banking(setting.data)[::4]
    ours = Scoring(setting.small, rows, task, setting.threads)
    as_json = OneByOne(
        setting.small,
        rows[:: len(rows) * 4 // RIVAL_ROWS],
        task,
        setting.threads,
        grammar=json_grammar(task),
        max_tokens=32,
    )
    heads = (1 + ours.inner) / (ours.tokens() and ours.decoded)
    as_many_heads = "prefill that reads as many logits, tokens/s"
    speeds = in_turn(
        setting,
        {
            "prefill, tokens/s": Prefill(setting.small, setting.threads),
            as_many_heads: Prefill(setting.small, setting.threads, heads),
            "scoring, tokens/s": ours.tokens,
            "scoring, rows/s": lambda: ours.rows,
            "JSON grammar, rows/s": as_json,
        },
    )
    return {
        **ratios(speeds, "scoring, tokens/s", ("prefill, tokens/s", as_many_heads)),
        **ratios(speeds, "scoring, rows/s", ("JSON grammar, rows/s",)),
        **about(ours, speeds),
    }


def large_vocabulary(setting: Setting) -> dict[str, Any]:
    """Two labels at a vocabulary of 151,936, against log-probabilities row by row."""
    task = ClassificationTask(INSTRUCTION, YES_NO)
    rows = banking(setting.data)
    ours = Scoring(setting.large, rows, task, setting.threads)
    rival = OneByOne(setting.large, rows[:: 4 * ROWS // RIVAL_ROWS], task, setting.threads, logprobs=20, max_tokens=1)
    speeds = in_turn(
        setting,
        {"scoring, tokens/s": ours.tokens, "scoring, rows/s": lambda: ours.rows, "logprobs, rows/s": rival},
    )
    return {**ratios(speeds, "scoring, rows/s", ("logprobs, rows/s",)), **about(ours, speeds)}


def about(ours: Scoring, speeds: dict[str, list[float]]) -> dict[str, Any]:
    """The speeds themselves, what sharing the prefix saves, and the floor: a row's arithmetic at the prefill's rate."""
    facts = {
        **ours.facts,
        "tokens decoded a row": round(ours.decoded, 1),
        "tokens a row saved by the shared prefix": ours.prefix,
        **{name: spread(values) for name, values in speeds.items()},
    }
    if "prefill, tokens/s" in speeds:
        costs = Costs(ours.path)
        row = costs.operations(ours.decoded, ours.prefix, 1 + ours.inner)
        batch = costs.operations(PREFILL_TOKENS, 0, 1)
        floors = [row / (batch * speed / PREFILL_TOKENS) for speed in speeds["prefill, tokens/s"]]
        measured = [1 / speed for speed in speeds["scoring, rows/s"]]
        facts["floating-point operations a row, at least"] = float(f"{row:.3g}")
        facts["floor / measured seconds a row"] = spread([a / b for a, b in zip(floors, measured, strict=True)])
    return facts


class Costs:
    """What a model's arithmetic costs, from the shapes in its file."""

    def __init__(self, path: Path) -> None:
        import gguf

        tensors = {tensor.name: tensor.shape for tensor in gguf.GGUFReader(path).tensors}
        self._width, self._vocabulary = (int(size) for size in tensors["token_embd.weight"])
        blocks = {name: shape for name, shape in tensors.items() if name.startswith("blk.") and len(shape) == 2}
        self._parameters = sum(int(rows) * int(columns) for rows, columns in blocks.values())
        self._layers = len({name.split(".")[1] for name in blocks})

    def operations(self, tokens: float, before: int, heads: int) -> float:
        """Floating-point operations of decoding `tokens` after `before` others, with `heads` of them read."""
        attention = 4 * self._width * self._layers * tokens * (before + tokens / 2)
        return 2 * self._parameters * tokens + attention + 2 * self._vocabulary * self._width * heads


class WrittenAtOnce:
    """The product's generation, so many answers at a time: tokens written a second."""

    def __init__(self, path: Path, rows: list[Row], threads: int, at_once: int) -> None:
        task = ClassificationTask(INSTRUCTION, YES_NO)
        form = AnswerForm("text", rationale=True)
        writing = Writing(form, None, 1, 0.0, 0, WRITTEN_TOKENS, thinking=False)
        limits = Limits(n_ctx=1024, n_batch=512, n_seq=at_once, threads=threads)
        model = Model(path)
        self._rows = [(row.id, row.text) for row in rows]
        self._generator = Generator(model, label_prompt(model, task), task, writing, limits).__enter__()

    def __call__(self) -> float:
        began = time.perf_counter()
        written = sum(group.decode_tokens for group in self._generator.generate(self._rows))
        return written / (time.perf_counter() - began)


class WrittenOneByOne(OneByOne):
    """The bindings' `create_completion`: tokens written a second."""

    def __call__(self) -> float:
        began = time.perf_counter()
        answers = [self._llama.create_completion(text, temperature=0.0, **self._how) for text in self._texts]
        written = sum(answer["usage"]["completion_tokens"] for answer in answers)
        return written / (time.perf_counter() - began)


def generation(setting: Setting) -> dict[str, Any]:
    """Answers of 48 tokens in free form: 16 and 32 at a time against one, prompts included."""
    rows = banking(setting.data)[::3]
    task = ClassificationTask(INSTRUCTION, YES_NO)
    few = rows[: RIVAL_ROWS // 6]
    speeds = in_turn(
        setting,
        {
            "16 at a time, tokens/s": WrittenAtOnce(setting.small, rows[:32], setting.threads, 16),
            "32 at a time, tokens/s": WrittenAtOnce(setting.small, rows[:64], setting.threads, 32),
            "one at a time, tokens/s": WrittenAtOnce(setting.small, few, setting.threads, 1),
            "create_completion, tokens/s": WrittenOneByOne(
                setting.small, few, task, setting.threads, max_tokens=WRITTEN_TOKENS
            ),
        },
    )
    others = ("one at a time, tokens/s", "create_completion, tokens/s")
    return {
        **ratios(speeds, "16 at a time, tokens/s", others),
        **ratios(speeds, "32 at a time, tokens/s", others),
        **{name: spread(values) for name, values in speeds.items()},
    }


def outside(setting: Setting) -> dict[str, Any]:
    """The share of labelling's wall time that is not llama.cpp's: tokenising, Python, the pipe, the store."""
    task = ClassificationTask(INSTRUCTION, YES_NO)
    rows = banking(setting.data, 10 * ROWS)
    shares = []
    for number in range(setting.rounds):
        print(f"round {number + 1} of {setting.rounds}: labelling into a store", file=sys.stderr)
        config = TeacherConfig(model=str(setting.small), threads=setting.threads)
        with tempfile.TemporaryDirectory() as folder, LabelStore(Path(folder) / "labels.sqlite") as store:
            numbered = store.labeller("teacher", "prompt", task.names)
            with LlamaLabeller(config, task, Quiet()) as teacher:
                label_rows(teacher, numbered, rows[:1], len(rows), store, Quiet())  # loads and tunes
                spent = teacher.stats.engine_seconds
                began = time.perf_counter()
                label_rows(teacher, numbered, rows, len(rows), store, Quiet())
                wall = time.perf_counter() - began
                shares.append(1 - (teacher.stats.engine_seconds - spent) / wall)
    return {"rows": len(rows), "share of the wall time outside llama.cpp": spread(shares)}


class FakeTeacher:
    """Answers at once, so that what grows is ours."""

    fingerprint = prompt_fingerprint = "fake"
    samples = (0,)
    settings = None

    def prepare(self, rows: int, settings: Any) -> None:
        pass

    def label(self, rows: Sequence[Row], done: frozenset[tuple[str, int]], progress: Any) -> Iterator[list[Answer]]:
        for start in range(0, len(rows), 64):
            yield [Answer(row.id, "yes", (0.9, 0.1)) for row in rows[start : start + 64] if (row.id, 0) not in done]


def memory(setting: Setting) -> dict[str, Any]:
    """Resident memory, MB, while 1.5 million rows stream through labelling by a teacher that takes no time."""
    import psutil

    process = psutil.Process()
    seen: dict[int, float] = {}

    def stream(count: int) -> Iterator[Row]:
        for number in range(count):
            if number % (count // 10) == 0:
                seen[number] = round(process.memory_info().rss / 1e6, 1)
            yield Row(f"row {number}", f"where is my card number {number}, which I ordered on day {number % 365}?")

    with tempfile.TemporaryDirectory() as folder, LabelStore(Path(folder) / "labels.sqlite") as store:
        numbered = store.labeller("fake", "fake", ["yes", "no"])
        summary = label_rows(FakeTeacher(), numbered, stream(MANY_ROWS), MANY_ROWS, store, Quiet())
        answers = sum(1 for _ in store.answers(numbered))
    return {"rows": summary.rows, "answers in the store": answers, "memory after rows, MB": seen}


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "two_labels": two_labels,
    "long_texts": long_texts,
    "many_labels": many_labels,
    "large_vocabulary": large_vocabulary,
    "generation": generation,
    "outside": outside,
    "memory": memory,
}

if __name__ == "__main__":
    main()
