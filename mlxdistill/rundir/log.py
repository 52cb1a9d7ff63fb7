"""`log.jsonl`: events and figures of a run, one JSON object a line, never the text of a row."""

from __future__ import annotations

import datetime
import errno
import json
import os
from collections.abc import Iterator
from typing import Any

from mlxdistill.rundir.files import FILE_MODE, os_errors
from mlxdistill.rundir.layout import RunDir


def log_event(run: RunDir, event: str, **figures: Any) -> None:
    """Appends one event. A line is written in one call, so that a crash cannot leave half of it before another.

    Raises MlxDistillError where the disk refuses; what it took of the line then spoils no other.
    """
    record = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"), "event": event, **figures}
    line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
    with os_errors(run.log):
        descriptor = os.open(run.log, os.O_RDWR | os.O_CREAT | os.O_APPEND, FILE_MODE)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)


def read_log(run: RunDir) -> Iterator[dict[str, Any]]:
    """The events so far, oldest first; a line that a full disk has cut is passed over."""
    if not run.log.exists():
        return
    with run.log.open("rb") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record
