"""Run folders for the tests of `review`: labelled, filtered and evaluated by hand, without any model."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdistill.rundir.files import write_jsonl
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest, Work
from mlxdistill.store import Decision, LabelReader, LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, content_hash, write_rows

LABELS = ("ok", "toxic")
CONFIG = """\
name: small
task:
  instruction: Decide whether the comment is toxic.
  labels: {{{labels}}}
data: {{source: rows.jsonl, fields: {{text: text}}}}
teacher: {{model: teacher.gguf}}
student: {{model: student}}
"""


def probabilities(label: str, share: float, labels: Sequence[str] = LABELS) -> tuple[float, ...]:
    rest = (1 - share) / (len(labels) - 1)
    return tuple(share if name == label else rest for name in labels)


def answer(row_id: str, label: str | None, share: float = 0.9, labels: Sequence[str] = LABELS, **more: Any) -> Answer:
    shares = None if label is None else probabilities(label, share, labels)
    return Answer(row_id, label, shares, "answered" if label else "unparsable", **more)


def make_run(
    folder: Path,
    sets: Mapping[str, Sequence[Row]],
    answers: Sequence[Answer],
    *,
    labels: Sequence[str] = LABELS,
    decisions: Sequence[Decision] = (),
    predictions: Sequence[Mapping[str, Any]] = (),
    opinions: Mapping[str, Sequence[Answer]] | None = None,
) -> RunDir:
    """A run folder after `eval`.

    Args:
        sets: `pool`, `valid`, `test_indist`, `test_balanced`; those left out are empty, or absent.
        opinions: by teacher, the answers that `answers` were made of.
    """
    run = RunDir(folder)
    names = ", ".join(f'"{label}": "what {label} means"' for label in labels)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text('{"text": "x"}\n')
    run.config.write_text(CONFIG.format(labels=names), "utf-8")
    paths = {"pool": run.pool, "valid": run.valid, **run.test_sets}
    for name, rows in {"pool": (), "valid": (), **sets}.items():
        write_rows(paths[name], list(rows))
    hashes = {row.id: content_hash(row.text) for rows in sets.values() for row in rows}
    with LabelStore(run.labels) as store:
        members = []
        for name, given in (opinions or {}).items():
            member = store.labeller(f"fingerprint of {name}", "prompt", labels, {"name": name})
            store.add(member, given, hashes)
            members.append(member)
        made_of = {"made_of": members} if members else {}
        number = store.labeller("fingerprint", "prompt", labels, {"name": "teacher", **made_of})
        store.add(number, answers, hashes)
        store.add_filtering(decisions)
    if predictions:
        write_jsonl(run.predictions, predictions)
    finish(run, "label", {"labeller": number})
    return run


def finish(run: RunDir, stage: str, figures: Mapping[str, Any] | None = None) -> None:
    manifest = Manifest(run)
    manifest.finish(stage, manifest.start(stage, {}), (), Work(0, 0), figures or {})


def rows_of(count: int, start: int = 0, **more: Any) -> list[Row]:
    return [Row(f"row-{number}", f"Comment number {number}.", **more) for number in range(start, start + count)]


def people_in(run: RunDir) -> dict[str, str | None]:
    """Row id -> the label a person gave it, None where the person was unsure."""
    with LabelReader(run.labels) as reader:
        return {row_id: entry.label for row_id, entry in reader.people().items()}


@dataclass(slots=True)
class Server:
    process: subprocess.Popen[str]
    link: str

    @property
    def port(self) -> int:
        return int(re.search(r":(\d+)/", self.link).group(1))  # type: ignore[union-attr]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def end(self) -> tuple[str, str]:
        """Ctrl-C; what it printed to stdout and stderr after the link."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=20)


@contextlib.contextmanager
def reviewing(run: RunDir, *arguments: str) -> Iterator[Server]:
    """`mlxdistill review RUN`, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlxdistill", "review", str(run.path), "--no-open", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        found = re.search(r"http://\S+", first)
        assert found, first + process.stderr.read()
        yield Server(process, found.group())
    finally:
        process.kill()
        process.communicate()
