"""How fast students predict: against `mlx_lm.generate` row by row and `mlx_lm.batch_generate`, in turns, in one run.

    python scripts/bench_predict.py --data ../shared/data [--sizes 7m 23m] [--rounds 5] [--rows 200]

Random-weight Llamas of 7M and 23M parameters (`bench_students.py`), without an adapter, label Jigsaw comments: ours by
scoring the labels, mlx_lm's by writing as many tokens as the longest label has. Once the labels are of one token, the
best case of those who write, and once they are the JSON that the prompt asks for. Then all of them write texts of
`--tokens` tokens. Everyone gets the same rows as texts and puts them into the chat template itself, in float32 and with
OpenBLAS loaded; each has a process of its own, in which nothing of the others' is in place. Start-up and a first batch
are not timed. A ratio is of one round, and its median and spread are over the rounds. The last line of the output is
one JSON object.

`--device` leaves MLX on its own default device and names it: for a Mac, or for mlx[cuda].
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_predictors import Label, Setup, Write
from bench_students import LABELS, SIZES, jigsaw_rows, make_student
from bench_trainers import device_name

from mlxdistill.platform.blas import cache_folder, load_blas
from mlxdistill.platform.cores import thread_environment
from mlxdistill.workers import Worker

JSON_LABELS = (("ok", '{"is_bad": 0}'), ("toxic", '{"is_bad": 1}'))
OURS, ROW_BY_ROW, BATCHED = "mlxdistill", "mlx_lm.generate", "mlx_lm.batch_generate"
ENTRIES = {
    OURS: "bench_predictors:open_ours",
    ROW_BY_ROW: "bench_predictors:open_row_by_row",
    BATCHED: "bench_predictors:open_batched",
}
SAME = "share of texts like mlx_lm.generate's"
PARTS = ("labels", "JSON labels", "texts")
WARM_ROWS = 8
WANTED = {ROW_BY_ROW: 10.0, BATCHED: 3.0}


class Quiet:
    """Progress that nobody sees."""

    def advance(self, done: int, total: int, **figures: float) -> None:
        pass

    def note(self, message: str) -> None:
        print(message, file=sys.stderr)


def main() -> None:
    arguments = parsed()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    blas = "none" if arguments.device else load_blas()
    names = ("rounds", "rows", "written", "tokens")
    results = {"device": device_name(), "blas": blas} | {name: getattr(arguments, name) for name in names}
    for size in arguments.sizes:
        results[size] = measured(size, arguments)
        print_table(size, results[size], results["device"])
    print(json.dumps(results))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder that holds jigsaw/")
    parser.add_argument("--cache", type=Path, default=cache_folder() / "bench", help="where the students are kept")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=200, help="that are labelled")
    parser.add_argument("--written", type=int, default=48, help="rows that texts are written for")
    parser.add_argument("--tokens", type=int, default=48, help="of each text")
    parser.add_argument("--device", action="store_true", help="MLX's own default device; no OpenBLAS")
    arguments = parser.parse_args()
    if min(arguments.rounds, arguments.rows, arguments.written, arguments.tokens) < 1:
        parser.error("numbers are 1 or more")
    return arguments


def measured(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Labels and texts, by everyone, of a student of one size."""
    model = make_student(arguments.cache, size, arguments.data)
    rows = tuple((row.id, row.text) for row in jigsaw_rows(arguments.data, max(arguments.rows, arguments.written)))
    write = Write(rows[: arguments.written], arguments.tokens)
    questions = {
        "labels": labelling(rows[: arguments.rows], LABELS, model),
        "JSON labels": labelling(rows[: arguments.rows], JSON_LABELS, model),
        "texts": dict.fromkeys(ENTRIES, write),
    }
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, entry in ENTRIES.items():
            setup = Setup(str(model), arguments.device)
            worker = Worker(entry, setup, name=name, progress=Quiet(), environment=thread_environment())
            workers[name] = stack.enter_context(worker)
        races = {
            part: raced(f"{size}, {part}", workers, asked, arguments.rounds)
            for part, asked in questions.items()
            if part in arguments.only
        }
        peaks = {name: round(worker.peak_memory_bytes / 1e6) for name, worker in workers.items()}
    return {**races, "peak memory, MB": peaks}


def labelling(
    rows: tuple[tuple[str, str], ...], labels: tuple[tuple[str, str], ...], model: Path
) -> dict[str, Label | Write]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    write = Write(rows, max(len(tokenizer.encode(text).ids) for _, text in labels))
    return {OURS: Label(rows, labels), ROW_BY_ROW: write, BATCHED: write}


def raced(what: str, workers: dict[str, Worker], asked: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Everyone answers in every round, each time in the other order."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    found: dict[str, list[str]] = {}
    for name, question in asked.items():
        answers(workers[name], dataclasses.replace(question, rows=question.rows[:WARM_ROWS]))
    for number in range(rounds):
        for name in list(workers)[:: -1 if number % 2 else 1]:
            print(f"{what}: round {number + 1} of {rounds}: {name}", file=sys.stderr)
            began = time.perf_counter()
            found[name] = answers(workers[name], asked[name])
            seconds[name].append(time.perf_counter() - began)
    rows = len(asked[ROW_BY_ROW].rows)
    ratios = {
        f"rows/s, times {name}": spread(
            [theirs / own for own, theirs in zip(seconds[OURS], seconds[name], strict=True)]
        )
        for name in WANTED
    }
    result = {
        "tokens": asked[ROW_BY_ROW].tokens,
        "rows/s": {name: spread([rows / second for second in taken]) for name, taken in seconds.items()},
        **ratios,
    }
    if asked[OURS] == asked[ROW_BY_ROW]:
        result[SAME] = {
            name: sum(a.strip() == b.strip() for a, b in zip(found[name], found[ROW_BY_ROW], strict=True)) / rows
            for name in (OURS, BATCHED)
        }
    return result


def answers(worker: Worker, question: object) -> list[str]:
    """What a contender wrote: labels, or texts."""
    waves = list(worker.ask(question))
    if not waves:
        return list(worker.result)
    return [answer.label if answer.text is None else answer.text for wave in waves for answer in wave]


def spread(values: Sequence[float]) -> dict[str, float]:
    figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def print_table(size: str, result: dict[str, Any], device: str) -> None:
    races = {part: result[part] for part in PARTS if part in result}
    print(f"\n{size}, {device}\n")
    print(f"{'rows/s':28}" + "".join(f"{part:>16}" for part in races))
    for name in ENTRIES:
        print(f"{name:28}" + "".join(f"{race['rows/s'][name]['median']:16.3g}" for race in races.values()))
    print(f"{'tokens an answer':28}" + "".join(f"{race['tokens']:16}" for race in races.values()))
    for part, race in races.items():
        for name, wanted in WANTED.items():
            ratio = race[f"rows/s, times {name}"]
            aim = "" if part == "texts" else f"; wanted {wanted:g}"
            print(f"{part}: {ratio['median']:.2f} times {name} ({ratio['min']:.2f} to {ratio['max']:.2f}){aim}")
    if "texts" in races:
        same = races["texts"][SAME]
        print(f"{SAME}: {same[OURS]:.2f} of ours, {same[BATCHED]:.2f} of {BATCHED}'s")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
