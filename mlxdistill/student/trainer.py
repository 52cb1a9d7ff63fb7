"""Training, as the pipeline calls it: in a process of its own, whose memory is back when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mlxdistill.platform.cores import thread_environment
from mlxdistill.student.requests import TrainEvent, TrainRequest, TrainResult
from mlxdistill.tasks.protocols import Progress
from mlxdistill.workers import Worker


def train_student(request: TrainRequest, progress: Progress, on_event: Callable[[TrainEvent], None]) -> TrainResult:
    """Trains a student, from its newest checkpoint if it was stopped before.

    The adapter of the best validation is in `request.output` afterwards. `on_event` is called once per validation.

    Raises ModelError, DataError or MlxDistillError for what a user can mend, WorkerError where the process dies, and
    Interrupted after a stop, with a checkpoint made.
    """
    with Worker(
        "mlxdistill.student.child:open_trainer",
        request,
        name="student",
        progress=progress,
        environment=thread_environment(),
    ) as worker:
        for event in worker.ask("train"):
            on_event(event)
        result: TrainResult = worker.result
        return replace(result, peak_memory_bytes=worker.peak_memory_bytes)
