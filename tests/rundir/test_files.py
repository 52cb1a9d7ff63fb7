"""A file is whole or not there, private, and an error about it can be acted on."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mlxdistill.errors import DataError, MlxDistillError
from mlxdistill.rundir.files import atomic_file, make_folder, read_json, read_jsonl, write_json, write_jsonl


def test_files_and_folders_are_private(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "newer" / "file.json", {"a": 1})
    assert stat.S_IMODE((tmp_path / "new" / "newer" / "file.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new" / "newer").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="half"), atomic_file(path, "w") as file:
        file.write("new")
        raise ValueError("half")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_full_disk_is_one_line_with_a_mend(tmp_path: Path) -> None:
    with pytest.raises(MlxDistillError) as caught, atomic_file(tmp_path / "file", "w"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.message == "cannot write: no space left on device"
    assert "free some disk space" in (caught.value.hint or "")
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(MlxDistillError, match="cannot write"):
        make_folder(tmp_path / "runs" / "demo")


def test_a_cut_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}, {"a": 2}])
    path.write_text(path.read_text()[:-4])
    with pytest.raises(DataError) as caught:
        list(read_jsonl(path))
    assert caught.value.where == f"{path}:2"


def test_json_that_was_edited_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_json(tmp_path / "a.json")


def test_an_error_about_another_file_is_not_blamed_on_this_one(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="other"), atomic_file(tmp_path / "file", "w"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "other")
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    with pytest.raises(MlxDistillError, match="cannot write") as caught:
        write_json(tmp_path / "answers", {})
    assert caught.value.hint == "a folder stands where a file should be; move it away, or choose another place"


FORBIDDEN = """
import os, sys
from pathlib import Path
from mlxdistill.errors import MlxDistillError
from mlxdistill.rundir.files import make_folder
if os.getuid() == 0:
    os.setuid(65534)
try:
    make_folder(Path(sys.argv[1]) / "run" / "rows")
except MlxDistillError as error:
    print(error.message, error.hint, sep="|")
"""


def test_a_folder_that_may_not_be_looked_into_is_said(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    result = subprocess.run([sys.executable, "-c", FORBIDDEN, str(closed)], capture_output=True, text=True)
    assert result.stderr == ""
    assert result.stdout == "cannot write: permission denied|check the permissions, or choose another place\n"


def test_a_file_cut_within_a_letter_is_said(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes('{"text": "ü'.encode()[:-1])
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_jsonl(tmp_path / "rows.jsonl"))
