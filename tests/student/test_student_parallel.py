"""What ranks of a training hand each other: every row in one share, sums the same on all, failures told by rank 0."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_students import Reporter, train_here, train_request

from mlxdistill.errors import DataError, MlxDistillError, ModelError
from mlxdistill.student import parallel
from mlxdistill.student.checkpoints import Checkpoint
from mlxdistill.student.child import prepare, train
from mlxdistill.student.parallel import Alone, Parallel, RanksParted
from mlxdistill.student.ranks import Rounds, give_order, own_request, take_files
from mlxdistill.student.requests import TrainRequest, TrainResult
from mlxdistill.student.state import TrainState
from mlxdistill.workers.channel import StopRequested

ModelFolder = Callable[[str], Path]


class Meeting:
    """Stands for the connections between ranks: threads of one process."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=20)
        self.said: list[Any] = [None] * size

    def ask(self, rank: int, said: Any) -> list[Any]:
        self.said[rank] = said
        self.barrier.wait()
        heard = list(self.said)
        self.barrier.wait()
        return heard


class Rank:
    """Has the methods of `platform.ranks.Ranks`."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self._meeting, self.rank, self.size, self.host = meeting, rank, meeting.size, f"mac-{rank}"

    def gather(self, message: Any, stopped: Any = None) -> list[Any]:
        return [json.loads(each) for each in self._meeting.ask(self.rank, json.dumps(message))]

    def broadcast(self, message: Any = None) -> Any:
        return self.gather(message)[0]

    def broadcast_bytes(self, content: bytes = b"", stopped: Any = None) -> bytes:
        return bytes(self._meeting.ask(self.rank, content)[0])

    def sum(self, values: np.ndarray, stopped: Any = None) -> np.ndarray:
        heard = self._meeting.ask(self.rank, values)
        assert len({len(each) for each in heard}) == 1
        return np.sum(heard, axis=0)


class Line:
    """Stands for the pipe between a rank's child and its parent; counts the pieces."""

    def __init__(self, rounds: Rounds, working: Any = None) -> None:
        self._rounds, self.stop_requested, self.pieces = rounds, False, 0
        self._working = working or threading.Lock()

    def exchange(self, questions: Sequence[Any]) -> list[Any]:
        """Only one rank computes at a time, and the others go on while it waits: MLX's random state is everybody's."""
        self.pieces += len(questions)
        with contextlib.ExitStack() as stack:
            if self._working.locked():
                self._working.release()
                stack.callback(self._working.acquire)
            return [self._rounds.exchange(question) for question in questions]


def together(size: int, work: Callable[[Rank], Any]) -> list[Any]:
    """What `work` returns, or the MlxDistillError it raises, on each rank."""
    meeting = Meeting(size)
    found: list[Any] = [None] * size
    bugs: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            found[rank] = work(Rank(meeting, rank))
        except MlxDistillError as error:
            found[rank] = error
        except BaseException as error:
            bugs.append(error)
            meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if bugs:
        raise bugs[0]
    return found


@given(st.lists(st.integers(), unique=True), st.integers(1, 5))
def test_every_row_is_in_one_share(rows: list[int], size: int) -> None:
    shares = [Parallel(rank, size, Line(None)).share(rows) for rank in range(size)]  # type: ignore[arg-type]
    assert sorted(row for share in shares for row in share) == sorted(rows)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_sums_are_the_same_on_all_ranks_in_pieces_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlx.core as mx

    chance = np.random.default_rng(0)
    matrices = chance.normal(size=(3, 2, 5)).astype(np.float32)
    vectors = chance.normal(size=(3, 7)).astype(np.float32)

    def work(rank: Rank) -> Any:
        line = Line(Rounds(rank))  # type: ignore[arg-type]
        tree = {"layers": [{"a": mx.array(matrices[rank.rank])}, {}], "b": mx.array(vectors[rank.rank], mx.bfloat16)}
        company = Parallel(rank.rank, rank.size, line)
        total, figures = company.sum(tree, {"loss": 0.1 * rank.rank})
        empty, more = company.sum({}, {"right": rank.rank, "bad": [0.0, math.nan, math.inf][rank.rank]})
        assert (total["layers"][1], empty, more) == ({}, {}, {"right": 3, "bad": pytest.approx(math.nan, nan_ok=True)})
        assert total["b"].dtype == mx.bfloat16
        return np.array(total["layers"][0]["a"]), np.array(total["b"].astype(mx.float32)), figures, line.pieces

    for piece_bytes, pieces in ((parallel.PIECE_BYTES, 2), (16, 6)):
        monkeypatch.setattr(parallel, "PIECE_BYTES", piece_bytes)
        for matrix, vector, figures, sent in together(3, work):
            np.testing.assert_allclose(matrix, matrices.sum(axis=0), rtol=1e-5)
            np.testing.assert_allclose(vector, vectors.sum(axis=0), atol=0.05)
            assert figures == {"loss": pytest.approx(0.3)}
            assert sent == pieces


def test_all_ranks_stop_at_the_same_sum_when_one_is_asked_to() -> None:
    def work(rank: Rank) -> list[bool]:
        line = Line(Rounds(rank))  # type: ignore[arg-type]
        company = Parallel(rank.rank, rank.size, line)
        answers: list[bool] = []
        for step in range(3):
            line.stop_requested = rank.rank == 1 and step == 1
            company.sum({}, {})
            line.stop_requested = rank.rank == 1  # heard between the sum and the question: too late for this step
            answers.append(company.stop(line.stop_requested))
        return answers

    assert together(2, work) == [[False, True, True]] * 2


def test_one_rank_alone_asks_nobody() -> None:
    checkpoint = Checkpoint(3, {}, {})
    assert Alone().sum("tree", {"loss": 1.0}) == ("tree", {"loss": 1.0})
    assert Alone().share((4, 5)) == [4, 5]
    assert [Alone().stop(asked) for asked in (True, False)] == [True, False]
    assert Alone().first(checkpoint) is checkpoint


def test_all_begin_with_the_state_of_rank_0() -> None:
    import mlx.core as mx

    def work(rank: Rank) -> Any:
        tensors = {name: {"w": mx.full((2,), rank.rank + 1.0)} for name in ("adapter", "optimizer", "best")}
        own = Checkpoint(7 - rank.rank, asdict(TrainState(step=7 - rank.rank)), tensors)
        found = Parallel(rank.rank, rank.size, Line(Rounds(rank))).first(own)  # type: ignore[arg-type]
        return found.step, found.state["step"], {name: each["w"].tolist() for name, each in found.tensors.items()}

    sent = {"adapter": [1, 1], "optimizer": [1, 1]}
    assert together(2, work) == [(7, 7, {**sent, "best": [1, 1]}), (7, 7, sent)]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_ends_all_ranks_and_is_told_by_rank_0(failing: int) -> None:
    def work(rank: Rank) -> tuple[Any, bool]:
        rounds = Rounds(rank)  # type: ignore[arg-type]
        company = Parallel(rank.rank, rank.size, Line(rounds))
        try:
            with rounds:
                rounds.meet("start")
                if rank.rank == failing:
                    raise DataError("no rows", where="train.jsonl:1", hint="add some")
                company.sum({}, {"loss": 1.0})
        except MlxDistillError as error:
            return error, rounds.agreed
        raise AssertionError

    found = together(3, work)
    assert [agreed for _, agreed in found] == [True] * 3
    assert type(found[failing][0]) is DataError
    for error in (found[rank][0] for rank in range(3) if rank != failing):
        assert type(error) is RanksParted
        assert str(error) == f"rank {failing} on mac-{failing}: train.jsonl:1: no rows"
        assert error.hint == "add some"


def test_a_lost_connection_is_told_by_everyone() -> None:
    class Lost(Rank):
        def gather(self, message: Any, stopped: Any = None) -> list[Any]:
            raise MlxDistillError("the connection to another rank was lost", where="rank 1 on mac-1")

    rounds = Rounds(Lost(Meeting(2), 1))  # type: ignore[arg-type]
    with pytest.raises(RanksParted, match="connection") as caught, rounds:
        rounds.meet("start")
    assert "goes on from rank 0's newest checkpoint" in (caught.value.hint or "")
    assert not rounds.agreed


def test_the_other_ranks_get_the_rows_and_need_the_same_model(model_folder: ModelFolder, work: Path) -> None:
    request = train_request(model_folder("llama"), work, train={"epochs": 3}, lora={"dropout": 0.25})

    def order(rank: Rank) -> Any:
        if rank.rank == 0:
            return give_order(rank, request)  # type: ignore[arg-type]
        told, folder = rank.broadcast(), work / "elsewhere"
        folder.mkdir()
        take_files(rank, told, folder)  # type: ignore[arg-type]
        own = own_request(rank, told, folder, str(model_folder("llama")))  # type: ignore[arg-type]
        shutil.copytree(model_folder("llama"), work / "model")
        with (work / "model" / "config.json").open("a") as file:
            file.write(" ")
        with pytest.raises(ModelError, match="the model on mac-1 is not the same as on mac-0"):
            own_request(rank, told, folder, str(work / "model"))  # type: ignore[arg-type]
        with pytest.raises(MlxDistillError, match=r"has 0\.0"):
            own_request(rank, {**told, "version": "0.0"}, folder, str(model_folder("llama")))  # type: ignore[arg-type]
        return own

    own = together(2, order)[1]
    assert (own.train, own.lora, own.prompt, own.labels) == (
        request.train,
        request.lora,
        request.prompt,
        request.labels,
    )
    assert (own.rank, own.ranks) == (1, 2)
    for name in ("train.jsonl", "valid.jsonl"):
        assert (own.data / name).read_bytes() == (request.data / name).read_bytes()
    assert not own.output.is_relative_to(work / "data")


def train_together(request: TrainRequest, ranks: int, stop_at: int | None = None) -> list[TrainResult | None]:
    """Each rank's result, or None where it stopped; rank 0's reporter asks for that at a step."""
    working = threading.Lock()

    def work(rank: Rank) -> TrainResult | None:
        line = Line(Rounds(rank), working)  # type: ignore[arg-type]
        elsewhere = request.data.parent / f"rank-{rank.rank}"
        own = request if rank.rank == 0 else replace(request, output=elsewhere, checkpoints=elsewhere, rank=rank.rank)

        class Asked(Reporter):
            def advance(self, done: int, total: int, **figures: float) -> None:
                line.stop_requested = rank.rank == ranks - 1 and done == stop_at

        with working:
            base, shape, training, truncated = prepare(own, Asked(), Parallel(rank.rank, ranks, line))
            with contextlib.suppress(StopRequested):
                return train(own, base, shape, training, truncated)
        return None

    return together(ranks, work)


def losses(result: TrainResult | None) -> list[Any]:
    assert result is not None
    return [[event.step, event.loss, event.valid_loss, event.valid_accuracy] for event in result.history]


TRAIN = {"batch_size": 7, "batch_tokens": 128, "validations_per_epoch": 2, "epochs": 2}


@pytest.mark.parametrize(("ranks", "settings"), [(2, {}), (3, {"batch_size": 2})])
def test_ranks_have_the_losses_of_one(
    model_folder: ModelFolder, work: Path, ranks: int, settings: dict[str, Any]
) -> None:
    """Also where a step has fewer rows than there are ranks."""
    request = train_request(model_folder("llama"), work, train={**TRAIN, **settings})
    alone, _ = train_here(replace(request, checkpoints=work / "other", output=work / "alone"))
    results = train_together(request, ranks)
    assert [losses(result) for result in results[1:]] == [losses(results[0])] * (ranks - 1)
    np.testing.assert_allclose(losses(results[0]), losses(alone), rtol=1e-5)
    assert not list(work.glob("rank-*"))  # only rank 0 leaves files
    assert (work / "adapters" / "adapters.safetensors").exists()


def test_a_stopped_training_goes_on_with_as_many_ranks_to_the_same_bytes_and_with_others_to_the_same_losses(
    model_folder: ModelFolder, work: Path
) -> None:
    request = train_request(model_folder("llama"), work, train=TRAIN)
    whole = train_together(replace(request, checkpoints=work / "other", output=work / "whole"), 2)[0]
    assert train_together(request, 2, stop_at=6) == [None, None]
    assert [path.name for path in request.checkpoints.glob("[0-9]*")].count("00000007") == 1
    shutil.copytree(request.checkpoints, work / "three")
    shutil.copytree(request.checkpoints, work / "one")
    assert losses(train_together(request, 2)[0]) == losses(whole)
    name = "adapters.safetensors"
    assert (request.output / name).read_bytes() == (work / "whole" / name).read_bytes()
    results = [train_together(replace(request, checkpoints=work / "three"), 3)[0]]
    results.append(train_here(replace(request, checkpoints=work / "one"))[0])
    for result in results:
        np.testing.assert_allclose(losses(result), losses(whole), rtol=1e-5)


def test_rank_0_keeps_what_was_done_when_another_is_lost(model_folder: ModelFolder, work: Path) -> None:
    class Vanishing(Alone):
        steps = 0

        def sum(self, tree: Any, figures: Any) -> Any:
            self.steps += bool(tree)
            if self.steps > 3:
                raise RanksParted("the connection to another rank was lost")
            return super().sum(tree, figures)

    request = train_request(model_folder("llama"), work, train={**TRAIN, "validations_per_epoch": 1})
    with pytest.raises(RanksParted):
        prepare(request, Reporter(), Vanishing())[2].run()
    assert [path.name for path in request.checkpoints.glob("[0-9]*")] == ["00000003"]
    assert losses(train_here(request)[0]) == losses(train_here(replace(request, checkpoints=work / "other"))[0])
