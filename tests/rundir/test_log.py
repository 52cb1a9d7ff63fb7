"""Each event is one line, whatever its strings hold."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.log import log_event


def test_every_event_is_a_line_of_its_own_in_order(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    messages = ["one\u2028two\x85three", "four\nfive\r\nsix", "ü"]
    for message in messages:
        log_event(run, "note", message=message)
    *lines, last = run.log.read_bytes().split(b"\n")
    events = [json.loads(line) for line in lines]
    assert last == b""
    assert [(event["event"], event["message"]) for event in events] == [("note", message) for message in messages]
    assert events[0]["time"] <= events[1]["time"] <= events[2]["time"]
    assert stat.S_IMODE(run.log.stat().st_mode) == 0o600
