"""How the label store's file is opened, to write or only to read, and what SQLite's refusals mean to a user.

SQLite in WAL mode: a commit is whole or not there, and readers see the last one while another process writes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from mlxdistill.errors import DataError, MlxDistillError
from mlxdistill.rundir.files import FILE_MODE, make_folder, os_errors
from mlxdistill.store.migrations import MIGRATIONS, migrate

LOCK_SECONDS = 5.0
CACHE_KIB = 65536  # most memory that pages of the file take in this process
_FREE_SPACE = "free some disk space and run the same command again; every answer committed so far is kept"
_PERMISSIONS = "check the permissions of the file and its folder, or choose another place"
_MENDS = {  # by what SQLite's message holds
    "full": _FREE_SPACE,
    "disk I/O": _FREE_SPACE,
    "readonly": _PERMISSIONS,
    "unable to open": _PERMISSIONS,
    "locked": "another program has it open; close that and run the same command again",
}


@contextlib.contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turns SQLite's refusals into errors a user can act on.

    Raises DataError where the file is not a label store or is damaged, MlxDistillError where the disk is full, the file
    may not be read or written, or another program holds it.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        hint = next((mend for words, mend in _MENDS.items() if words in str(error)), None)
        if hint is None:
            raise
        raise MlxDistillError(f"cannot use the label store: {error}", where=str(path), hint=hint) from error
    except sqlite3.DatabaseError as error:
        hint = "move the file away; its rows will be labelled anew"
        raise DataError(f"not a label store, or damaged ({error})", where=str(path), hint=hint) from error


def open_to_write(path: Path) -> sqlite3.Connection:
    """The store at `path`, made where there is none and brought to the present shape. Raises as `database_errors`."""
    make_folder(path.parent)
    with os_errors(path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE))
    with database_errors(path):
        connection = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # on macOS, fsync alone leaves a commit in the drive's cache
            connection.execute(f"PRAGMA main.cache_size = -{CACHE_KIB}")
            connection.execute(f"PRAGMA temp.cache_size = -{CACHE_KIB // 8}")
            if _version(connection, path) < len(MIGRATIONS):
                migrate(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """The store at `path`, to look at while others may write it. Raises as `database_errors`."""
    # Where nobody can write, nobody does, and SQLite need not keep account of readers beside the file.
    still = "" if os.access(path.parent, os.W_OK) or path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
    with database_errors(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{still}", uri=True, timeout=LOCK_SECONDS)
        try:
            older = _version(connection, path) < len(MIGRATIONS)
        except BaseException:
            connection.close()
            raise
    if older:  # what an earlier version wrote gets the present shape first
        connection.close()
        open_to_write(path).close()
        return open_to_read(path)
    return connection


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise DataError(
            "this label store was written by a newer mlxdistill", where=str(path), hint="upgrade mlxdistill"
        )
    return version
