"""All commands, and what happens when one fails.

Nothing heavy is imported until a command runs: `mlxdistill --help` costs what typer costs.
"""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer
import typer.main

from mlxdistill import __version__
from mlxdistill.cli.visible import visible
from mlxdistill.errors import ConfigError, Interrupted, MlxDistillError, UsageError

NAME = "mlxdistill"
COMMANDS = (
    "demo",
    "init",
    "doctor",
    "pull",
    "plan",
    "run",
    "stages",
    "prompts",
    "synth",
    "predict",
    "review",
    "data",
    "labels",
    "learning_curve",
    "sweep",
    "runs",
    "config",
)

# The root of what typer raises for a wrong command line; the class itself moves between typer's versions.
_WrongUsage: Any = typer.BadParameter.__base__

app = typer.Typer(
    name=NAME,
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
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand != "pull":
        from mlxdistill.privacy.guard import install_guard

        install_guard()


def main() -> NoReturn:
    """Runs the command line; exits 0 (done), 1 (failed), 2 (usage or configuration) or 130 (interrupted)."""
    if sys.stdout is None:  # the caller closed it
        sys.stdout = io.StringIO()
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is wrong, and Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO) or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _print_line(
            "standard output", f"cannot write: {(error.strerror or '').lower()}", "free some space and run it again"
        )
        code = 1
    raise SystemExit(code)


def _run(arguments: list[str]) -> int:
    """Not by `app()`, which would deal with wrong usage, Ctrl-C and a closed pipe in ways of its own."""
    debug, as_json = "--debug" in arguments, "--json" in arguments
    try:
        command = typer.main.get_command(app)
        with command.make_context(NAME, arguments) as context:
            command.invoke(context)
        return 0
    except typer.Exit as end:
        return end.exit_code
    except _WrongUsage as error:
        if not as_json:
            error.show()
            return UsageError.exit_code
        place = error.ctx.command_path if error.ctx else NAME
        failure: MlxDistillError = UsageError(error.format_message(), where=place, hint=f"see {place} --help")
    except MlxDistillError as error:
        failure = error
        if debug:
            traceback.print_exc()
    except KeyboardInterrupt:
        failure = Interrupted("interrupted", hint="run the same command again; what was finished is kept")
        if debug:
            traceback.print_exc()
    _print_error(failure, as_json)
    return failure.exit_code


def _print_error(error: MlxDistillError, as_json: bool) -> None:
    if as_json:
        content: dict[str, Any] = {"message": error.message, "where": error.where, "hint": error.hint}
        if isinstance(error, ConfigError):
            content["problems"] = [
                {"message": problem.message, "where": problem.where, "hint": problem.hint} for problem in error.problems
            ]
        print(visible(json.dumps({"error": content}, ensure_ascii=False)))
        return
    if isinstance(error, ConfigError):
        for problem in error.problems:
            _print_line(problem.where, problem.message, problem.hint)
    else:
        _print_line(error.where, error.message, error.hint)


def _print_line(where: str | None, message: str, hint: str | None) -> None:
    print(visible(f"error: {where + ': ' if where else ''}{message}"), file=sys.stderr)
    if hint:
        print(visible(f"  hint: {hint}"), file=sys.stderr)
