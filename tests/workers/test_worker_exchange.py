"""What a child exchanges with its fellows goes through its parent, in order, and a failure reaches it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mlxdistill.errors import Interrupted, ModelError
from mlxdistill.workers import Worker

ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])}


def ask(exchange: Any, question: list[int], progress: Any) -> Any:
    entry = "children:open_exchanging"
    with Worker(entry, "", name="model", progress=progress, environment=ENVIRONMENT, exchange=exchange) as worker:
        assert list(worker.ask(question)) == []
        return worker.result


def test_replies_come_in_the_order_of_the_questions(progress: Any) -> None:
    asked: list[int] = []
    assert ask(lambda value: (asked.append(value), 10 * value)[1], [3, 1, 2], progress) == "[30, 10, 20]"
    assert asked == [3, 1, 2]


def test_a_failure_of_the_parent_is_raised_in_the_child(progress: Any) -> None:
    def fail(value: int) -> int:
        if value == 1:
            raise ModelError("a fellow is gone")
        return value

    assert ask(fail, [3, 1, 2], progress) == "failed: a fellow is gone"


def test_a_user_who_will_not_wait_ends_the_child(progress: Any) -> None:
    def stopped(value: int) -> int:
        raise Interrupted("stopped at once")

    with pytest.raises(Interrupted, match="at once"):
        ask(stopped, [1], progress)
