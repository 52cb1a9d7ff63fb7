"""`mlxdistill run CONFIG`: every stage, in order."""

from __future__ import annotations

import typer

from mlxdistill.cli.options import AsJson, ConfigFile, Debug, NewSplits, Quiet, ReportTo, RunFolder, Settings, Strict


def register(app: typer.Typer) -> None:
    app.command("run")(run)


def run(
    config: ConfigFile,
    settings: Settings = None,
    run_dir: RunFolder = None,
    strict: Strict = False,
    new_splits: NewSplits = False,
    report_to: ReportTo = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Distil: ingest, label, filter, train, evaluate, report. What has not changed is skipped."""
    from mlxdistill.cli.session import ALL_STAGES, run_command
    from mlxdistill.pipeline import Options
    from mlxdistill.pipeline.weights_and_biases import check_report_to

    options = Options(strict, new_splits, report_to=check_report_to(report_to))
    run_command(config, settings, run_dir, ALL_STAGES, options, as_json=as_json, quiet=quiet)
