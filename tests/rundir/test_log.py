"""The log is read as it was written, also after a crash."""

from __future__ import annotations

from pathlib import Path

from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.log import log_event, read_events


def test_a_line_separator_inside_a_string_ends_no_line(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    log_event(run, "note", message="one\u2028two\x85three")
    log_event(run, "other")
    assert [event["message"] for event in read_events(run, "note")] == ["one\u2028two\x85three"]


def test_a_last_line_cut_within_a_letter_is_left_out(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    log_event(run, "note", message="whole")
    whole = run.log.read_bytes()
    log_event(run, "note", message="ü")
    cut = run.log.read_bytes().index("ü".encode()) + 1
    run.log.write_bytes(run.log.read_bytes()[:cut])
    assert run.log.read_bytes().startswith(whole)
    assert [event["message"] for event in read_events(run, "note")] == ["whole"]
