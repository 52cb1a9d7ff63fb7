"""`mlxdistill doctor [CONFIG]`: what this machine is, and whether a configuration's models are here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlxdistill.cli.options import AsJson, Debug, Settings
from mlxdistill.errors import MlxDistillError

if TYPE_CHECKING:
    from mlxdistill.config.models import Config
    from mlxdistill.platform.device import DeviceFacts


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Whether a model of a configuration is on this disk and can be used."""

    role: str
    name: str
    path: str | None
    chat_template: bool
    problem: str | None


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="Also look for this one's models.")] = None,
    settings: Settings = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what this machine is, which BLAS is in use and how fast, and which models are present offline."""
    from mlxdistill.cli.console import print_json, print_lines
    from mlxdistill.config.load import load_config
    from mlxdistill.platform.device import device_facts
    from mlxdistill.privacy.guard import install_guard
    from mlxdistill.rundir.manifest import package_versions

    install_guard()
    models = _models(load_config(config, settings or ()).config) if config else []
    facts, versions = device_facts(Path.cwd()), package_versions()
    if as_json:
        print_json({"device": asdict(facts), "versions": versions, "models": [asdict(model) for model in models]})
    else:
        print_lines(_device_lines(facts) + _version_lines(versions) + _model_lines(models))
    if any(model.problem for model in models):
        raise typer.Exit(1)


def _models(config: Config) -> list[ModelFacts]:
    from mlxdistill.platform.models import find_gguf
    from mlxdistill.student.base import check_folder
    from mlxdistill.teacher.gguf import inspect_gguf

    def teacher(name: str) -> tuple[Path, bool]:
        path = find_gguf(name)
        return path, inspect_gguf(path).chat_template is not None

    def student(name: str) -> tuple[Path, bool]:
        return check_folder(name)[0], True

    wanted: list[tuple[str, str, Any]] = [("student", config.student.model, student)]
    if config.teacher.model is not None:
        wanted.insert(0, ("teacher", config.teacher.model, teacher))
    models = []
    for role, name, look in wanted:
        try:
            path, has_template = look(name)
            problem = None if has_template else "it has no chat template"
            models.append(ModelFacts(role, name, str(path), has_template, problem))
        except MlxDistillError as error:
            models.append(ModelFacts(role, name, None, False, f"{error.message} ({error.hint})"))
    return models


def _device_lines(facts: DeviceFacts) -> list[str]:
    gib = 2**30
    working_set = (
        f", recommended working set {facts.working_set_bytes / gib:.1f} GiB" if facts.working_set_bytes else ""
    )
    lines = [
        f"system    {facts.system}, Python {facts.python}",
        f"chip      {facts.chip}, {facts.cores} cores",
        f"memory    {facts.memory_bytes / gib:.1f} GiB{working_set}",
        f"disk      {facts.disk_free_bytes / gib:.1f} GiB free here",
        f"metal     {'yes' if facts.metal else 'no: MLX runs on the CPU'}",
        f"blas      {facts.blas}: {facts.gemm_gflops:.0f} GFLOP/s in float32",
    ]
    if facts.blas == "reference BLAS":
        lines.append("          slow: install OpenBLAS (Debian: apt-get install libopenblas0-pthread) or a C compiler")
    return lines


def _version_lines(versions: dict[str, str]) -> list[str]:
    return ["versions  " + ", ".join(f"{name} {version}" for name, version in versions.items())]


def _model_lines(models: list[ModelFacts]) -> list[str]:
    return [
        f"{model.role:<9} {model.name}: " + (model.problem or f"ready ({model.path}), with a chat template")
        for model in models
    ]
