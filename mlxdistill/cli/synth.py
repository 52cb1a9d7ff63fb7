"""`mlxdistill synth CONFIG`: the teacher writes rows of rare classes, and only what it stands by is kept."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlxdistill.cli.options import AsJson, ConfigFile, Debug, Quiet, RunFolder, Settings

if TYPE_CHECKING:
    from mlxdistill.config.load import LoadedConfig

FEATURES = ("distinct-1", "distinct-2", "distinct-3", "alike", "near a real row")


def register(app: typer.Typer) -> None:
    app.command("synth")(synth)


def synth(
    config: ConfigFile,
    rows: Annotated[
        int | None, typer.Option("--rows", metavar="N", min=1, help="New rows in all, for the classes with the fewest.")
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="LABEL=N", help="New rows of this class alone, so many. Repeatable."),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all rows that were written, and write none.")] = False,
    settings: Settings = None,
    run_dir: RunFolder = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Have the teacher write new rows of rare classes. Exits with 1 where fewer are accepted than wanted."""
    from mlxdistill.cli.console import TerminalReporter, print_json, print_lines
    from mlxdistill.cli.session import open_run
    from mlxdistill.experiments.synthesis import synthesise

    if clear and (rows is not None or classes):
        from mlxdistill.errors import UsageError

        raise UsageError("--clear writes no rows", where="--clear", hint="leave out --rows and --class")
    loaded, run = open_run(config, settings, run_dir)
    loaded = _with_options(loaded, rows, classes or [])
    if clear:
        count = synthesise.clear(run)
        if as_json:
            print_json({"run": str(run.path), "removed": count})
        else:
            print_lines([f"{count:,} synthetic rows removed"])
        return
    with TerminalReporter(quiet=quiet).live() as reporter:
        outcome = synthesise.synthesise(loaded, run, reporter)
    if as_json:
        print_json(outcome)
    else:
        _print(outcome, [str(config), *(["--run-dir", str(run_dir)] if run_dir else [])])
    if not outcome["complete"]:
        raise typer.Exit(1)


def _with_options(loaded: LoadedConfig, rows: int | None, classes: list[str]) -> LoadedConfig:
    """The configuration, with what the options say of `synth` instead."""
    from dataclasses import replace

    from mlxdistill.config.synth import SynthConfig
    from mlxdistill.errors import UsageError

    if rows is not None and classes:
        raise UsageError(
            "give --rows or --class, not both", where="--rows", hint="--class LABEL=N says how many of each"
        )
    if rows is None and not classes:
        return loaded
    wanted: dict[str, int] = {}
    for given in classes:
        label, separator, count = given.rpartition("=")
        if not separator or not count.isdecimal() or int(count) < 1:
            raise UsageError(f"{given!r} is not LABEL=N", where="--class", hint="for example --class toxic=200")
        if label not in loaded.config.task.labels:
            known = ", ".join(loaded.config.task.labels)
            raise UsageError(f"{label!r} is no label of the task", where="--class", hint=f"the labels are: {known}")
        wanted[label] = int(count)
    others = loaded.config.synth.model_dump(exclude={"rows", "classes"})
    changed = SynthConfig(**others, rows=rows or "balance", classes=wanted)
    return replace(loaded, config=loaded.config.model_copy(update={"synth": changed}))


def _print(outcome: Mapping[str, Any], again: list[str]) -> None:
    """`again`: what names the run in a command."""
    from mlxdistill.cli.console import print_lines

    if not outcome["classes"]:
        print_lines(["no class has fewer rows than the largest: nothing was wanted"])
        return
    print_lines([line for label, found in outcome["classes"].items() for line in _class_lines(label, found)])
    if not outcome["rows"]:
        print_lines(["no synthetic rows"])
        return
    print_lines(
        [
            f"{outcome['rows']:,} synthetic rows, {outcome['share']:.1%} of those that would teach;"
            " distinct-n: share of different runs of n words; alike: similarity to the most similar other row"
            " (Jaccard, runs of 5 characters), of as many real rows as synthetic ones",
            f"next     {shlex.join(['mlxdistill', 'run', *again])} learns from them; "
            f"{shlex.join(['mlxdistill', 'synth', *again, '--clear'])} removes them",
        ]
    )


def _class_lines(label: str, found: Mapping[str, Any]) -> Iterator[str]:
    share = "" if found["yield"] is None else f", yield {found['yield']:.0%}"
    yield (
        f"{label}: {found['accepted']:,} of {found['wanted']:,} rows wanted, from {found['drafts']:,} drafts{share};"
        f" {found['real']:,} real and {found['synthetic']:,} synthetic rows"
    )
    for reason, count in found["rejected"].items():
        yield f"  {count:>6,}  rejected: {reason}"
    if found["accepted"] < found["wanted"]:
        yield (
            "  given up: too few drafts were accepted; look at the reasons above, change synth.prompt,"
            " synth.temperature or synth.min_confidence, or raise synth.most_drafts"
        )
    for name, figures in (found["variety"] or {}).items():
        values = [*figures["distinct"], figures["self_similarity"], figures["nearest_real"]]
        shown = ", ".join(
            f"{feature} {value:.2f}" for feature, value in zip(FEATURES, values, strict=True) if value is not None
        )
        yield f"  {name:<9}  {shown}"
