"""`mlxdistill init NAME --labels a,b`: a commented configuration to fill in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mlxdistill.cli.options import Debug
from mlxdistill.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command("init")(init)


def init(
    name: Annotated[str, typer.Argument(help="What to call the task; the file will be NAME.yaml.")],
    labels: Annotated[str, typer.Option("--labels", help="The labels, separated by commas.")],
    debug: Debug = False,
) -> None:
    """Write a commented configuration that runs after filling in three paths."""
    from mlxdistill.cli.console import print_lines
    from mlxdistill.config.template import template
    from mlxdistill.rundir.files import os_errors

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(f"{name!r} cannot name a run folder", hint="use letters, digits, dots, dashes and underscores")
    names = [label.strip() for label in labels.split(",") if label.strip()]
    if len(names) < 2 or len({label.casefold() for label in names}) < len(names):
        raise UsageError(
            "a task needs at least two different labels", where="--labels", hint="for example --labels ok,toxic"
        )
    file = Path(f"{name}.yaml")
    with os_errors(file):
        try:
            with file.open("x", encoding="utf-8") as out:
                out.write(template(name, str(file), names))
        except FileExistsError:
            raise UsageError(
                "this file is already there", where=str(file), hint="choose another name, or remove it"
            ) from None
    print_lines([str(file), "", "fill in the three paths marked <--, then:", f"  mlxdistill run {file}"])
