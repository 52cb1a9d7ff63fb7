"""The whole of `mlxdistill review`: the queue, the page, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlxdistill.config.models import Config
from mlxdistill.experiments.review.queue import build_queue
from mlxdistill.experiments.review.server import serve
from mlxdistill.experiments.review.session import Session
from mlxdistill.experiments.review.visible import visible
from mlxdistill.pipeline import task_of
from mlxdistill.rundir.layout import RunDir
from mlxdistill.store import LabelStore

SET_NAMES = {
    "pool": "rows that teach",
    "valid": "validation rows",
    "test_indist": "test rows, test_indist",
    "test_balanced": "test rows, test_balanced",
}


def review_rows(
    run: RunDir,
    config: Config,
    of_set: str,
    why: str,
    most: int,
    port: int | None,
    *,
    next_command: str,
    again: str,
    on_open: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Shows the rows until Ctrl-C; returns what was decided.

    It may go on beside `mlxdistill run` on the same folder: both write the store, each decision and each wave as one
    transaction. What is decided while a stage works counts from the next run on.

    Args:
        of_set, why, most: as `build_queue` takes them.
        next_command, again: the commands that use the labels, and that start the review again.
        on_open: is given the link, how many rows there are, and how many are decided.

    Raises DataError where there is nothing to review, UsageError where the port is taken.
    """
    task = task_of(config)
    queue = build_queue(run, task.names, of_set, why, most)
    page = {
        "name": visible(config.name),
        "of_set": SET_NAMES[of_set],
        "instruction": visible(task.instruction),
        "next": next_command,
        "data": {
            "labels": [
                {
                    "name": visible(label.name),
                    "about": "" if label.description == label.name else visible(label.description),
                }
                for label in task.labels
            ],
            "total": len(queue.items),
            "again": again,
        },
    }
    with LabelStore(run.labels) as store:
        session = Session(store, queue, task)
        before = session.summary()["decided"]
        serve(session, page, run.review, port, lambda link: on_open(link, len(queue.items), before))
        summary = session.state()["summary"]
    return {**summary, "set": of_set, "now": summary["decided"] - before, "next": next_command}
