#!/usr/bin/env python3
"""Kills labelling at random moments, over and over, and checks that no answer is lost, doubled or torn.

    python scripts/soak.py                     # 100 kills, on the embedded teacher
    python scripts/soak.py --model FILE.gguf   # on another one

An undisturbed run says what every answer should be. Then `mlxdistill label` is started and killed (SIGKILL to the
command alone, or to the model's process as well) until all rows are answered, and again in a new folder until there
have been enough kills. After each kill everything that another process had seen committed must still be there, and
everything that is there must be, to the last bit, what the undisturbed run answered. Prints one JSON object; exits 1
where anything was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from mlxdistill.demo import HERE

CONFIG = """\
name: soak
task:
  instruction: Decide whether a message to the bank must be seen by a person today.
  labels: {{report: a theft or misuse, other: everything else}}
data:
  source: rows.jsonl
  fields: {{text: text, gold: label, id: id}}
  valid: 20
  test: {{indist: 20, balanced: 20}}
teacher: {{model: "{model}", n_ctx: 512}}
student: {{model: embedded:student}}
"""
Key = tuple[str, int]
Stored = dict[Key, tuple[object, ...]]


@dataclass
class Outcome:
    """What was seen. All but the first four should be 0.

    Attributes:
        kills: SIGKILLs while the command was running; `kills_in_the_midst`: when some answers were there, but not all.
        rounds: how often all rows were answered in the end.
        lost: answers that were seen committed and were gone after a kill.
        doubled: answers of which there was a second one under another labeller.
        different: answers that were not, to the last bit, those of the undisturbed run.
        torn: stores that SQLite found damaged.
        failed: commands that ended by themselves with an error.
    """

    rows: int = 0
    kills: int = 0
    kills_in_the_midst: int = 0
    rounds: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    torn: int = 0
    failed: int = 0

    @property
    def wrong(self) -> bool:
        return any((self.lost, self.doubled, self.different, self.torn, self.failed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--model", default="embedded:teacher", help="a GGUF file")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome = soak(Path(folder), arguments.kills, arguments.rows, arguments.model, random.Random(arguments.seed))
    print(json.dumps({**asdict(outcome), "seconds": round(time.monotonic() - began, 1)}, indent=2))
    sys.exit(outcome.wrong)


def soak(folder: Path, kills: int, rows: int, model: str, rng: random.Random) -> Outcome:
    outcome = Outcome(rows=rows)
    lines = (HERE / "messages.jsonl").read_text("utf-8").splitlines()
    (folder / "rows.jsonl").write_text("\n".join(rng.sample(lines, rows)) + "\n", "utf-8")
    (folder / "config.yaml").write_text(CONFIG.format(model=model), "utf-8")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    subprocess.run(
        command("ingest", folder / "ingested"), cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    undisturbed = fresh(folder, 0)
    began = time.monotonic()
    subprocess.run(command("label", undisturbed), cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    usual_seconds = time.monotonic() - began
    expected = stored(undisturbed)
    assert len({row_id for row_id, _ in expected}) == rows
    while outcome.kills < kills:
        run = fresh(folder, outcome.rounds + 1)
        while True:
            limit = None if outcome.kills == kills else rng.uniform(0.1, 0.8) * usual_seconds
            if attempt(run, folder, environment, limit, expected, outcome, rng) == "finished" or outcome.wrong:
                break
        if outcome.wrong:
            break
        outcome.rounds += 1
        outcome.different += stored(run) != expected
        shutil.rmtree(run)
        note(outcome, kills)
    return outcome


def attempt(
    run: Path,
    folder: Path,
    environment: dict[str, str],
    limit: float | None,
    expected: Stored,
    outcome: Outcome,
    rng: random.Random,
) -> str:
    """Starts labelling and kills it after `limit` seconds, if it has not finished by then."""
    process = subprocess.Popen(
        command("label", run), cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    with process:
        if limit is not None and rng.random() < 0.5:  # half of the kills while there is something to tear
            before = len(stored(run))
            while process.poll() is None and len(stored(run)) == before:
                time.sleep(0.02)
            limit /= 4
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            seen = stored(run)
            victims = [process.pid, *(children(process.pid) if rng.random() < 0.5 else ())]
            if process.poll() is not None:
                return "finished"
            kill(victims)
            process.wait()
            check(run, seen, expected, outcome)
            return "killed"
        if process.returncode:
            outcome.failed += 1
            print(process.stderr.read().decode() if process.stderr else "", file=sys.stderr)
        return "finished"


def check(run: Path, seen: Stored, expected: Stored, outcome: Outcome) -> None:
    now = stored(run)
    outcome.kills += 1
    outcome.kills_in_the_midst += 0 < len(now) < len(expected)
    outcome.lost += sum(now.get(key) != answer for key, answer in seen.items())
    outcome.different += sum(expected.get(key) != answer for key, answer in now.items())
    if (run / "labels.sqlite").exists():
        with contextlib.closing(sqlite3.connect(run / "labels.sqlite")) as connection:
            outcome.torn += connection.execute("PRAGMA integrity_check").fetchone() != ("ok",)
            if now:
                (count,) = connection.execute("SELECT count(*) FROM answers").fetchone()
                outcome.doubled += count - len(now)


def stored(run: Path) -> Stored:
    """What another process sees committed, without what depends on the clock."""
    if not (run / "labels.sqlite").exists():
        return {}
    query = "SELECT row_id, sample, content_hash, label, probabilities, outcome, text FROM answers"
    with contextlib.closing(sqlite3.connect(f"file:{run}/labels.sqlite?mode=ro", uri=True)) as connection:
        try:
            return {(row_id, sample): tuple(rest) for row_id, sample, *rest in connection.execute(query)}
        except sqlite3.OperationalError:  # not made yet
            return {}


def command(stage: str, run: Path) -> list[str]:
    return [sys.executable, "-m", "mlxdistill", stage, "config.yaml", "--run-dir", str(run), "--quiet"]


def fresh(folder: Path, number: int) -> Path:
    """A run folder whose rows are drawn and where nothing is labelled yet."""
    run = folder / f"run-{number}"
    shutil.copytree(folder / "ingested", run)
    return run


def children(process: int) -> list[int]:
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(process).children(recursive=True)]
    return []


def kill(processes: Iterable[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def note(outcome: Outcome, kills: int) -> None:
    print(f"{outcome.kills} of {kills} kills, {outcome.rounds} rounds", file=sys.stderr)


if __name__ == "__main__":
    main()
