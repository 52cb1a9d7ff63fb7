"""All commands, and what happens when one fails.

Nothing heavy is imported until a command runs: `mlxdistill --help` costs what typer costs.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from mlxdistill import __version__
from mlxdistill.errors import ConfigError, Interrupted, MlxDistillError

COMMANDS = ("demo", "init", "doctor", "pull", "run", "stages", "predict", "config")

app = typer.Typer(
    name="mlxdistill",
    help="Distil a large local model into a small one, on this machine only, and know whether it may be replaced.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
for _command in COMMANDS:
    importlib.import_module(f"mlxdistill.cli.{_command}").register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlxdistill {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Runs the command line; exits 0 (done), 1 (failed), 2 (usage or configuration) or 130 (interrupted)."""
    debug, as_json = "--debug" in sys.argv, "--json" in sys.argv
    try:
        app()
    except MlxDistillError as error:
        if debug:
            raise
        _print_error(error, as_json)
        _leave(error.exit_code)
    except KeyboardInterrupt:
        if debug:
            raise
        _print_error(Interrupted("interrupted", hint="the same command goes on from here"), as_json)
        _leave(Interrupted.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is wrong, and Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(0)
    raise AssertionError("typer ends the process itself")


def _leave(code: int) -> NoReturn:
    raise SystemExit(code)


def _print_error(error: MlxDistillError, as_json: bool) -> None:
    if as_json:
        content: dict[str, Any] = {"message": error.message, "where": error.where, "hint": error.hint}
        if isinstance(error, ConfigError):
            content["problems"] = [
                {"message": problem.message, "where": problem.where, "hint": problem.hint} for problem in error.problems
            ]
        print(json.dumps({"error": content}, ensure_ascii=False))
        return
    if isinstance(error, ConfigError):
        for problem in error.problems:
            _print_line(problem.where, problem.message, problem.hint)
    else:
        _print_line(error.where, error.message, error.hint)


def _print_line(where: str | None, message: str, hint: str | None) -> None:
    print(f"error: {where + ': ' if where else ''}{message}", file=sys.stderr)
    if hint:
        print(f"  hint: {hint}", file=sys.stderr)
