"""One training, shared among the ranks of `mlx.launch`: what their parent processes say to each other.

Rank 0 alone has the run folder. It gives its request and its training files to the others, which need nothing but the
same model on their disks; from then on every rank trains its share of each step in a child process
(`student/parallel.py`), and the parents add up what the children hand them, over the connection that they have had
since their start. So one way serves every backend of MLX, also MPI, which only the process that was launched may use.

Before anything is exchanged each rank says what it is about to do. One that failed says that instead, and all end:
rank 0 with the reason, the others without a word. Checkpoints are rank 0's, and independent of the number of ranks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from mlxdistill import __version__
from mlxdistill.errors import Interrupted, MlxDistillError, ModelError
from mlxdistill.platform.models import model_fingerprint
from mlxdistill.platform.ranks import Ranks
from mlxdistill.student.parallel import Handout, RanksParted, Summand
from mlxdistill.student.requests import TrainRequest
from mlxdistill.workers import stop_asked

FILES = ("train.jsonl", "valid.jsonl")
_GOES_ON = (
    "start the same command again, with any number of ranks or without mlx.launch: training goes on from rank 0's "
    "newest checkpoint"
)


class Rounds:
    """The ranks of one training, as a context manager around it.

    Every rank must make the same calls in the same order.

    Attributes:
        hosts: the machines of the ranks.
        finished: whether rank 0 has come to the training's end.
        agreed: whether the ranks ended together: then rank 0 tells the user, and nobody else needs to.
        stopped: whether that is because the user stopped another rank before this one heard of it.

    Raises RanksParted where another rank has failed or is lost.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.hosts: list[str] = []
        self.finished = False
        self.agreed = False
        self.stopped = False
        self._lost = False

    def __enter__(self) -> Rounds:
        return self

    def meet(self, step: str) -> None:
        """Waits until every rank is as far as this one."""
        self.hosts = [turn["host"] for turn in self._turns({"do": step})]

    def exchange(self, question: Summand | Handout) -> Summand | Handout:
        """What all ranks make of the questions of their children."""
        if isinstance(question, Handout):
            self._turns({"do": "hand out"})
            return Handout(self._reached(self._ranks.broadcast_bytes, question.content))
        figures = dict(question.figures)
        turns = self._turns({"do": "sum", "figures": figures})
        values = question.values
        if len(values):
            values = self._reached(self._ranks.sum, values)
        return Summand({name: sum(turn["figures"][name] for turn in turns) for name in figures}, values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.agreed or self._lost or _at_once():
            return
        turn: dict[str, Any] = {"do": "end"}
        if isinstance(error, Interrupted):
            turn = {"do": "stop"}
        elif isinstance(error, MlxDistillError):
            turn = {"do": "fail", "message": error.message, "where": error.where, "hint": error.hint}
        elif error is not None:
            turn = {"do": "fail", "message": "a bug, of which that rank tells"}
        with contextlib.suppress(MlxDistillError):  # this rank is done, whatever has become of the others
            turns = self._reached(self._ranks.gather, {**turn, "host": self._ranks.host})
            self.finished = turns[0]["do"] == "end"
            self.agreed = True

    def _turns(self, own: Mapping[str, Any]) -> list[Any]:
        """What every rank is about to do: the same, unless one has failed."""
        turns: list[Any] = self._reached(self._ranks.gather, {**own, "host": self._ranks.host})
        for rank, turn in enumerate(turns):
            if turn["do"] in ("fail", "stop"):
                self.agreed = True
                self.stopped = turn["do"] == "stop"
                where = f"rank {rank} on {turn['host']}" + (f": {turn['where']}" if turn.get("where") else "")
                raise RanksParted(turn.get("message", "stopped"), where=where, hint=turn.get("hint") or _GOES_ON)
        assert {turn["do"] for turn in turns} == {own["do"]}, turns
        return turns

    def _reached(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments, stopped=_at_once)
        except Interrupted:
            raise
        except MlxDistillError as error:
            self._lost = True
            raise RanksParted(error.message, where=error.where, hint=_GOES_ON) from error


def _at_once() -> bool:
    """The first Ctrl-C lets all ranks finish their step together; the second waits for nobody."""
    return stop_asked(2)


def give_order(ranks: Ranks, request: TrainRequest) -> None:
    """Tells the other ranks what to train, and gives them the rows."""
    from pydantic import TypeAdapter

    order = {
        "do": "train",
        "version": __version__,
        "fingerprint": model_fingerprint(request.model),
        "host": ranks.host,
        "request": TypeAdapter(TrainRequest).dump_python(request, mode="json"),
        "files": [name for name in FILES if (request.data / name).is_file()],
    }
    ranks.broadcast(order)
    for name in order["files"]:
        ranks.broadcast_bytes((request.data / name).read_bytes())


def take_files(ranks: Ranks, order: Mapping[str, Any], folder: Path) -> None:
    """Puts the rows that come with an order into a folder's `data`."""
    (folder / "data").mkdir()
    for name in order["files"]:
        (folder / "data" / name).write_bytes(ranks.broadcast_bytes())


def own_request(ranks: Ranks, order: Mapping[str, Any], folder: Path, model: str) -> TrainRequest:
    """This rank's part of an order whose files are in `folder`.

    Args:
        model: the name of the same model on this machine.

    Raises ModelError where it is another one, or mlxdistill is.
    """
    from pydantic import TypeAdapter

    if order["version"] != __version__:
        message = f"this machine has mlxdistill {__version__}, and {order['host']} has {order['version']}"
        raise MlxDistillError(message, hint="install the same version on every machine")
    if model_fingerprint(model) != order["fingerprint"]:
        message = f"the model on {ranks.host} is not the same as on {order['host']}"
        raise ModelError(message, where=model, hint="copy the model's whole folder from one machine to the other")
    request = TypeAdapter(TrainRequest).validate_python(order["request"])
    return replace(
        request,
        model=model,
        data=folder / "data",
        output=folder / "adapters",
        checkpoints=folder / "checkpoints",
        rank=ranks.rank,
        ranks=ranks.size,
    )
