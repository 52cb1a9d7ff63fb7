#!/usr/bin/env python3
"""Stops a training at random moments, over and over, and checks that it ends as if it had never been stopped.

    python scripts/soak_train.py                   # 50 stops, on the embedded student
    python scripts/soak_train.py --model FOLDER    # on another one

An undisturbed run of `mlxdistill train --model --data`, with dropout, AdamW, and steps of several parts, says what the
adapter, the history of losses and the log should be. Then the same command is started and stopped: kill -9 of the
command, of the model's process or of both, Ctrl-C, and SIGTERM; at random times, or as soon as a checkpoint is being
written. Between two starts a byte of the newest checkpoint is flipped now and then. A round ends when the command has
come to its end: then the adapter's bytes, the history and the log must be those of the undisturbed run, and nothing
half-written may lie about. Prints one JSON object; exits 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mlxdistill.demo import HERE

SETTINGS = (
    *("student.lora.rank=4", "student.lora.dropout=0.1", "train.learning_rate=0.001", "train.weight_decay=0.01"),
    *("train.epochs=2", "train.batch_size=6", "train.batch_tokens=128", "train.warmup=0.1"),
    *("train.validations_per_epoch=5", "train.patience=100"),
)
ADAPTER = ("adapters.safetensors", "adapter_config.json")
OF_TIME = ("time", "tokens_per_second", "peak_memory_bytes")
MOMENTS = ("any", "while it trains", "in a save")
MOST_STOPS_PER_ROUND = 8
DAMAGED_SHARE = 0.25


@dataclass(frozen=True)
class Stop:
    """A way to stop a command: which signal, to whom, and with which exit codes it may then end."""

    signal: int
    command: bool
    child: bool
    codes: tuple[int, ...]


STOPS = {
    "kill -9 of the command": Stop(signal.SIGKILL, True, False, (-9,)),
    "kill -9 of the model's process": Stop(signal.SIGKILL, False, True, (1,)),
    "kill -9 of both": Stop(signal.SIGKILL, True, True, (-9,)),
    "Ctrl-C": Stop(signal.SIGINT, True, False, (130,)),
    # Before the model's process is started nothing is to be saved, and the signal does what it does to any program.
    "SIGTERM": Stop(signal.SIGTERM, True, False, (130, -signal.SIGTERM)),
}


@dataclass
class Outcome:
    """What was seen. Those from `different_adapters` on should be 0.

    Attributes:
        stops: by kind; `in_a_save`: while a checkpoint was half written; `in_the_midst`: when some steps were done.
        rounds: how often the training came to its end.
        damaged: checkpoints of which a byte was flipped; `recognised`: of which the command said so.
        unexpected: commands that ended with another exit code than they should, or with a traceback.
        left_behind: rounds after which half-written files lay about.
    """

    stops: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STOPS, 0))
    in_a_save: int = 0
    in_the_midst: int = 0
    rounds: int = 0
    damaged: int = 0
    recognised: int = 0
    different_adapters: int = 0
    different_histories: int = 0
    different_logs: int = 0
    unrecognised: int = 0
    unexpected: int = 0
    left_behind: int = 0

    @property
    def wrong(self) -> bool:
        found = asdict(self)
        return any(found[name] for name in list(found)[list(found).index("different_adapters") :])


@dataclass(frozen=True)
class Left:
    """What a finished training leaves, without what depends on the clock."""

    adapter: tuple[bytes, ...]
    history: Any
    log: list[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how often to stop it")
    parser.add_argument("--model", default="embedded:student", help="the folder of an MLX model")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcome = Soak(Path(folder), arguments.model, arguments.rows, random.Random(arguments.seed)).run(
            arguments.kills
        )
    print(json.dumps({**asdict(outcome), "seconds": round(time.monotonic() - began, 1)}, indent=2))
    sys.exit(outcome.wrong)


class Soak:
    """Trainings on `rows` of the demo's rows, in folders below `folder`."""

    def __init__(self, folder: Path, model: str, rows: int, rng: random.Random) -> None:
        self.folder = folder
        self.model = model
        self.rng = rng
        self.outcome = Outcome()
        self.damage_waits = False
        lines = (HERE / "messages.jsonl").read_text("utf-8").splitlines()
        chosen = [json.loads(line) for line in rng.sample(lines, rows + rows // 4)]
        examples = [json.dumps({"prompt": row["text"], "completion": row["label"]}) for row in chosen]
        (folder / "data").mkdir()
        (folder / "data" / "train.jsonl").write_text("\n".join(examples[:rows]) + "\n", "utf-8")
        (folder / "data" / "valid.jsonl").write_text("\n".join(examples[rows:]) + "\n", "utf-8")

    def run(self, stops: int) -> Outcome:
        began = time.monotonic()
        with self.start(self.folder / "undisturbed") as process:
            out, errors = process.communicate()
        if process.returncode:
            sys.exit(f"the undisturbed training failed: {errors}")
        self.usual_seconds = time.monotonic() - began
        expected = left_by(self.folder / "undisturbed", out)
        while sum(self.outcome.stops.values()) < stops and not self.outcome.wrong:
            self.round(stops, expected)
            print(f"{sum(self.outcome.stops.values())} of {stops} stops", file=sys.stderr)
        return self.outcome

    def round(self, stops: int, expected: Left) -> None:
        """Stops one training until it has come to its end."""
        run = self.folder / f"round-{self.outcome.rounds}"
        for number in range(MOST_STOPS_PER_ROUND + 1):
            done = number == MOST_STOPS_PER_ROUND or sum(self.outcome.stops.values()) == stops
            with self.start(run) as process:
                stopped = None if done else self.stop(process, run)
                out, errors = process.communicate()
            self.look_at_damage(errors)
            if process.returncode == 0:
                break
            if stopped is None or process.returncode not in STOPS[stopped].codes or "Traceback" in errors:
                self.outcome.unexpected += 1
                print(f"{stopped}: exit code {process.returncode}\n{errors}", file=sys.stderr)
                return
            self.outcome.stops[stopped] += 1
            self.maybe_damage(run)
        self.outcome.rounds += 1
        self.outcome.unrecognised += self.damage_waits
        self.damage_waits = False
        found = left_by(run, out)
        self.outcome.different_adapters += found.adapter != expected.adapter
        self.outcome.different_histories += found.history != expected.history
        self.outcome.different_logs += found.log != expected.log
        for one, other in zip(found.log, expected.log, strict=False):
            if one != other:
                print(f"in the log: {one}, should be {other}", file=sys.stderr)
                break
        self.outcome.left_behind += any(path.suffix in (".tmp", ".old") for path in run.rglob(".*"))
        shutil.rmtree(run)

    def start(self, run: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mlxdistill", "train", "--model", self.model, "--data", "data", "--json"]
        command += ["--adapter-path", str(run)]
        for setting in SETTINGS:
            command += ["--set", setting]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def stop(self, process: subprocess.Popen[str], run: Path) -> str | None:
        """Waits for a moment and sends a signal. Returns how it was stopped, None where it had ended before."""
        kind = self.rng.choice(list(STOPS))
        moment = self.rng.choice(MOMENTS)
        limit = time.monotonic() + self.rng.uniform(0.1, 0.9) * self.usual_seconds
        half_written = False
        before = newest(run)
        while process.poll() is None and (time.monotonic() < limit or not (run / ".lock").exists()):
            if moment == "in a save" and (half_written := any(run.glob("checkpoints/.*.tmp"))):
                break
            if moment == "while it trains" and newest(run) > before:
                moment = "any"
                limit = time.monotonic() + self.rng.uniform(0.0, 0.1) * self.usual_seconds
            if moment != "any":
                limit = time.monotonic() + 1
            time.sleep(0.001)
        victims = children(process.pid) if STOPS[kind].child else []
        if STOPS[kind].child and not victims:  # not started yet
            kind = "kill -9 of the command"
        if process.poll() is not None:
            return None
        way = STOPS[kind]
        self.outcome.in_a_save += half_written
        self.outcome.in_the_midst += any(run.glob("checkpoints/[0-9]*"))
        for victim in [*victims, *([process.pid] if way.command else [])]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, way.signal)
        return kind

    def maybe_damage(self, run: Path) -> None:
        """Flips a bit of the newest checkpoint, now and then; not while the last one's has not been noticed."""
        checkpoints = sorted(run.glob("checkpoints/[0-9]*"))
        if self.damage_waits or not checkpoints or self.rng.random() > DAMAGED_SHARE:
            return
        files = sorted(path for path in checkpoints[-1].iterdir() if path.name != "manifest.json")
        file = self.rng.choice(files)
        content = bytearray(file.read_bytes())
        content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
        file.write_bytes(content)
        self.outcome.damaged += 1
        self.damage_waits = True

    def look_at_damage(self, errors: str) -> None:
        if self.damage_waits and "is damaged" in errors:
            self.outcome.recognised += 1
            self.damage_waits = False


def left_by(run: Path, out: str) -> Left:
    result = json.loads(out)
    losses = [{name: value for name, value in event.items() if name not in OF_TIME} for event in result["losses"]]
    log: list[Any] = []
    for line in (run / "log.jsonl").read_text("utf-8").splitlines():
        event = {name: value for name, value in json.loads(line).items() if name not in OF_TIME}
        if event["event"] != "training_started":  # said each time; everything else once
            log.append(event)
        elif event["step"] == 0:  # from nothing: there was no checkpoint yet, or the only one was damaged
            log.clear()
    history = [result["steps"], result["best_step"], result["history"], losses]
    return Left(tuple((run / name).read_bytes() for name in ADAPTER), history, log)


def newest(run: Path) -> int:
    return max((int(path.name) for path in run.glob("checkpoints/[0-9]*")), default=0)


def children(process: int) -> list[int]:
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(process).children(recursive=True)]
    return []


if __name__ == "__main__":
    main()
