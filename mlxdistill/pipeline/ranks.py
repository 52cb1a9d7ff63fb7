"""Where `mlx.launch` started several ranks: rank 0 runs the stages, the others help with labelling and training."""

from __future__ import annotations

import platform
from collections.abc import Collection

from mlxdistill.config.models import Config
from mlxdistill.errors import UsageError
from mlxdistill.pipeline.stage import Context, prompt_template, task_of
from mlxdistill.platform.ranks import Ranks
from mlxdistill.store import LabelStore
from mlxdistill.student.trainer import help_train
from mlxdistill.tasks.protocols import Labeller, Progress
from mlxdistill.tasks.rows import content_hash
from mlxdistill.teacher.generating import GeneratingLabeller
from mlxdistill.teacher.labeller import LlamaLabeller, open_labeller
from mlxdistill.teacher.ranks import SharedLabeller, serve
from mlxdistill.teacher.recorded import RecordedLabeller

SHARED = ("label", "train")


def help_rank_0(config: Config, names: Collection[str], ranks: Ranks, progress: Progress) -> None:
    """What a rank other than 0 does, stage by stage, until rank 0 has finished those of the stages that are shared."""
    if "label" in names and not help_label(config, ranks, progress):
        return
    if "train" in names:
        help_train(ranks, config.student.model, progress)


def help_label(config: Config, ranks: Ranks, progress: Progress) -> bool:
    """What a rank other than 0 does, until rank 0 has finished its label stage. Returns whether rank 0 goes on."""

    def open_teacher(name: str) -> LlamaLabeller | GeneratingLabeller:
        teacher = config.teachers.get(name)
        if teacher is None or teacher.model is None:
            hint = "give every machine the same configuration"
            raise UsageError(f"the configuration has no teacher {name} with a model", hint=hint)
        labeller = open_labeller(teacher, task, progress, prompt_template(teacher.prompt, "teacher.prompt"))
        assert not isinstance(labeller, RecordedLabeller)
        return labeller

    task = task_of(config)
    return serve(ranks, open_teacher, task.names)


def with_ranks(labeller: Labeller, teacher: str, context: Context, store: LabelStore, number: int) -> Labeller:
    """The labeller, with whoever helps it. What a log has answered needs no help."""
    ranks = context.options.ranks
    if ranks is None or isinstance(labeller, RecordedLabeller):
        return labeller
    job = content_hash(f"{platform.node()}:{context.run.path}")[:16]
    shared = SharedLabeller(
        labeller, ranks, teacher=teacher, labels=context.task.names, store=store, number=number, job=job
    )
    context.reporter.note(f"{ranks.size} ranks label together, on {', '.join(shared.hosts)}")
    return shared
