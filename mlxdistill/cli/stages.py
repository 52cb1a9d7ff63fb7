"""`mlxdistill ingest|label|filter|train|eval|report CONFIG`: one stage alone.

`train` also takes a plain mlx-lm data folder instead of a configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlxdistill.cli.options import AsJson, ConfigFile, Debug, NewSplits, Quiet, ReportTo, RunFolder, Settings, Strict
from mlxdistill.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command("ingest")(ingest)
    app.command("label")(label)
    app.command("filter", help="Decide which labels may teach.")(_stage("filter"))
    app.command("train")(train)
    for name, help_text in (
        ("eval", "Compare the student with the teacher and the baselines on both test sets."),
        ("report", "Write report.html."),
    ):
        app.command(name, help=help_text)(_stage(name))


def _run(
    name: str,
    config: Path,
    settings: list[str] | None,
    run_dir: Path | None,
    *,
    as_json: bool,
    quiet: bool,
    strict: bool = False,
    new_splits: bool = False,
    budget: int | Literal["all"] | None = None,
    report_to: str | None = None,
) -> None:
    from mlxdistill.cli.session import run_command
    from mlxdistill.pipeline import Options
    from mlxdistill.pipeline.weights_and_biases import check_report_to

    options = Options(strict, new_splits, budget, report_to=check_report_to(report_to))
    run_command(config, settings, run_dir, (name,), options, as_json=as_json, quiet=quiet)


def _stage(name: str):  # type: ignore[no-untyped-def]  # typer reads the inner signature
    def command(
        config: ConfigFile,
        settings: Settings = None,
        run_dir: RunFolder = None,
        as_json: AsJson = False,
        quiet: Quiet = False,
        debug: Debug = False,
    ) -> None:
        _run(name, config, settings, run_dir, as_json=as_json, quiet=quiet)

    return command


def ingest(
    config: ConfigFile,
    settings: Settings = None,
    run_dir: RunFolder = None,
    strict: Strict = False,
    new_splits: NewSplits = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Read the rows and draw the splits; the test sets are frozen from then on."""
    _run("ingest", config, settings, run_dir, as_json=as_json, quiet=quiet, strict=strict, new_splits=new_splits)


def label(
    config: ConfigFile,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="N|all",
            help="Label N rows of the pool, chosen to teach most, and all validation and test rows. Stays in force "
            "until another is given; all: every row.",
        ),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say how many rows, tokens, hours and bytes it would take.")
    ] = False,
    settings: Settings = None,
    run_dir: RunFolder = None,
    strict: Strict = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Let the teacher answer every row; answers already there are kept."""
    limit = read_budget(budget)
    if estimate:
        from mlxdistill.cli.estimate import run_estimate
        from mlxdistill.pipeline import Options

        options = Options(strict, budget=limit)
        run_estimate(config, settings, run_dir, options, as_json=as_json, quiet=quiet)
        return
    _run("label", config, settings, run_dir, as_json=as_json, quiet=quiet, strict=strict, budget=limit)


def read_budget(text: str | None) -> int | Literal["all"] | None:
    """What `--budget` says. Raises UsageError where it is neither a number of rows nor `all`."""
    if text is None:
        return None
    if text == "all":
        return "all"
    if not text.isdecimal() or int(text) == 0:
        raise UsageError(
            f"{text!r} is not a number of rows", where="--budget", hint="give a whole number above 0, or all"
        )
    return int(text)


def train(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="The configuration, a YAML file.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="With --data: the MLX model to fine-tune.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="A plain mlx-lm folder: train.jsonl and valid.jsonl.")
    ] = None,
    settings: Settings = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir",
            "--adapter-path",
            metavar="DIR",
            help="The run folder; with --data, the adapter's. Default: runs/<name>; with --data, adapters.",
        ),
    ] = None,
    fine_tune_type: Annotated[
        str | None,
        typer.Option("--fine-tune-type", metavar="lora|dora|full", help="The same as --set student.fine_tune_type=."),
    ] = None,
    report_to: ReportTo = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fine-tune the student: LoRA, DoRA, or its layers themselves."""
    if fine_tune_type is not None:
        settings = [*(settings or []), f"student.fine_tune_type={fine_tune_type}"]
    if config is not None and data is None and model is None:
        _run("train", config, settings, run_dir, as_json=as_json, quiet=quiet, report_to=report_to)
        return
    if config is not None or data is None or model is None:
        raise UsageError(
            "train takes either a CONFIG, or --model and --data",
            hint="for example: mlxdistill train --model MODEL --data FOLDER",
        )
    from mlxdistill.cli.plain import train_folder

    folder = run_dir or Path("adapters")
    train_folder(model, data, settings or [], folder, report_to=report_to, as_json=as_json, quiet=quiet)
