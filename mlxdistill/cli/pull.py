"""`mlxdistill pull MODEL`: the only command that uses the network."""

from __future__ import annotations

import contextlib
import errno
import glob
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import typer

from mlxdistill.cli.options import Debug, Quiet
from mlxdistill.errors import MlxDistillError, ModelError, UsageError

_PART = re.compile(r"-\d{5}(-of-\d{5}\.gguf)$")
# What a model is made of. Python files, pickles and anything else that could run are never fetched.
STUDENT_FILES = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt")


def register(app: typer.Typer) -> None:
    app.command("pull")(pull)


def pull(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A hub id: org/name, for a GGUF also org/name:file.gguf.")
    ],
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Get a model from the Hugging Face hub, and check it. Safetensors and GGUF only."""
    from mlxdistill.cli.console import print_lines, print_note
    from mlxdistill.platform.models import is_hub_id
    from mlxdistill.student.base import check_configuration

    repository, _, file = model.partition(":")
    if not is_hub_id(repository):
        raise _no_hub_id(model)
    files = _wanted_files(repository, file)
    before = _cached(repository)
    if configuration := [name for name in files if name.endswith(".json")]:
        folder = _download(repository, configuration, quiet=quiet)
        with _removed_if_refused(repository, before):
            check_configuration(folder, model)  # before the gigabytes
    _download(repository, files, quiet=quiet)
    with _removed_if_refused(repository, before):
        path = _check(model, files)
    if problem := _template_problem(path, model):
        print_note(problem)
    print_lines([str(path)])


def _no_hub_id(model: str) -> UsageError:
    return UsageError(f"{model!r} is no hub id", hint="write org/name, for a GGUF also org/name:file.gguf")


def _wanted_files(repository: str, file: str) -> list[str]:
    from huggingface_hub import HfApi

    with _hub_errors(repository):
        names = [file.rfilename for file in HfApi().model_info(repository).siblings or ()]
    ggufs = [name for name in names if name.endswith(".gguf")]
    if file:
        wanted = _with_parts(file, ggufs)
        if not wanted:
            raise ModelError(f"the hub's copy has no {file}", where=repository, hint="it has: " + ", ".join(ggufs[:12]))
        return wanted
    safetensors = [name for name in names if name.endswith(".safetensors")]
    if safetensors:
        return [name for name in names if "/" not in name and any(fnmatch(name, pattern) for pattern in STUDENT_FILES)]
    if len(ggufs) == 1:
        return ggufs
    if ggufs:
        hint = f"name one, such as mlxdistill pull {repository}:{ggufs[0]}"
        raise ModelError(f"{len(ggufs)} GGUF files in it: {', '.join(ggufs[:12])}", where=repository, hint=hint)
    raise ModelError(
        "neither safetensors nor GGUF in it",
        where=repository,
        hint="pickled weights can run code; choose another model",
    )


def _with_parts(file: str, ggufs: list[str]) -> list[str]:
    """The file, with the other parts of a split set."""
    part = _PART.search(file)
    if file not in ggufs or part is None:
        return [file] if file in ggufs else []
    others = re.compile(re.escape(file[: part.start()]) + r"-\d{5}" + re.escape(part.group(1)))
    return [name for name in ggufs if others.fullmatch(name)]


def _download(repository: str, files: list[str], *, quiet: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if quiet:
        disable_progress_bars()
    with _hub_errors(repository):
        return Path(snapshot_download(repository, allow_patterns=[glob.escape(file) for file in files]))


@contextlib.contextmanager
def _hub_errors(repository: str) -> Iterator[None]:
    """Turns what can go wrong with the hub or the disk into errors a user can act on.

    The hub's library lets the errors of its HTTP client through, whose name has changed between its versions.
    """
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    from mlxdistill.platform.models import hub_folder

    try:
        yield
    except HFValidationError as error:
        raise _no_hub_id(repository) from error
    except GatedRepoError as error:
        hint = "accept its licence on the hub's page, then log in: hf auth login"
        raise ModelError("this model is gated", where=repository, hint=hint) from error
    except RepositoryNotFoundError as error:
        hint = "check the spelling; for a private one, log in first: hf auth login"
        raise ModelError("the hub has no such model", where=repository, hint=hint) from error
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some disk space, or set HF_HOME to another disk, and run the same command again"
            raise ModelError("the disk is full", where=str(hub_folder()), hint=hint) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = "check its permissions, or set HF_HOME to another folder"
            raise ModelError("the hub's cache cannot be written", where=str(hub_folder()), hint=hint) from error
        if not isinstance(error, OSError) and not type(error).__module__.startswith("httpx"):
            raise
        hint = "check the connection and run the same command again: what has arrived is kept"
        raise ModelError(f"the hub cannot be reached ({type(error).__name__})", where=repository, hint=hint) from error


def _cached(repository: str) -> dict[Path, bytes]:
    """Everything in the repository's folder of the cache; the revisions in `refs` with their content."""
    from mlxdistill.platform.models import hub_folder

    folder = hub_folder() / f"models--{repository.replace('/', '--')}"
    return {
        path: path.read_bytes() if path.parent.name == "refs" and path.is_file() else b"" for path in folder.rglob("*")
    }


@contextlib.contextmanager
def _removed_if_refused(repository: str, before: dict[Path, bytes]) -> Iterator[None]:
    """Removes what a refused model added, for no command may find it. Other tools share the folder: the rest stays."""
    try:
        yield
    except MlxDistillError:
        for path in sorted(_cached(repository), reverse=True):
            if path in before:
                if before[path]:
                    path.write_bytes(before[path])
            elif path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
        raise


def _check(model: str, files: list[str]) -> Path:
    from mlxdistill.platform.models import find_gguf
    from mlxdistill.student.base import check_folder
    from mlxdistill.teacher.gguf import inspect_gguf

    if files[0].endswith(".gguf"):
        path = find_gguf(f"{model.partition(':')[0]}:{files[0]}")
        inspect_gguf(path)
        return path
    return check_folder(model)[0]


def _template_problem(path: Path, model: str) -> str | None:
    """Why nobody can chat with the model, as a line. It is kept all the same: plain texts are learned without."""
    from mlxdistill.student.base import check_chat_template
    from mlxdistill.teacher.gguf import inspect_gguf
    from mlxdistill.teacher.prompts import asked_turn

    try:
        if path.is_dir():
            check_chat_template(path, model)
        else:
            asked_turn(inspect_gguf(path), thinking=False)
    except ModelError as error:
        return f"{error} ({error.hint})"
    return None
