"""Do the teacher's class probabilities teach more than its labels?

    python scripts/bench_distill.py FOLDER [--data ../shared/data] [--seeds 5] [--only demo jigsaw] [--jobs 2]

The demo's student learns from the teacher's labels alone (hard), from its class probabilities alone (soft), and from
half of each (mixed), with the same seeds, so the same first weights and batches. The teacher answers once. Each student
is measured against gold on both test sets; differences to hard labels come with 95 % intervals over rows and seeds: a
bootstrap that draws whole groups of rows, the same for all students, and seeds, one fewer than there are, so that its
variance is that of a mean (McCarthy and Snowden, The Bootstrap and Finite Population Sampling, 1985). Drawing both
overstates the doubt a little, never understates it (Owen, The pigeonhole bootstrap, 2007).

The same for Jigsaw with GPT-4's recorded answers. Where a recorded teacher named labels without probabilities there is
nothing to compare: this is checked, by a training with each setting that must give the same adapter to the byte, and
said. A training that is in FOLDER is not run again. Prints a table; the last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlxdistill.demo import CONFIG
from mlxdistill.rundir.layout import RunDir
from mlxdistill.statistics.intervals import percentile_ends, percentile_levels
from mlxdistill.statistics.resampling import Floats, Integers, cluster_places, generator
from mlxdistill.tasks.rows import read_rows

WEIGHTS = {"hard": 0.0, "mixed": 0.5, "soft": 1.0}
STUDIES = {"demo": CONFIG, "jigsaw": Path(__file__).parents[1] / "configs" / "jigsaw-logged.yaml"}
RESAMPLES = 4000
SMALLEST = 1e-6  # a probability, in the log loss


@dataclass(frozen=True)
class Runner:
    """How the command line is called for one study."""

    config: Path
    folder: Path
    environment: Mapping[str, str]
    overrides: tuple[str, ...]

    def __call__(self, *arguments: str, settings: Sequence[str] = ()) -> None:
        flags = [part for setting in settings for part in ("--set", setting)]
        command = [sys.executable, "-m", "mlxdistill", *arguments, *flags, "--quiet"]
        subprocess.run(command, check=True, env={**os.environ, **self.environment}, stdout=subprocess.DEVNULL)

    def label(self) -> RunDir:
        """Asks the teacher once."""
        run = RunDir(self.folder / "labelled")
        for stage in ("ingest", "label", "filter"):
            self(stage, str(self.config), "--run-dir", str(run.path), settings=self.overrides)
        return run

    def train(self, labelled: RunDir, mode: str, seed: int) -> RunDir:
        """A student of its own, with its answers to both test sets."""
        run = RunDir(self.folder / f"{mode}-seed{seed}")
        if all(answers(run, name).exists() for name in run.test_sets):
            return run
        print(f"{self.folder.name}: {run.path.name}", file=sys.stderr)
        if not run.path.exists():
            copy = run.path.with_suffix(".copy")
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(labelled.path, copy)
            copy.rename(run.path)
        settings = [*self.overrides, f"train.seed={seed}", f"train.soft_weight={WEIGHTS[mode]}"]
        self("train", str(self.config), "--run-dir", str(run.path), settings=settings)
        for name, rows in run.test_sets.items():
            unfinished = run.path / f"{name}.unfinished.jsonl"
            unfinished.unlink(missing_ok=True)
            self("predict", str(run.path), str(rows), "--output", str(unfinished))
            unfinished.rename(answers(run, name))
        return run


def answers(run: RunDir, name: str) -> Path:
    return run.path / f"{name}.predicted.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the run folders; what is there is gone on with")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder that holds jigsaw/")
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once, of one BLAS thread each where several")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    results = {name: studied(name, arguments) for name in arguments.only}
    for name, result in results.items():
        print_study(name, result)
    print(json.dumps({"seeds": arguments.seeds, "settings": arguments.overrides, **results}))


def studied(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains what is missing of one study, and compares."""
    folder = arguments.folder.resolve() / name
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"JIGSAW_DIR": str((arguments.data / "jigsaw").resolve())}
    if arguments.jobs > 1:
        environment["OPENBLAS_NUM_THREADS"] = "1"
    runner = Runner(STUDIES[name], folder, environment, tuple(arguments.overrides))
    labelled = runner.label()
    first = runner.train(labelled, "hard", 0)
    softly = sum(row["probabilities"] is not None for row in training_rows(first))
    seeds = range(arguments.seeds)
    cells = [(mode, seed) for seed in seeds for mode in WEIGHTS if softly or mode == "hard" or seed == 0]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        runs = dict(zip(cells, pool.map(lambda cell: runner.train(labelled, *cell), cells), strict=True))
    result: dict[str, Any] = {"rows": len(training_rows(first)), "rows with class probabilities": softly, "sets": {}}
    if not softly:
        same = len({adapter_hash(runs[mode, 0]) for mode in WEIGHTS}) == 1
        result["nothing to compare: all settings give the same adapter"] = same
    for set_name in labelled.test_sets:
        result["sets"][set_name] = compared(labelled, set_name, runs, list(WEIGHTS) if softly else ["hard"], seeds)
    return result


def training_rows(run: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.student_data / "train.jsonl").open(encoding="utf-8")]


def adapter_hash(run: RunDir) -> str:
    return hashlib.sha256((run.adapters / "adapters.safetensors").read_bytes()).hexdigest()


@dataclass(frozen=True)
class Scored:
    """Of every student of one setting on one test set.

    Attributes:
        right: [seeds, rows], 1 where its label is gold's; `loss`: [seeds, rows], -log of gold's probability.
    """

    right: Floats
    loss: Floats


def scored(runs: Sequence[RunDir], set_name: str, gold: Sequence[tuple[str, str]]) -> Scored:
    right, loss = [], []
    for run in runs:
        found = {row["id"]: row for row in map(json.loads, answers(run, set_name).open(encoding="utf-8"))}
        right.append([found[row_id]["label"] == label for row_id, label in gold])
        loss.append([-np.log(max(SMALLEST, found[row_id]["probabilities"][label])) for row_id, label in gold])
    return Scored(np.array(right, np.float64), np.array(loss))


def compared(
    labelled: RunDir, set_name: str, runs: Mapping[tuple[str, int], RunDir], modes: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    rows = read_rows(labelled.test_sets[set_name])
    gold = [(row.id, row.gold or "") for row in rows]
    names = sorted({label for _, label in gold})
    classes = np.array([names.index(label) for _, label in gold])
    clusters = cluster_places([(row.id, row.meta.get("group")) for row in rows])
    drawn = draws(len(seeds), np.arange(len(rows)) if clusters is None else clusters)
    scores = {mode: scored([runs[mode, seed] for seed in seeds], set_name, gold) for mode in modes}
    measures = {mode: measured(score, classes) for mode, score in scores.items()}
    result: dict[str, Any] = {"n": len(rows), "settings": {}, "differences": {}}
    for mode, values in measures.items():
        result["settings"][mode] = {
            measure: {
                "mean": statistics.fmean(given.tolist()),
                "min": float(given.min()),
                "max": float(given.max()),
            }
            for measure, given in values.items()
        }
    for mode in modes[1:]:
        hard, other = scores["hard"], scores[mode]
        result["differences"][f"{mode} - hard"] = differences(
            Scored(other.right - hard.right, other.loss - hard.loss), classes, drawn
        )
    return result


def measured(score: Scored, classes: Integers) -> dict[str, Floats]:
    """Each measure of each seed's student: [seeds]."""
    ones = np.ones((1, len(classes)))
    return {
        "accuracy": score.right.mean(axis=1),
        "balanced accuracy": balanced(score.right, classes, ones)[:, 0],
        "log loss": score.loss.mean(axis=1),
    }


def balanced(values: Floats, classes: Integers, weights: Floats) -> Floats:
    """The mean over classes of the weighted mean of a class's rows: [seeds, R] of [seeds, rows] and [R, rows]."""
    means = []
    for place in np.unique(classes):
        own = classes == place
        means.append(values[:, own] @ weights[:, own].T / weights[:, own].sum(axis=1))
    return np.asarray(np.mean(means, axis=0))


@dataclass(frozen=True)
class Draws:
    """R resamples: how often each seed [R, seeds] and each row [R, rows] was drawn."""

    seeds: Floats
    rows: Floats


def draws(seeds: int, clusters: Integers) -> Draws:
    """Draws of seeds and of whole clusters of rows. A single seed is taken as it is."""
    random = generator(0)
    groups = int(clusters.max()) + 1
    often = random.multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES)
    taken = random.multinomial(max(1, seeds - 1), np.full(seeds, 1 / seeds), size=RESAMPLES)
    return Draws(taken.astype(np.float64), often[:, clusters].astype(np.float64))


def differences(score: Scored, classes: Integers, drawn: Draws) -> dict[str, dict[str, Any]]:
    """Of differences to another setting, row by row and seed by seed: the mean and its interval, for each measure."""
    shares = drawn.seeds / drawn.seeds.sum(axis=1, keepdims=True)

    def interval(value: float, by_seed: Floats, better: int) -> dict[str, Any]:
        """`by_seed`: [seeds, R]; `better`: 1 where more is better, else -1."""
        ends = percentile_ends((shares.T * by_seed).sum(axis=0), percentile_levels())
        assert ends is not None
        low, high = sorted(better * end for end in ends)
        verdict = "better" if low > 0 else "worse" if high < 0 else "no difference that these rows and seeds show"
        return {"difference": value, "ci": list(ends), "verdict": verdict}

    totals = drawn.rows.sum(axis=1)
    now = {measure: float(given.mean()) for measure, given in measured(score, classes).items()}
    return {
        "accuracy": interval(now["accuracy"], score.right @ drawn.rows.T / totals, 1),
        "balanced accuracy": interval(now["balanced accuracy"], balanced(score.right, classes, drawn.rows), 1),
        "log loss": interval(now["log loss"], score.loss @ drawn.rows.T / totals, -1),
    }


def print_study(name: str, result: dict[str, Any]) -> None:
    print(
        f"\n{name}: {result['rows']} rows to learn from, {result['rows with class probabilities']} with probabilities"
    )
    for key, same in result.items():
        if key.startswith("nothing to compare"):
            print("nothing to compare: the recorded teacher gave labels alone, and all three settings")
            print("train the same adapter, to the byte" if same else "SHOULD train the same adapter, but DO NOT")
    for set_name, found in result["sets"].items():
        print(f"\n{set_name}, {found['n']} rows: mean over seeds (range); difference to hard labels [95 % interval]")
        for measure in ("accuracy", "balanced accuracy", "log loss"):
            for mode, values in found["settings"].items():
                given = values[measure]
                line = f"{measure:18} {mode:6} {given['mean']:.4f} ({given['min']:.4f} to {given['max']:.4f})"
                entry = found["differences"].get(f"{mode} - hard", {}).get(measure)
                if entry is not None:
                    low, high = entry["ci"]
                    line += f"  {entry['difference']:+.4f} [{low:+.4f}, {high:+.4f}] {entry['verdict']}"
                print(line)


if __name__ == "__main__":
    main()
