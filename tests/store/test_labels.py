"""Answers are kept per teacher and prompt, whole or not at all."""

from __future__ import annotations

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

from mlxdistill.errors import DataError
from mlxdistill.store import Decision, LabelStore
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


def test_decisions_replace_those_of_the_run_before(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        store.replace_decisions([Decision("a", "length", False, "too short", 1.0)])
        store.replace_decisions([Decision("b", "length", True, "within", None)])
        assert list(store.decisions()) == [Decision("b", "length", True, "within", None)]


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
