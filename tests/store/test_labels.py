"""Answers are kept per teacher and prompt, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.errors import DataError, MlxDistillError
from mlxdistill.store import Decision, LabelStore, labels, migrations
from mlxdistill.tasks.protocols import Answer

LABELS = ("ok", "toxic")


def test_answers_come_back_as_they_went_in(tmp_path: Path) -> None:
    wave = [
        Answer("a", "toxic", (0.25, 0.75), seconds=0.5),
        Answer("b", None, None, "unparsable", "no idea"),
        Answer("c", "ok", (1.0, 0.0), "truncated"),
    ]
    with LabelStore(tmp_path / "labels.sqlite") as store:
        number = store.labeller("teacher", "prompt", LABELS)
        store.add(number, wave, {"a": "1", "b": "2", "c": "3"})
    with LabelStore(tmp_path / "labels.sqlite") as store:
        assert list(store.answers(number)) == wave
        assert store.answered(number) == {"a": "1", "b": "2", "c": "3"}
    assert stat.S_IMODE((tmp_path / "labels.sqlite").stat().st_mode) == 0o600


@given(probabilities=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2))
def test_probabilities_are_kept_to_float32(
    tmp_path_factory: pytest.TempPathFactory, probabilities: list[float]
) -> None:
    with LabelStore(tmp_path_factory.mktemp("store") / "labels.sqlite") as store:
        number = store.labeller("t", "p", LABELS)
        store.add(number, [Answer("a", "ok", tuple(probabilities))], {"a": "1"})
        assert next(store.answers(number)).probabilities == tuple(probabilities)


def test_another_prompt_is_another_labeller(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        first, second = store.labeller("t", "p", LABELS), store.labeller("t", "other", LABELS)
        store.add(first, [Answer("a", "ok")], {"a": "1"})
        assert store.labeller("t", "p", LABELS) == first
        assert store.answered(second) == {}


def test_an_answer_to_a_changed_text_replaces_the_old_one(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        number = store.labeller("t", "p", LABELS)
        store.add(number, [Answer("a", "ok")], {"a": "1"})
        store.add(number, [Answer("a", "toxic")], {"a": "2"})
        assert [answer.label for answer in store.answers(number)] == ["toxic"]


def test_the_decisions_of_the_last_filtering_are_in_force_and_those_before_stay(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with LabelStore(path) as store:
        assert list(store.decisions()) == []
        store.add_filtering([Decision("a", "length", False, "too short", 1.0)])
        store.add_filtering([Decision("b", "length", True, "within", None)])
        assert list(store.decisions()) == [Decision("b", "length", True, "within", None)]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT filtering, row_id FROM decisions").fetchall() == [(1, "a"), (2, "b")]


def test_a_store_of_an_older_version_keeps_its_decisions(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrations.m001_answers_and_decisions(connection)
        connection.execute("INSERT INTO decisions VALUES ('a', 'length', 0, 'too short', 1.0)")
        connection.execute("PRAGMA user_version = 1")
    with LabelStore(path) as store:
        assert list(store.decisions()) == [Decision("a", "length", False, "too short", 1.0)]


def test_a_wave_that_fails_halfway_leaves_nothing(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        number = store.labeller("t", "p", LABELS)
        with pytest.raises(KeyError):
            store.add(number, [Answer("a", "ok"), Answer("b", "ok")], {"a": "1"})
        store.add(number, [Answer("c", "ok")], {"c": "1"})
        assert store.answered(number) == {"c": "1"}


def test_a_file_that_is_no_store_is_said(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataError, match="not a label store"), LabelStore(path):
        pass


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "labels.sqlite") as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()
    with pytest.raises(DataError, match="newer"), LabelStore(tmp_path / "labels.sqlite"):
        pass


WRITER = """
import sys
from pathlib import Path
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer
with LabelStore(Path(sys.argv[1])) as store:
    number = store.labeller("t", "p", ["ok", "toxic"])
    for wave in range(len(store.answered(number)) // 8, 100000):
        rows = [f"{wave:06}-{row}" for row in range(8)]
        store.add(number, [Answer(row, "ok", (0.5, 0.5)) for row in rows], dict.fromkeys(rows, "1"))
        print(wave, flush=True)
"""


def test_kill_9_at_any_moment_loses_no_acknowledged_wave_and_tears_none(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    for delay in (0.01, 0.02, 0.03, 0.05, 0.08):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            os.kill(process.pid, 9)
            acknowledged = [int(line) for line in process.stdout.read().split()]
        with LabelStore(path) as store:
            rows = store.answered(store.labeller("t", "p", LABELS))
            assert len(rows) % 8 == 0
            assert len(rows) // 8 > max(acknowledged, default=-1)


def test_a_store_that_cannot_be_opened_leaves_no_connection(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    store = LabelStore(path)
    with pytest.raises(DataError), store:
        pass
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        store._connection.execute("SELECT 1")


def test_a_store_that_another_program_holds_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "LOCK_SECONDS", 0.01)
    path = tmp_path / "labels.sqlite"
    with LabelStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(MlxDistillError, match="database is locked") as caught:
            store.labeller("t", "p", LABELS)
        other.close()
        assert caught.value.where == str(path)
        assert "another program" in (caught.value.hint or "")
        assert store.labeller("t", "p", LABELS) == 1


FORBIDDEN = """
import os, sys
from pathlib import Path
from mlxdistill.errors import MlxDistillError
from mlxdistill.store import LabelStore
folder = Path(sys.argv[1])
os.chdir(folder)
if os.getuid() == 0:
    os.setuid(65534)
try:
    with LabelStore(Path("labels.sqlite")):
        pass
except MlxDistillError as error:
    print(error.where, error.message, error.hint, sep="|")
"""


def test_a_folder_in_which_no_journal_can_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "labels.sqlite").touch()
    (tmp_path / "labels.sqlite").chmod(0o666)
    tmp_path.chmod(0o555)
    try:
        result = subprocess.run([sys.executable, "-c", FORBIDDEN, str(tmp_path)], capture_output=True, text=True)
    finally:
        tmp_path.chmod(0o755)
    assert result.stderr == ""
    where, message, hint = result.stdout.strip().split("|")
    assert where == "labels.sqlite"
    assert message.startswith("cannot use the label store: ")
    assert "permissions" in hint


SHARER = """
import sys
from pathlib import Path
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer
with LabelStore(Path(sys.argv[1])) as store:
    number = store.labeller("t", "p", ["ok", "toxic"])
    for wave in range(25):
        rows = [f"{sys.argv[2]}-{wave:06}-{row}" for row in range(8)]
        store.add(number, [Answer(row, "ok", (0.5, 0.5)) for row in rows], dict.fromkeys(rows, "1"))
"""


def test_two_processes_write_one_store_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", SHARER, str(path), name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    with LabelStore(path) as store:
        assert len(store.answered(store.labeller("t", "p", LABELS))) == 2 * 25 * 8
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
