"""`mlxdistill data check`: what is in the rows, and whether a run would start with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from mlxdistill.cli.options import AsJson, Debug, Quiet, RunFolder, Settings, Strict

CONFIG_SUFFIXES = (".yaml", ".yml")

SourceOrConfig: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE|CONFIG",
        readable=False,
        help="A file or datasets folder of rows; or a configuration (.yaml), with its sets.",
    ),
]
TextColumn: TypeAlias = Annotated[
    str | None,
    typer.Option("--text", metavar="COLUMN", help="Of a SOURCE: the column that holds the text. Default: text."),
]
GoldColumn: TypeAlias = Annotated[
    str | None, typer.Option("--gold", metavar="COLUMN", help="Of a SOURCE: the column that holds the label.")
]
IdColumn: TypeAlias = Annotated[
    str | None, typer.Option("--id", metavar="COLUMN", help="Of a SOURCE: the column that holds the id.")
]
Sample: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--sample",
        metavar="N",
        min=1,
        help="Look for languages, personal data and lengths in about N rows of each file. Default: 20000.",
    ),
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Look at rows before anything runs.", rich_markup_mode=None, no_args_is_help=True)
    group.command("check")(check)
    group.callback()(lambda: None)
    app.add_typer(group, name="data")


def check(
    source: SourceOrConfig,
    text: TextColumn = None,
    gold: GoldColumn = None,
    row_id: IdColumn = None,
    sample: Sample = None,
    settings: Settings = None,
    run_dir: RunFolder = None,
    strict: Strict = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what is in the rows: bad lines, duplicates, classes, lengths, languages, personal data. Writes nothing.

    Exits with 1 where a run would fail.
    """
    from mlxdistill.cli.check_table import print_check
    from mlxdistill.cli.console import TerminalReporter, print_json
    from mlxdistill.cli.session import own_folder
    from mlxdistill.config.load import load_config
    from mlxdistill.errors import UsageError
    from mlxdistill.pipeline import Options
    from mlxdistill.pipeline.check import SAMPLE_ROWS, check_config, check_source

    is_config = source.suffix.lower() in CONFIG_SUFFIXES
    of_source = {"--text": text, "--gold": gold, "--id": row_id}
    of_config = {"--set": settings, "--run-dir": run_dir, "--strict": strict}
    given = [flag for flag, value in (of_source if is_config else of_config).items() if value]
    if given:
        other, hint = ("a source", "set data.fields") if is_config else ("a configuration", "name a .yaml file")
        raise UsageError(f"{given[0]} is an option of {other}", where=str(source), hint=hint)
    with TerminalReporter(quiet=quiet).live() as reporter:
        if is_config:
            loaded = load_config(source, settings or ())
            run = own_folder(run_dir or Path("runs") / loaded.config.name)
            found = check_config(loaded, run, Options(strict), sample or SAMPLE_ROWS, reporter)
        else:
            found = check_source(source, text, gold, row_id, sample or SAMPLE_ROWS, reporter)
    if as_json:
        print_json(found)
    else:
        print_check(found)
    if not found["ok"]:
        raise typer.Exit(1)
