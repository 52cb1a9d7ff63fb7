"""How fast and how small training is: against mlx_lm's own trainer, in turns, in one run.

    python scripts/bench_train.py --data ../shared/data [--sizes 7m 23m] [--rounds 5] [--rows 2000] [--steps 125]

Random-weight Llamas of 7M and 23M parameters (`bench_students.py`) learn to judge Jigsaw comments: the same rows,
LoRA layers, batch size, optimizer, learning rates and number of steps on both sides, float32, OpenBLAS loaded under
both. Each trainer is a process of its own that takes some steps and then waits for the other's turn; a ratio is of one
round, and its median and spread are over the rounds. Start-up, tokenising and the first steps are not timed. The
defaults train on every row once, which takes mlx_lm half an hour for 7M and an hour for 23M on two cores; with fewer
steps, rows a second are those of rows of the mean length.

The floor is the arithmetic that a row needs, padding and the head at positions without a target left out, over what
a plain matrix product of the same shapes reaches between two rounds. Both adapters' validation losses are measured by
one judge, by one formula, outside the time. The last line of the output is one JSON object.

`--device` leaves MLX on its own default device and names it: for a Mac, or for mlx[cuda].
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_students import SIZES, Shape, jigsaw_rows, make_student, write_rows
from bench_trainers import Gemm, RowSizes, Setup, Turn, device_name

from mlxdistill.platform.blas import cache_folder, load_blas
from mlxdistill.platform.cores import thread_environment
from mlxdistill.workers import Worker

WANTED = {"7m": {"speed": 5.0, "memory": 0.6}, "23m": {"speed": 7.0, "memory": 0.35}}
OURS, THEIRS = "mlxdistill", "mlx_lm"
ENTRIES = {OURS: "bench_trainers:open_ours", THEIRS: "bench_trainers:open_mlx_lm"}


class Quiet:
    """Progress that nobody sees."""

    def advance(self, done: int, total: int, **figures: float) -> None:
        pass

    def note(self, message: str) -> None:
        print(message, file=sys.stderr)


@dataclass
class Race:
    """What was seen of one trainer: its turns, the validation loss before the first and after each, its rows."""

    sizes: RowSizes
    turns: list[Turn] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def mean_tokens(self) -> float:
        return statistics.fmean(self.sizes.fed)

    def rows_per_second(self, turn: Turn) -> float:
        """Of rows of the mean length, since a turn's own may be longer or shorter."""
        return turn.tokens / turn.seconds / self.mean_tokens

    @property
    def curve(self) -> list[tuple[float, float]]:
        """Seconds of training and validation loss."""
        seconds = [0.0]
        for turn in self.turns:
            seconds.append(seconds[-1] + turn.seconds)
        return list(zip(seconds, self.losses, strict=True))


def main() -> None:
    arguments = parsed()
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    blas = "none" if arguments.device else load_blas()
    results: dict[str, Any] = {"device": device_name(), "blas": blas, "rounds": arguments.rounds}
    results |= {name: getattr(arguments, name) for name in ("rows", "batch_size", "batch_tokens", "rank", "uncompiled")}
    for size in arguments.sizes:
        results[size] = measured(size, arguments)
        print_table(size, results[size], results["device"])
    print(json.dumps(results))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder that holds jigsaw/")
    parser.add_argument("--cache", type=Path, default=cache_folder() / "bench", help="where the students are kept")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--valid", type=int, default=200, help="rows that the judge measures")
    parser.add_argument("--steps", type=int, help="timed steps in all; default: to the end of the epochs")
    parser.add_argument("--warm", type=int, default=2, help="steps before the clock starts")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--batch-tokens", type=int, default=4096, help="of ours; mlx_lm has no such thing")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--scale", type=float, default=20.0)
    parser.add_argument("--uncompiled", action="store_true", help="mlx_lm without mx.compile")
    parser.add_argument("--device", action="store_true", help="MLX's own default device; no OpenBLAS")
    arguments = parser.parse_args()
    whole = -(-arguments.rows // arguments.batch_size) * arguments.epochs
    arguments.steps = arguments.steps or whole - arguments.warm
    if arguments.steps + arguments.warm > whole:
        parser.error(f"{arguments.rows} rows make {whole} steps: give more --rows or --epochs")
    if arguments.steps < arguments.rounds:
        parser.error("there are fewer steps than rounds")
    return arguments


def measured(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Races both trainers on a student of one size."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        setup = prepared(size, arguments, Path(folder))

        def opened(entry: str, **environment: str) -> Worker:
            variables = thread_environment() | environment
            return stack.enter_context(Worker(entry, setup, name=entry, progress=Quiet(), environment=variables))

        judge = opened("bench_trainers:open_judge")
        off = {"MLX_DISABLE_COMPILE": "1"} if arguments.uncompiled else {}
        workers = {OURS: opened(ENTRIES[OURS]), THEIRS: opened(ENTRIES[THEIRS], **off)}
        races = {OURS: Race(asked(judge, RowSizes)), THEIRS: Race(asked(workers[THEIRS], RowSizes))}
        running = {name: worker.ask("train") for name, worker in workers.items()}
        for name, race in races.items():
            print(f"{size}: first steps of {name}", file=sys.stderr)
            race.losses.append(asked(judge, next(running[name]).adapter))
        gemm = gemm_of(SIZES[size], races[OURS].mean_tokens, setup.batch_size)
        peaks = []
        for number in range(arguments.rounds):
            for name in sorted(races, reverse=bool(number % 2)):
                print(f"{size}: round {number + 1} of {arguments.rounds}: {name}", file=sys.stderr)
                turn = next(running[name])
                races[name].turns.append(turn)
                races[name].losses.append(asked(judge, turn.adapter))
            peaks.append(asked(judge, gemm))
        return summary(SIZES[size], arguments, races, peaks)


def prepared(size: str, arguments: argparse.Namespace, folder: Path) -> Setup:
    """Makes the student and the rows' files. `folder` is for what is not kept."""
    data, valid = folder / "data", folder / "valid"
    write_rows(data / "train.jsonl", jigsaw_rows(arguments.data, arguments.rows))
    write_rows(valid / "valid.jsonl", jigsaw_rows(arguments.data, arguments.valid, skip=arguments.rows))
    return Setup(
        model=str(make_student(arguments.cache, size, arguments.data)),
        data=data,
        valid=valid,
        scratch=folder,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        total_steps=-(-arguments.rows // arguments.batch_size) * arguments.epochs,
        learning_rate=arguments.learning_rate,
        rank=arguments.rank,
        scale=arguments.scale,
        warm_steps=arguments.warm,
        turn_steps=arguments.steps // arguments.rounds,
        batch_tokens=arguments.batch_tokens,
        gpu=arguments.device,
    )


def asked(worker: Worker, question: object) -> Any:
    for _ in worker.ask(question):
        raise AssertionError("a question of one answer")
    return worker.result


def gemm_of(shape: Shape, mean_tokens: float, batch_size: int) -> Gemm:
    """A layer's products, over the positions of a batch."""
    square, up, down = (shape.width, shape.width), (shape.width, shape.feed_forward), (shape.feed_forward, shape.width)
    return Gemm(round(mean_tokens * batch_size), (square,) * 4 + (up,) * 2 + (down,))


def floor_operations(shape: Shape, sizes: RowSizes, rank: int) -> float:
    """Floating-point operations that training on an average row needs, with LoRA in every linear layer.

    Per token: every layer forwards and back to the activations, but for q, k and v of the lowest layer, below which
    nothing is trained; LoRA's two products forwards, back and to their weights, with the same exception. Causal
    attention, half of its square, forwards and, twice that, back. Per supervised position: the head, forwards and back.
    """
    width, wide = shape.width, shape.feed_forward
    linear = 4 * width**2 + 3 * width * wide
    adapters = rank * (8 * width + 3 * (width + wide))
    per_token = shape.layers * (4 * linear + 6 * adapters) - 2 * 3 * (width**2 + rank * width)
    total = 0.0
    for fed, supervised in zip(sizes.fed, sizes.supervised, strict=True):
        attention = 3 * shape.layers * 4 * width * fed * (fed + 1) / 2
        total += fed * per_token + attention + 4 * shape.vocabulary * width * supervised
    return total / len(sizes.fed)


def summary(
    shape: Shape, arguments: argparse.Namespace, races: dict[str, Race], peaks: Sequence[float]
) -> dict[str, Any]:
    ours, theirs = races[OURS], races[THEIRS]
    floor = floor_operations(shape, ours.sizes, arguments.rank)
    speeds = {name: [race.rows_per_second(turn) for turn in race.turns] for name, race in races.items()}
    last = {name: race.turns[-1] for name, race in races.items()}
    return {
        "rows trained": {name: sum(turn.rows for turn in race.turns) for name, race in races.items()},
        "rows/s ratio": spread([a / b for a, b in zip(speeds[OURS], speeds[THEIRS], strict=True)]),
        "peak memory ratio": rounded(last[OURS].peak_memory_bytes / last[THEIRS].peak_memory_bytes),
        "MLX's peak ratio": rounded(last[OURS].mlx_peak_bytes / last[THEIRS].mlx_peak_bytes),
        "seconds to the same validation loss, ratio": seconds_ratio(ours, theirs),
        "GEMM peak, GFLOP/s": spread([peak / 1e9 for peak in peaks]),
        "floor, GFLOP a row": rounded(floor / 1e9),
        **{
            name: {
                "rows/s": spread(speeds[name]),
                "tokens/s": spread([turn.tokens / turn.seconds for turn in race.turns]),
                "share of the GEMM peak": spread([s * floor / p for s, p in zip(speeds[name], peaks, strict=True)]),
                "padding efficiency": rounded(
                    sum(turn.tokens for turn in race.turns) / sum(turn.positions for turn in race.turns)
                ),
                "peak memory, MB": round(last[name].peak_memory_bytes / 1e6),
                "MLX's peak, MB": round(last[name].mlx_peak_bytes / 1e6),
                "seconds": rounded(race.curve[-1][0]),
                "validation loss over seconds": [[rounded(part) for part in point] for point in race.curve],
            }
            for name, race in races.items()
        },
    }


def seconds_ratio(ours: Race, theirs: Race) -> dict[str, float] | None:
    """How many times longer mlx_lm takes to the best validation loss that both reach; None where neither learned."""
    level = max(min(race.losses) for race in (ours, theirs))
    own, other = (seconds_to(level, race.curve) for race in (ours, theirs))
    if not own or not other:
        return None
    return {
        "validation loss": rounded(level),
        OURS: rounded(own),
        THEIRS: rounded(other),
        "ratio": rounded(other / own),
    }


def seconds_to(level: float, curve: Sequence[tuple[float, float]]) -> float:
    """When the curve first comes down to the level, on straight lines between its points."""
    before = curve[0]
    for point in curve:
        if point[1] <= level:
            share = (before[1] - level) / (before[1] - point[1]) if before[1] > point[1] else 1.0
            return before[0] + share * (point[0] - before[0])
        before = point
    raise AssertionError("the level is one that the curve reaches")


def spread(values: Sequence[float]) -> dict[str, float]:
    figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: rounded(value) for name, value in figures.items()}


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def print_table(size: str, result: dict[str, Any], device: str) -> None:
    wanted = WANTED[size]
    ratio, seconds = result["rows/s ratio"], result["seconds to the same validation loss, ratio"]
    print(f"\n{size}, {device}, {result['rows trained'][OURS]} rows each\n")
    print(f"{'':30}{OURS:>17}{THEIRS:>17}")
    for name in ("rows/s", "tokens/s", "share of the GEMM peak"):
        print_line(name, (result[trainer][name]["median"] for trainer in (OURS, THEIRS)))
    for name in ("padding efficiency", "peak memory, MB", "MLX's peak, MB"):
        print_line(name, (result[trainer][name] for trainer in (OURS, THEIRS)))
    curves = [result[trainer]["validation loss over seconds"] for trainer in (OURS, THEIRS)]
    for number, points in enumerate(zip(*curves, strict=True)):
        name = "" if number else "validation loss over seconds"
        print(f"{name:30}" + "".join(f"{loss:10.4f} {seconds:5.0f}s" for seconds, loss in points))
    print(f"rows/s: {ratio['median']:.2f} times ({ratio['min']:.2f} to {ratio['max']:.2f}); wanted {wanted['speed']:g}")
    print(f"peak memory: {result['peak memory ratio']:.2f} of mlx_lm's; wanted {wanted['memory']:g}")
    if seconds is None:
        print("seconds to the same validation loss: neither learned anything yet")
    else:
        print(
            f"seconds to a validation loss of {seconds['validation loss']:g}: mlx_lm takes {seconds['ratio']:.1f} times"
        )
    sys.stdout.flush()


def print_line(name: str, values: Iterable[float]) -> None:
    print(f"{name:30}" + "".join(f"{value:17,.0f}" if value >= 100 else f"{value:17.3g}" for value in values))


if __name__ == "__main__":
    main()
