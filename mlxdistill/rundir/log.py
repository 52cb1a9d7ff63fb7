"""`log.jsonl`: events and figures of a run, one JSON object a line, never the text of a row."""

from __future__ import annotations

import datetime
import json
import os
from typing import Any

from mlxdistill.rundir.files import FILE_MODE, os_errors
from mlxdistill.rundir.layout import RunDir


def log_event(run: RunDir, event: str, **figures: Any) -> None:
    """Appends one event. A line is written in one call, so that a crash cannot leave half of it before another."""
    record = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"), "event": event, **figures}
    with os_errors(run.log):
        descriptor = os.open(run.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
        try:
            os.write(descriptor, (json.dumps(record, ensure_ascii=False) + "\n").encode())
        finally:
            os.close(descriptor)
