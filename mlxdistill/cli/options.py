"""The options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

ConfigFile: TypeAlias = Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration, a YAML file.")]
Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as train.epochs=2. Repeatable."),
]
RunFolder: TypeAlias = Annotated[
    Path | None, typer.Option("--run-dir", metavar="DIR", help="The run folder. Default: runs/<name>.")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="Print no progress and no notes, only the result.")]
Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")]
ReportTo: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--report-to",
        metavar="wandb",
        help="Also write the training's curves for Weights & Biases: offline, into the run folder's wandb/.",
    ),
]
Strict: TypeAlias = Annotated[bool, typer.Option("--strict", help="Stop at the first bad line of the data.")]
NewSplits: TypeAlias = Annotated[
    bool, typer.Option("--new-splits", help="Draw validation and test rows anew, though they are frozen.")
]
