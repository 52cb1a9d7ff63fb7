"""`mlxdistill doctor [CONFIG]`: what this machine is, and whether a configuration's models are here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlxdistill.cli.options import AsJson, Debug, Settings
from mlxdistill.errors import MlxDistillError

if TYPE_CHECKING:
    from mlxdistill.config.models import Config
    from mlxdistill.platform.device import DeviceFacts


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Whether a model of a configuration, or the log that stands for one, is on this disk and can be used.

    Attributes:
        chat_template: whether it has one that works; None for a log.
    """

    role: str
    name: str
    path: str | None
    chat_template: bool | None
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
    from mlxdistill.rundir.manifest import package_versions

    models = _models(load_config(config, settings or ()).config) if config else []
    facts, versions = device_facts(Path.cwd()), package_versions()
    if as_json:
        print_json({"device": asdict(facts), "versions": versions, "models": [asdict(model) for model in models]})
    else:
        print_lines(_device_lines(facts) + _version_lines(versions) + _model_lines(models))
    if any(model.problem for model in models):
        raise typer.Exit(1)


def _models(config: Config) -> list[ModelFacts]:
    from mlxdistill.student.base import check_student
    from mlxdistill.tasks.logs import check_log
    from mlxdistill.teacher.labeller import check_teacher

    def log(name: str) -> Path:
        return check_log(Path(name), text_column=config.data.fields.text, id_column=config.data.fields.id)

    wanted: list[tuple[str, str, Callable[[str], Path]]] = []
    for own, teacher in config.teachers.items():
        role = "teacher" if len(config.teachers) == 1 else f"teacher:{own}"
        wanted += [(role, name, log) for name in teacher.log or ()]
        if teacher.model is not None:
            wanted.append((role, teacher.model, partial(check_teacher, thinking=teacher.thinking)))
    wanted.append(("student", config.student.model, check_student))
    return [_facts(role, name, look, is_model=look is not log) for role, name, look in wanted]


def _facts(role: str, name: str, look: Callable[[str], Path], *, is_model: bool) -> ModelFacts:
    try:
        return ModelFacts(role, name, str(look(name)), True if is_model else None, None)
    except MlxDistillError as error:
        message = error.message if error.where in (None, name) else str(error)
        problem = f"{message} ({error.hint})" if error.hint else message
        return ModelFacts(role, name, None, False if is_model else None, problem)


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
    if facts.gemm_gflops_metal is not None:
        lines[-2] += f", {facts.gemm_gflops_metal:.0f} GFLOP/s in float32"
    if facts.blas == "reference BLAS":
        lines.append("          slow: install OpenBLAS (Debian: apt-get install libopenblas0-pthread) or a C compiler")
    return lines


def _version_lines(versions: dict[str, str]) -> list[str]:
    return ["versions  " + ", ".join(f"{name} {version}" for name, version in versions.items())]


def _model_lines(models: list[ModelFacts]) -> list[str]:
    return [
        f"{model.role:<9} {model.name}: "
        + (model.problem or f"ready ({model.path})" + (", with a chat template" if model.chat_template else ""))
        for model in models
    ]
