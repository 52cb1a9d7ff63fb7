"""Training, as the pipeline calls it: in a process of its own, whose memory is back when it ends."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mlxdistill.errors import Interrupted, MlxDistillError
from mlxdistill.platform.cores import thread_environment
from mlxdistill.platform.ranks import Ranks
from mlxdistill.student.parallel import RanksParted
from mlxdistill.student.ranks import Rounds, give_order, own_request, take_files
from mlxdistill.student.requests import TrainReport, TrainRequest, TrainResult, TrainStart
from mlxdistill.tasks.protocols import Progress
from mlxdistill.workers import Worker, stop_signals


def train_student(
    request: TrainRequest, progress: Progress, on_report: Callable[[TrainReport], None], ranks: Ranks | None = None
) -> TrainResult:
    """Trains a student, from its newest checkpoint if it was stopped before.

    The adapter of the best validation is in `request.output` afterwards. `on_report` is called with a TrainStart, on
    which all reports of the sessions before follow, and then with each new one, when a checkpoint holds it.

    Args:
        ranks: whom this process, which is rank 0, trains with; all of them are in `help_train`.

    Raises ModelError, DataError or MlxDistillError for what a user can mend, WorkerError where the process dies, and
    Interrupted after a stop, with a checkpoint made.
    """
    if ranks is None:
        return _train(request, progress, on_report, None)
    with stop_signals():
        give_order(ranks, request)
        rounds = Rounds(ranks)
        try:
            with rounds:
                rounds.meet("begin")
                progress.note(f"{ranks.size} ranks train together, on {', '.join(rounds.hosts)}")
                return _train(replace(request, ranks=ranks.size), progress, on_report, rounds)
        except RanksParted as error:
            if rounds.stopped:
                raise Interrupted("stopped", hint="the same command goes on from here") from error
            raise


def help_train(ranks: Ranks, model: str, progress: Progress) -> None:
    """What a rank other than 0 does: trains its share, until it is dismissed or rank 0 has come to an end.

    Args:
        model: the name of the student's model on this machine.

    Raises what `train_student` does where rank 0 cannot tell the user.
    """
    while (order := ranks.broadcast())["do"] == "train":
        with stop_signals(), tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            take_files(ranks, order, folder)
            rounds = Rounds(ranks)
            try:
                with rounds:
                    request = own_request(ranks, order, folder, model)
                    rounds.meet("begin")
                    _train(request, progress, lambda report: None, rounds)
            except MlxDistillError:
                if not rounds.agreed:
                    raise
        if not rounds.finished:
            return


def _train(
    request: TrainRequest, progress: Progress, on_report: Callable[[TrainReport], None], rounds: Rounds | None
) -> TrainResult:
    with Worker(
        "mlxdistill.student.child:open_trainer",
        request,
        name="student",
        progress=progress,
        environment=thread_environment(),
        exchange=None if rounds is None else rounds.exchange,
        out_of_memory_hint=out_of_memory_hint(request, None),
    ) as worker:
        if rounds is not None:
            rounds.meet("start")
        for report in worker.ask("train"):
            if isinstance(report, TrainStart):
                worker.out_of_memory_hint = out_of_memory_hint(request, report)
            on_report(report)
        result: TrainResult = worker.result
        return replace(result, peak_memory_bytes=worker.peak_memory_bytes)


def out_of_memory_hint(request: TrainRequest, start: TrainStart | None) -> str:
    """What to set for a training that had too little memory, the cheapest first, and which command goes on.

    Args:
        start: what the training said of itself; None where it died before, while it opened the model.
    """
    if start is None:
        return "close other programs, or use a smaller or a quantized model"
    going_on = []
    # Half of what ran at once; a part is never smaller than one row.
    if (half := max(start.largest_part // 2, start.longest_row, 16)) < start.largest_part:
        going_on.append(f"train.batch_tokens={half}")
    if not request.train.gradient_checkpointing:
        going_on.append("train.gradient_checkpointing=true")
    steps = []
    if going_on:
        steps.append(f"the same command with --set {going_on[0]} goes on from the last checkpoint")
        steps += [f"if that is not enough, add --set {setting}" for setting in going_on[1:]]
    if not start.quantized:
        steps.append("with --set student.quantize=4 it starts anew")
    steps.append("else use a smaller model or a smaller student.max_tokens")
    return "; ".join(steps)
