"""Ranks share one labelling job: the same answers to the last bit, and a rank that dies loses nothing but time."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.errors import MlxDistillError, ModelError
from mlxdistill.platform.ranks import dismiss
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer, Progress
from mlxdistill.tasks.rows import Row
from mlxdistill.teacher import ranks as shared_labelling
from mlxdistill.teacher.label import label_rows
from mlxdistill.teacher.ranks import SharedLabeller, serve

LABELS = ("ok", "toxic")
CHUNK = 8


class Meeting:
    """Stands for MLX's collectives: threads of one process as ranks."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=20)
        self.said: list[Any] = [None] * size

    def rank(self, number: int) -> Any:
        return RankOfMeeting(self, number)


class RankOfMeeting:
    def __init__(self, meeting: Meeting, rank: int) -> None:
        self._meeting, self.rank, self.size, self.host = meeting, rank, meeting.size, f"mac-{rank}"

    def gather(self, message: Any) -> list[Any]:
        self._meeting.said[self.rank] = json.dumps(message)
        self._meeting.barrier.wait()
        heard = [json.loads(each) for each in self._meeting.said]
        self._meeting.barrier.wait()
        return heard

    def broadcast(self, message: Any = None) -> Any:
        return self.gather(message)[0]


class FakeLabeller:
    """Answers by the text's length; remembers what it was asked. Its settings are known after the first answers."""

    prompt_fingerprint = "prompt"

    def __init__(self, fingerprint: str = "model", seconds: float = 1.0, dies_after: int | None = None) -> None:
        self.fingerprint = fingerprint
        self.samples = (0, 1)
        self.settings: Mapping[str, Any] | None = None
        self.prepared: list[Any] = []
        self.asked: list[list[str]] = []
        self._seconds = seconds
        self._dies_after = dies_after

    def __enter__(self) -> FakeLabeller:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def prepare(self, rows: int, settings: Mapping[str, Any] | None) -> None:
        self.prepared.append((rows, settings))

    def label(
        self, rows: Sequence[Row], done: frozenset[tuple[str, int]], progress: Progress
    ) -> Iterator[list[Answer]]:
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            if all((row.id, sample) in done for row in chunk for sample in self.samples):
                continue
            self.asked.append([row.id for row in chunk])
            if self._dies_after is not None and len(self.asked) > self._dies_after:
                raise MlxDistillError("this machine has died")
            self.settings = {"n_batch": 512}
            shares = {row.id: len(row.text) / 64 for row in chunk}
            yield [
                Answer(row.id, "ok", (share, 1 - share), seconds=self._seconds, sample=sample)
                for row in chunk
                for sample in self.samples
                if (row.id, sample) not in done and (share := shares[row.id])
            ]


ROWS = [Row(f"{number:03}", "x" * (1 + number % 60)) for number in range(60)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_labelling, "CHUNK_ROWS", CHUNK)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def work(
    path: Path, labellers: Sequence[FakeLabeller], progress: Progress, pieces: int = 1
) -> tuple[list[Answer], list[BaseException]]:
    """All ranks label ROWS, in threads; returns what is in the store, and what the other ranks raised."""
    meeting = Meeting(len(labellers))
    raised: list[BaseException] = []

    def help_rank_0(rank: int) -> None:
        try:
            serve(meeting.rank(rank), lambda name: labellers[rank], LABELS)
        except MlxDistillError as error:
            raised.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=help_rank_0, args=(rank,)) for rank in range(1, len(labellers))]
    for thread in threads:
        thread.start()
    try:
        with LabelStore(path) as store:
            number = store.labeller("model", "prompt", LABELS)
            ranks = meeting.rank(0)
            shared = SharedLabeller(
                labellers[0], ranks, teacher="teacher", labels=LABELS, store=store, number=number, job="job"
            )
            size = len(ROWS) // pieces
            for start in range(0, len(ROWS), size):
                label_rows(shared, number, ROWS[start : start + size], len(ROWS), store, progress)
            dismiss(ranks)
    except threading.BrokenBarrierError as error:
        raised.append(error)
    finally:
        for thread in threads:
            thread.join(20)
    with LabelStore(path) as store:
        return list(store.answers(1)), raised


def alone(path: Path, progress: Progress) -> list[Answer]:
    with LabelStore(path) as store:
        number = store.labeller("model", "prompt", LABELS)
        label_rows(FakeLabeller(), number, ROWS, len(ROWS), store, progress)
        return list(store.answers(number))


def test_ranks_give_the_answers_of_one_and_ask_whole_chunks_once(tmp_path: Path, progress: Progress) -> None:
    labellers = [FakeLabeller() for _ in range(3)]
    answers, raised = work(tmp_path / "shared.sqlite", labellers, progress)
    assert (answers, raised) == (alone(tmp_path / "alone.sqlite", progress), [])
    chunks = [[row.id for row in ROWS[start : start + CHUNK]] for start in range(0, len(ROWS), CHUNK)]
    assert sorted(chunk for labeller in labellers for chunk in labeller.asked) == chunks
    assert [len(labeller.asked) for labeller in labellers] == [3, 3, 2]
    assert [labeller.prepared[-1] for labeller in labellers[1:]] == [(60, {"n_batch": 512})] * 2
    assert not (tmp_path / "cache" / "mlxdistill" / "journals" / "job").exists()


def test_a_slower_rank_gets_a_smaller_share_of_the_next_piece(tmp_path: Path, progress: Progress) -> None:
    fast, slow = FakeLabeller(seconds=1.0), FakeLabeller(seconds=3.0)
    work(tmp_path / "shared.sqlite", [fast, slow], progress, pieces=2)
    assert (len(fast.asked), len(slow.asked)) == (2 + 3, 2 + 1)


def test_what_is_answered_already_is_not_asked_again(tmp_path: Path, progress: Progress) -> None:
    path = tmp_path / "shared.sqlite"
    before = alone(path, progress)
    labellers = [FakeLabeller(), FakeLabeller()]
    answers, raised = work(path, labellers, progress)
    assert (answers, raised, [labeller.asked for labeller in labellers]) == (before, [], [[], []])


def test_what_a_rank_had_answered_when_it_died_is_gathered_at_the_next_attempt(
    tmp_path: Path, progress: Progress
) -> None:
    path = tmp_path / "shared.sqlite"
    kept, raised = work(path, [FakeLabeller(), FakeLabeller(dies_after=2)], progress)
    assert [type(error) for error in raised] == [MlxDistillError, threading.BrokenBarrierError]
    assert len(kept) == 2 * (4 * CHUNK)
    journal = tmp_path / "cache" / "mlxdistill" / "journals" / "job" / "rank-1.sqlite"
    assert journal.stat().st_mode & 0o777 == 0o600
    assert journal.parent.stat().st_mode & 0o777 == 0o700
    journal.rename(journal.with_name("rank-7.sqlite"))  # it had another number then
    again = [FakeLabeller(), FakeLabeller()]
    answers, raised = work(path, again, progress)
    assert (answers, raised) == (alone(tmp_path / "alone.sqlite", progress), [])
    assert sum(len(chunk) for labeller in again for chunk in labeller.asked) == len(ROWS) - 6 * CHUNK
    assert not journal.parent.exists()


def test_a_rank_that_never_comes_back_is_done_without(tmp_path: Path, progress: Progress) -> None:
    path = tmp_path / "shared.sqlite"
    work(path, [FakeLabeller(), FakeLabeller(dies_after=2)], progress)
    assert alone(path, progress) == alone(tmp_path / "alone.sqlite", progress)


def test_a_journal_of_other_settings_or_older_than_the_store_changes_nothing(
    tmp_path: Path, progress: Progress
) -> None:
    path = tmp_path / "shared.sqlite"
    folder = tmp_path / "cache" / "mlxdistill" / "journals" / "job"
    before = alone(path, progress)
    for name, settings in (("rank-1", {"n_batch": 512}), ("rank-2", {"n_batch": 1})):
        with LabelStore(folder / f"{name}.sqlite") as journal:
            number = journal.labeller("model", "prompt", LABELS)
            journal.add(number, [Answer("000", "toxic"), Answer(name, "toxic")], {"000": "other", name: "1"})
            journal.keep_settings(number, settings)
    labellers = [FakeLabeller(), FakeLabeller()]
    answers, _ = work(path, labellers, progress)
    assert [labeller.asked for labeller in labellers] == [[], []]
    assert [answer for answer in answers if not answer.row_id.startswith("rank")] == before
    assert [answer.row_id for answer in answers if answer.row_id.startswith("rank")] == ["rank-1"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (FakeLabeller("another model"), "it has another model file, llama-cpp-python or teacher setting"),
        (None, "no such model"),
    ],
)
def test_a_rank_that_would_answer_differently_is_refused(
    tmp_path: Path, progress: Progress, other: FakeLabeller | None, said: str
) -> None:
    meeting = Meeting(2)

    def open_teacher(name: str) -> FakeLabeller:
        assert name == "big"
        if other is None:
            raise ModelError("no such model", where="big.gguf", hint="pull it")
        return other

    thread = threading.Thread(target=serve, args=(meeting.rank(1), open_teacher, LABELS))
    thread.start()
    with LabelStore(tmp_path / "labels.sqlite") as store, pytest.raises(ModelError, match=said) as caught:
        number = store.labeller("model", "prompt", LABELS)
        SharedLabeller(
            FakeLabeller(), meeting.rank(0), teacher="big", labels=LABELS, store=store, number=number, job="job"
        )
    thread.join(20)
    assert not thread.is_alive()
    assert (caught.value.where or "").startswith("rank 1 on mac-1")
    assert caught.value.hint


ALL = 1400  # a chunk for rank 0, and a smaller one for rank 1
CONFIG = """\
name: small
task:
  instruction: Is it toxic?
  labels: {ok: fine, toxic: bad}
data:
  source: rows.jsonl
  fields: {text: text, id: id, gold: gold}
  valid: 20
  test: {indist: 20, balanced: 20}
teacher: {model: MODEL, n_ctx: 256, threads: 1}
student: {model: embedded:student}
"""


@pytest.fixture
def task(tmp_path: Path, tiny_gguf: Path) -> Path:
    rng = random.Random(0)
    words = ["card", "stolen", "lost", "money", "my", "the", "a", "text", "of", "ok", "toxic"]
    rows = [
        {"id": f"{number:04}", "text": f"{number} {' '.join(rng.choices(words, k=4))}", "gold": LABELS[number % 2]}
        for number in range(ALL)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (tmp_path / "config.yaml").write_text(CONFIG.replace("MODEL", str(tiny_gguf)), "utf-8")
    return tmp_path


def command(stage: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "mlxdistill", stage, "config.yaml", "--run-dir", str(folder)]


def launched(stage: str, folder: Path) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = str(Path(sys.executable).with_name("mlx.launch"))
    return [launch, "-n", "2", "--backend", "ring", "--starting-port", port, "--", *command(stage, folder)]


def run(task: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=task, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )


def stored(path: Path) -> list[tuple[Any, ...]]:
    query = "SELECT row_id, sample, content_hash, label, probabilities, outcome FROM answers ORDER BY row_id, sample"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_ranks_of_mlx_launch_one_of_them_killed_and_started_again(task: Path) -> None:
    assert run(task, command("ingest", task / "shared")).returncode == 0
    shutil.copytree(task / "shared", task / "alone")
    assert run(task, command("label", task / "alone")).returncode == 0
    expected = stored(task / "alone" / "labels.sqlite")
    assert len(expected) == ALL
    journals = task / "cache" / "mlxdistill" / "journals"

    def held() -> int:
        return sum(len(stored(path)) for path in journals.glob("*/rank-1.sqlite"))

    process = subprocess.Popen(
        launched("label", task / "shared"), cwd=task, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with process:
        wait_until(lambda: held() >= 30 or process.poll() is not None)
        (rank_1,) = (each for each in ranks_of(task / "shared") if not holds_lock(each, task / "shared"))
        os.kill(rank_1, signal.SIGKILL)
        _, stderr = process.communicate(timeout=120)
    assert "rank 1 exited with code -9" in stderr
    lost = held()
    before = stored(task / "shared" / "labels.sqlite")
    assert lost >= 30
    assert len(before) + lost < ALL
    assert set(before) <= set(expected)
    result = run(task, launched("label", task / "shared"))
    assert "2 ranks label together" in result.stderr
    assert f"{ALL - len(before) - lost:,} rows labelled, {len(before) + lost:,} from the store" in result.stderr
    assert stored(task / "shared" / "labels.sqlite") == expected
    assert list(journals.iterdir()) == []


def ranks_of(folder: Path) -> list[int]:
    import psutil

    return [
        each.pid
        for each in psutil.process_iter(["cmdline"])
        if str(folder) in (each.info["cmdline"] or ()) and "mlxdistill" in each.info["cmdline"][2:3]
    ]


def holds_lock(process: int, folder: Path) -> bool:
    return (folder / ".lock").read_text() == str(process)
