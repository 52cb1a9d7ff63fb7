"""Ranks of mlx.launch exchange messages; an ordinary process has none and does not load MLX for them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mlxdistill.errors import UsageError
from mlxdistill.platform.ranks import join_ranks

LAUNCH = Path(sys.executable).with_name("mlx.launch")


def launch(script: str, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # fmt: off
    arguments = [LAUNCH, "-n", str(ranks), "--backend", "ring", "--starting-port", str(port), "--",
                 sys.executable, "-c", PRELUDE + script]
    # fmt: on
    return subprocess.run(
        list(map(str, arguments)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )


PRELUDE = """
import os, signal, sys, time
from mlxdistill.errors import Interrupted, MlxDistillError
from mlxdistill.platform.ranks import join_ranks
from mlxdistill.privacy.guard import install_guard
install_guard()
stopped = False
ranks = join_ranks(lambda: stopped)
def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()
"""


def test_messages_arrive_whole_whatever_their_length() -> None:
    result = launch(
        """
for length in (0, 1, 1013, 1014, 1015, 70_000):  # of some, with quotes and length, just fill a frame
    heard = ranks.broadcast({"text": "ä" * length} if ranks.rank == 0 else "ignored")
    assert heard == {"text": "ä" * length}, heard
    assert ranks.gather("x" * length * ranks.rank) == ["", "x" * length, "x" * length * 2]
assert not [name for name in os.environ if name.startswith("MLX_")]
say("rank", ranks.rank, "of", ranks.size, "fine")
""",
        ranks=3,
    )
    assert sorted(result.stdout.splitlines()) == [f"rank {rank} of 3 fine" for rank in range(3)], result.stderr


def test_a_rank_that_dies_is_said() -> None:
    result = launch(
        """
if ranks.rank == 1:
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # mlx.launch ends the others
try:
    ranks.gather("hello")
except MlxDistillError as error:
    say(error.message)
"""
    )
    assert result.stdout == "the connection to another rank was lost\n", result.stderr


def test_waiting_for_others_can_be_stopped() -> None:
    result = launch(
        """
if ranks.rank == 1:
    time.sleep(60)
def stop(number, frame):
    global stopped
    stopped = True
signal.signal(signal.SIGALRM, stop)
signal.alarm(1)
try:
    ranks.broadcast("hello") if ranks.rank else ranks.gather("hello")
except Interrupted as error:
    say(error.message)
sys.exit(3)
"""
    )
    assert result.stdout == "stopped\n", result.stderr


def test_a_rank_alone_has_no_others() -> None:
    assert launch("say(ranks)", ranks=1).stdout == "None\n"


def test_an_ordinary_process_has_no_ranks_and_loads_no_mlx() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLX_")}
    script = f"""{PRELUDE}
import mlxdistill.cli.session, mlxdistill.pipeline.ranks
assert ranks is None and "mlx" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs a Unix")
def test_the_others_cannot_be_reached(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.json"
    hosts.write_text('[["not an address"], ["127.0.0.1:1"]]')
    script = """
try:
    join_ranks(lambda: False)
except MlxDistillError as error:
    print(error, error.hint)
"""
    before = PRELUDE.replace("ranks = join_ranks(lambda: stopped)\n", "")
    environment = {**os.environ, "MLX_RANK": "0", "MLX_HOSTFILE": str(hosts)}
    result = subprocess.run(
        [sys.executable, "-c", before + script], env=environment, capture_output=True, text=True, check=True
    )
    assert "rank 0 on" in result.stdout
    assert "cannot reach the other ranks" in result.stdout


@pytest.mark.parametrize(
    ("variables", "backend"),
    [
        ({"MLX_RANK": "1", "MLX_HOSTFILE": "hosts.json"}, "ring"),
        ({"MLX_RANK": "1", "MLX_IBV_DEVICES": "devices.json", "MLX_JACCL_COORDINATOR": "10.0.0.1:1"}, "jaccl"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, "mpi"),
        ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, None),
        ({}, None),
    ],
)
def test_the_backend_is_the_one_of_the_launch(
    variables: dict[str, str], backend: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlx.core as mx

    class Group:
        def rank(self) -> int:
            return 1

        def size(self) -> int:
            return 2

    asked: list[str] = []
    monkeypatch.setattr(mx.distributed, "init", lambda strict, backend: (asked.append(backend), Group())[1])
    monkeypatch.chdir(tmp_path)
    Path("hosts.json").write_text("[[], []]")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ranks = join_ranks(lambda: False)
    assert asked == ([] if backend is None else [backend])
    assert (None if ranks is None else ranks.rank) == (None if backend is None else 1)
    assert not [name for name in os.environ if name.startswith("MLX_")]


def test_a_backend_of_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_RANK", "0")
    monkeypatch.setenv("NCCL_HOST_IP", "10.0.0.1")
    with pytest.raises(UsageError, match="NCCL"):
        join_ranks(lambda: False)
