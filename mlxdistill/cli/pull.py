"""`mlxdistill pull MODEL`: the only command that uses the network."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import typer

from mlxdistill.cli.options import Debug, Quiet
from mlxdistill.errors import MlxDistillError, ModelError, UsageError

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
    from mlxdistill.cli.console import print_lines

    repository, _, file = model.partition(":")
    if repository.count("/") != 1:
        raise UsageError(f"{model!r} is no hub id", hint="write org/name, for a GGUF also org/name:file.gguf")
    files = _wanted_files(repository, file)
    snapshot = _download(repository, files, quiet=quiet)
    try:
        path = _check(model, files)
    except MlxDistillError:
        shutil.rmtree(snapshot)  # what was refused must not be found by the next command
        raise
    print_lines([str(path)])


def _wanted_files(repository: str, file: str) -> list[str]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        names = [file.rfilename for file in HfApi().model_info(repository).siblings or ()]
    except GatedRepoError as error:
        hint = "accept its licence on the hub's page, then log in: hf auth login"
        raise ModelError("this model is gated", where=repository, hint=hint) from error
    except RepositoryNotFoundError as error:
        hint = "check the spelling; for a private one, log in first: hf auth login"
        raise ModelError("the hub has no such model", where=repository, hint=hint) from error
    except Exception as error:
        if not _is_network_error(error):
            raise
        hint = "check the connection and try again"
        raise ModelError(f"the hub cannot be reached ({type(error).__name__})", where=repository, hint=hint) from error
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
    """The file, with the later parts of a split set."""
    if file not in ggufs:
        return []
    stem, separator, count = file.removesuffix(".gguf").rpartition("-of-")
    if not separator:
        return [file]
    return [
        name for name in ggufs if name.startswith(stem.rpartition("-")[0] + "-") and name.endswith(f"-of-{count}.gguf")
    ]


def _download(repository: str, files: list[str], *, quiet: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if quiet:
        disable_progress_bars()
    try:
        return Path(snapshot_download(repository, allow_patterns=files))
    except Exception as error:
        if not _is_network_error(error):
            raise
        hint = "run the same command again: what has arrived is kept"
        raise ModelError(f"the download broke off ({type(error).__name__})", where=repository, hint=hint) from error


def _is_network_error(error: Exception) -> bool:
    """The hub's library lets the errors of its HTTP client through, whose name has changed between its versions."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0].startswith("httpx")


def _check(model: str, files: list[str]) -> Path:
    from mlxdistill.platform.models import find_gguf
    from mlxdistill.student.base import check_folder
    from mlxdistill.teacher.gguf import inspect_gguf

    if files[0].endswith(".gguf"):
        path = find_gguf(f"{model.partition(':')[0]}:{files[0]}")
        inspect_gguf(path)
        return path
    return check_folder(model)[0]
