"""How the demo's training settings were chosen: each is tried on the demo's rows and measured on validation rows alone.

    python scripts/sweep_demo.py FOLDER [--jobs 2] [--seeds 2] [train.epochs=3 ...]

The teacher labels once; then each setting (those below, or those given, several joined by a comma) trains a student in
a run folder of its own. A line a setting: the student's balanced accuracy against gold on the validation rows beside
the teacher's, its share of the teacher's gain over chance, AUROC, how often both give the same label, and the loss
against the teacher's class probabilities. The adapter was chosen on half of these rows, so the figures flatter all
settings alike. The test sets are not read.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from mlxdistill.demo import CONFIG

SETTINGS = (
    "",
    "student.lora.dropout=0.1",
    "student.lora.rank=64",
    "train.soft_weight=0.5",
    "train.learning_rate=1e-3",
    "train.epochs=1",
)
POSITIVE = "report"


@dataclass(frozen=True)
class Measured:
    """One student on the validation rows; `gain` is (student - chance) / (teacher - chance) of balanced accuracy."""

    balanced_accuracy: float
    teacher: float
    gain: float
    auroc: float
    agreement: float
    loss: float


def mlxdistill(*arguments: str) -> None:
    """Run the command line with one BLAS thread, so that several runs share the cores."""
    command = [sys.executable, "-m", "mlxdistill", *arguments, "--quiet"]
    subprocess.run(command, check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)


def label(run: Path) -> None:
    """Ingest, label and filter once."""
    for stage in ("ingest", "label", "filter"):
        mlxdistill(stage, str(CONFIG), "--run-dir", str(run))


def try_out(labelled: Path, run: Path, settings: str, seed: int) -> Measured:
    """Train one student and measure it."""
    if not run.exists():
        shutil.copytree(labelled, run)
    given = [f"train.seed={seed}", *filter(None, settings.split(","))]
    flags = [part for setting in given for part in ("--set", setting)]
    mlxdistill("train", str(CONFIG), "--run-dir", str(run), *flags)
    answers = run.parent / f"{run.name}.jsonl"
    mlxdistill("predict", str(run), str(run / "rows" / "valid.jsonl"), "--output", str(answers))
    return measure(run, answers)


def measure(run: Path, answers: Path) -> Measured:
    """Compare the student's answers with gold and with the teacher's."""
    rows = [json.loads(line) for line in (run / "rows" / "valid.jsonl").open(encoding="utf-8")]
    predicted = {row["id"]: row for row in map(json.loads, answers.open(encoding="utf-8"))}
    taught = _teacher(run / "labels.sqlite")
    gold = np.array([row["gold"] == POSITIVE for row in rows])
    student = np.array([predicted[row["id"]]["probabilities"][POSITIVE] for row in rows])
    teacher = np.array([taught[row["id"]] for row in rows])
    own, other = (float(balanced_accuracy_score(gold, p > 0.5)) for p in (student, teacher))
    return Measured(
        balanced_accuracy=own,
        teacher=other,
        gain=(own - 0.5) / (other - 0.5),
        auroc=float(roc_auc_score(gold, student)),
        agreement=float(((student > 0.5) == (teacher > 0.5)).mean()),
        loss=_cross_entropy(teacher, student),
    )


def _teacher(store: Path) -> dict[str, float]:
    connection = sqlite3.connect(store)
    found = connection.execute("SELECT row_id, probabilities FROM answers").fetchall()
    connection.close()
    return {row_id: float(np.frombuffer(blob, "<f4")[0]) for row_id, blob in found}


def _cross_entropy(teacher: NDArray[np.float64], student: NDArray[np.float64]) -> float:
    clipped = np.clip(student, 1e-6, 1 - 1e-6)
    return float(-(teacher * np.log(clipped) + (1 - teacher) * np.log(1 - clipped)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the run folders; what is there is gone on with")
    parser.add_argument("settings", nargs="*", default=SETTINGS)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    labelled = arguments.folder / "labelled"
    label(labelled)

    def one(task: tuple[str, int]) -> Measured:
        settings, seed = task
        run = arguments.folder / f"{settings or 'as-it-is'}-seed{seed}".replace("/", "_")
        return try_out(labelled, run, settings, seed)

    tasks = [(settings, seed) for settings in arguments.settings for seed in range(arguments.seeds)]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        measured = dict(zip(tasks, pool.map(one, tasks), strict=True))
    print(f"{'settings':32} {'student':>8} {'teacher':>8} {'gain':>6} {'auroc':>6} {'agree':>6} {'loss':>6}")
    for settings in arguments.settings:
        runs = [measured[settings, seed] for seed in range(arguments.seeds)]
        figures = [statistics.mean(values) for values in zip(*(vars(run).values() for run in runs), strict=True)]
        print(f"{settings or '(as it is)':32} {figures[0]:8.3f} {figures[1]:8.3f}", end="")
        print("".join(f" {value:6.3f}" for value in figures[2:]))


if __name__ == "__main__":
    main()
