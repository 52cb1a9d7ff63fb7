"""One process owns a run folder.

flock, not a file's existence: the system lets go of it when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from mlxdistill.errors import MlxDistillError
from mlxdistill.rundir.files import FILE_MODE, make_folder, os_errors
from mlxdistill.rundir.layout import RunDir


@contextlib.contextmanager
def locked(run: RunDir) -> Iterator[None]:
    """Holds the run folder for this process. Raises MlxDistillError where another one has it."""
    make_folder(run.path)
    with os_errors(run.lock):
        descriptor = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise MlxDistillError(
                f"another mlxdistill (process {owner}) is using this run folder",
                where=str(run.path),
                hint="wait for it to end, or choose another folder with --run-dir",
            ) from None
        with os_errors(run.lock):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
