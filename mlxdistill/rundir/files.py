"""Files that are whole or not there.

Everything is written to a temporary file in the same folder, synced, and renamed into place, so that neither a full
disk nor kill -9 leaves half a file under a name that means something. Folders are 0700 and files 0600: rows are
private.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from mlxdistill.errors import DataError, MlxDistillError

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_FREE_SPACE = "free some disk space and run the same command again; nothing finished so far is lost"
_PERMISSIONS = "check the permissions, or choose another place"
_FILE_IN_THE_WAY = "a file stands where a folder should be; move it away, or choose another place"
_MENDS = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EIO: "the disk may be failing; choose another place",
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: "choose a folder on a writable disk",
    errno.EEXIST: _FILE_IN_THE_WAY,
    errno.ENOTDIR: _FILE_IN_THE_WAY,
    errno.EISDIR: "a folder stands where a file should be; move it away, or choose another place",
}
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
F_FULLFSYNC = 51  # <sys/fcntl.h> on macOS; there, fsync alone leaves the data in the drive's cache


def make_folder(path: Path) -> Path:
    """Creates the folder and those of its parents that are missing, all private.

    Raises MlxDistillError where that is not permitted.
    """
    with os_errors(path):
        if not path.is_dir():
            if path.parent != path:
                make_folder(path.parent)
            path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    return path


@contextlib.contextmanager
def os_errors(path: Path, numbers: Collection[int] = tuple(_MENDS)) -> Iterator[None]:
    """Turns the operating system's refusals about `path` into errors a user can act on. `numbers`: which (errno)."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in numbers:
            raise
        reason = (error.strerror or "cannot be written").lower()
        raise MlxDistillError(f"cannot write: {reason}", where=str(path), hint=_MENDS[error.errno]) from error


def sync(file: IO[Any]) -> None:
    """Flushes and forces the file's bytes onto the disk."""
    file.flush()
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(file.fileno(), F_FULLFSYNC)
            return
    os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Forces a rename in this folder onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """A file to write to that appears under `path` only when the block ends without an exception."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "\n")
    with os_errors(path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        # In the block only the disk's own complaints are about this file; others may come from what it reads.
        with os_errors(path, _OF_THE_DISK), os.fdopen(descriptor, mode, encoding=encoding, newline=newline) as file:
            yield file
            sync(file)
        with os_errors(path):
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with atomic_file(path, "w") as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, records: Iterable[Any]) -> None:
    with atomic_file(path, "w") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises DataError where the file is missing or not JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path)) from error
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(
            f"not valid JSON ({error})", where=str(path), hint="the file was edited or cut; make it anew"
        ) from error


def read_jsonl(path: Path) -> Iterator[Any]:
    """The records of a file this program wrote. Raises DataError, with the line, where it was edited or cut."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DataError(
                        "not valid JSON", where=f"{path}:{number}", hint="the file was edited or cut; make it anew"
                    ) from error
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8", where=str(path), hint="the file was edited or cut; make it anew") from error


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
