"""`mlxdistill demo`: a complete distillation on embedded models and rows, network off."""

from __future__ import annotations

import typer

from mlxdistill.cli.options import AsJson, Debug, Quiet, RunFolder, Settings


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    settings: Settings = None,
    run_dir: RunFolder = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Distil the embedded teacher into the embedded student: a bank's inbox, a few minutes, no network."""
    from mlxdistill.cli.console import print_lines
    from mlxdistill.cli.session import ALL_STAGES, run_command
    from mlxdistill.demo import CONFIG
    from mlxdistill.pipeline import Options

    run_command(CONFIG, settings, run_dir, ALL_STAGES, Options(), as_json=as_json, quiet=quiet)
    if not as_json and not quiet:
        print_lines(["", "with your own rows and models:", "  mlxdistill init my-task --labels a,b"])
