"""Answers are kept per teacher and prompt, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdistill.errors import DataError, MlxDistillError
from mlxdistill.store import Decision, LabelReader, LabelStore, labels, migrations, opening, records
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.token_logprobs import TokenLogprobs

LABELS = ("ok", "toxic")


def test_answers_come_back_as_they_went_in(tmp_path: Path) -> None:
    wave = [
        Answer("a", "toxic", (0.25, 0.75), seconds=0.5),
        Answer("b", None, None, "unparsable", "no idea"),
        Answer("c", "ok", (1.0, 0.0), "truncated", agreement=0.75, copied_from="a"),
        Answer("c", "toxic", (0.0, 1.0), sample=1),
    ]
    with LabelStore(tmp_path / "labels.sqlite") as store:
        number = store.labeller("teacher", "prompt", LABELS)
        store.add(number, wave, {"a": "1", "b": "2", "c": "3"})
    with LabelStore(tmp_path / "labels.sqlite") as store:
        assert list(store.answers(number)) == wave
        assert store.answered(number, {"a": "1", "b": "2", "c": "other", "d": "4"}) == {("a", 0), ("b", 0)}
    assert stat.S_IMODE((tmp_path / "labels.sqlite").stat().st_mode) == 0o600


@settings(deadline=None)
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
        assert store.answered(first, {"a": "1"}) == {("a", 0)}
        assert store.answered(second, {"a": "1"}) == frozenset()


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


def numbered(count: int, label: str = "ok", sample: int = 0) -> tuple[list[Answer], dict[str, str]]:
    answers = [Answer(f"{number:03}", label, (0.5, 0.5), sample=sample) for number in range(count)]
    return answers, {answer.row_id: "1" for answer in answers}


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_answers_come_in_order_whatever_the_size_of_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(records, "RECORDS_PER_PAGE", size)
    monkeypatch.setattr(records, "IDS_PER_QUERY", size)
    with LabelStore(tmp_path / "labels.sqlite") as store:
        number, other = store.labeller("t", "p", LABELS), store.labeller("t", "other", LABELS)
        for sample in (1, 0):
            wave, hashes = numbered(7, sample=sample)
            store.add(number, reversed(wave), hashes)
        store.add(other, *numbered(9))
        keys = [(answer.row_id, answer.sample) for answer in store.answers(number)]
        assert keys == [(f"{row:03}", sample) for row in range(7) for sample in (0, 1)]
        some = {"006": "1", "002": "1", "003": "changed", "100": "1"}
        keys = [(answer.row_id, answer.sample) for answer in store.answers(number, some)]
        assert keys == [("002", 0), ("002", 1), ("006", 0), ("006", 1)]
        assert store.answered(number, some) == frozenset(keys)


def test_answers_may_be_written_while_others_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RECORDS_PER_PAGE", 2)
    with LabelStore(tmp_path / "labels.sqlite") as store:
        number, made = store.labeller("t", "p", LABELS), store.labeller("made of t", "p", LABELS)
        store.add(number, *numbered(9))
        store.replace(made, (([answer], {answer.row_id: "1"}) for answer in store.answers(number)))
        assert list(store.answers(made)) == list(store.answers(number)) == numbered(9)[0]


def test_answers_made_of_others_replace_those_before_them_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labels, "RECORDS_PER_COMMIT", 2)
    path = tmp_path / "labels.sqlite"

    def until_it_fails() -> Iterator[tuple[list[Answer], dict[str, str]]]:
        yield numbered(7, "toxic")
        raise RuntimeError

    with LabelStore(path) as store:
        number, other = store.labeller("made", "p", LABELS), store.labeller("t", "p", LABELS)
        store.add(other, *numbered(3))
        store.replace(number, [numbered(7, "ok")])
        with pytest.raises(RuntimeError):
            store.replace(number, until_it_fails())
        assert list(store.answers(number)) == numbered(7, "ok")[0]
        store.replace(number, [numbered(4, "toxic")])
        assert list(store.answers(number)) == numbered(4, "toxic")[0]
        store.add(number, [Answer("new", "ok")], {"new": "1"})
        assert store.answered(number, {"000": "1", "new": "1", "006": "1"}) == {("000", 0), ("new", 0)}
        store.begin_asking()
        store.ask({"000": "1", "new": "1", "006": "1"})
        assert store.asked(number, [0]) == (3, {"answered": 2})
        store.forget(number)
        assert list(store.answers(number)) == []
        assert list(store.answers(other)) == numbered(3)[0]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (3,)


def test_the_list_of_rows_asked_about(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        number = store.labeller("t", "p", LABELS)
        store.add(number, [Answer("a", "ok"), Answer("b", None, outcome="unparsable")], {"a": "1", "b": "1"})
        store.begin_asking()
        assert store.ask({"a": "1", "b": "changed"}) == []
        assert store.ask({"a": "1", "c": "1"}) == []
        assert store.ask({"a": "other", "d": "1"}) == ["a"]
        assert store.asked(number, [0, 1]) == (4, {"answered": 1})
        store.begin_asking()
        assert store.asked(number, [0]) == (0, {})


def test_settings_and_description_stay_with_the_labeller(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with LabelStore(path) as store:
        number = store.labeller("t", "p", LABELS, {"name": "big"})
        assert store.settings(number) is None
        store.keep_settings(number, {"n_batch": 512})
        store.labeller("t", "p", LABELS)
        assert store.settings(number) == {"n_batch": 512}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT description FROM labellers").fetchone() == ('{"name": "big"}',)


def test_a_store_of_an_older_version_keeps_its_answers_and_decisions(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrations.m001_answers_and_decisions(connection)
        connection.execute("INSERT INTO decisions VALUES ('a', 'length', 0, 'too short', 1.0)")
        connection.execute("INSERT INTO labellers VALUES (1, 't', 'p', '[\"ok\", \"toxic\"]')")
        connection.execute("INSERT INTO answers VALUES (1, 'a', 0, '1', 0, NULL, 'answered', NULL, 0.5)")
        connection.execute("PRAGMA user_version = 1")
    with LabelStore(path) as store:
        assert list(store.answers(store.labeller("t", "p", LABELS))) == [Answer("a", "ok", seconds=0.5)]
        assert list(store.decisions()) == [Decision("a", "length", False, "too short", 1.0)]


def test_a_wave_that_fails_halfway_leaves_nothing(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        number = store.labeller("t", "p", LABELS)
        with pytest.raises(KeyError):
            store.add(number, [Answer("a", "ok"), Answer("b", "ok")], {"a": "1"})
        store.add(number, [Answer("c", "ok")], {"c": "1"})
        assert [answer.row_id for answer in store.answers(number)] == ["c"]


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
    for wave in range(len(list(store.answers(number))) // 8, 100000):
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
            rows = list(store.answers(store.labeller("t", "p", LABELS)))
            assert len(rows) % 8 == 0
            assert len(rows) // 8 > max(acknowledged, default=-1)


def test_a_store_that_cannot_be_opened_leaves_no_connection(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    for open_it in (LabelStore(path).__enter__, lambda: opening.open_to_read(path)):
        with pytest.raises(DataError):
            open_it()
        assert str(path) not in {file.path for file in psutil.Process().open_files()}


def test_a_store_that_another_program_holds_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LOCK_SECONDS", 0.01)
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
        assert len(list(store.answers(store.labeller("t", "p", LABELS)))) == 2 * 25 * 8
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_whoever_opens_it_to_read_cannot_change_it(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with LabelStore(path) as store:
        store.add(store.labeller("t", "p", LABELS), *numbered(3))
    with contextlib.closing(opening.open_to_read(path)) as connection:
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (3,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM answers")


def test_logprobs_are_kept_apart_from_what_is_usually_read(tmp_path: Path) -> None:
    top = [(np.array([3, 1], np.int32), np.array([-0.25, -2], np.float32))]
    kept = TokenLogprobs.pack([3], top, kept=2, tokenizer=["00c0ffee"])
    path = tmp_path / "labels.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for step in migrations.MIGRATIONS[:4]:
            step(connection)
        connection.execute("INSERT INTO labellers VALUES (1, 't', 'p', '[\"ok\", \"toxic\"]', '{}', NULL, 1)")
        connection.execute("INSERT INTO answers VALUES (1, 'old', 0, '1', 0, NULL, 'answered', 'x', 0.5, NULL, NULL)")
        connection.execute("PRAGMA user_version = 4")
    with LabelStore(path) as store:
        store.add(1, [Answer("new", "ok", text="ok", logprobs=kept)], {"new": "2"})
        hashes = {"old": "1", "new": "2"}
        assert [answer.logprobs for answer in store.answers(1)] == [None, None]
        found = {answer.row_id: answer.logprobs for answer, _ in store.answers_with_hashes(1, hashes, logprobs=True)}
        assert found == {"old": None, "new": kept}
        assert found == {each.row_id: each.logprobs for each, _ in store.answers_with_hashes(1, logprobs=True)}
        assert store.answered(1, hashes) == {("old", 0), ("new", 0)}
        assert store.answered(1, hashes, 2) == {("new", 0)}
        assert store.answered(1, hashes, 3) == frozenset()
        made = store.labeller("made", "p", LABELS, {"made_of": [1]})
        assert (store.made_of(made), store.made_of(1)) == ((1,), ())
    with LabelReader(path) as reader:
        (first, _) = reader.labellers()
        assert reader.statistics(first).answers == 2
        assert reader.answered(first, hashes, 2) == {("new", 0)}
        assert [answer.text for answer in reader.answers(first)] == ["ok", "x"]
