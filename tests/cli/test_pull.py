"""`pull` against a hub on this machine that speaks the real one's protocol: what is fetched, what is refused."""

from __future__ import annotations

import errno
import hashlib
import http.server
import json
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxdistill.cli.pull import _hub_errors, _with_parts
from mlxdistill.errors import ModelError

COMMIT = "a" * 40
CHAT = "{% for message in messages %}{{ message.content }}{% endfor %}"


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0\0\0\0"


MODEL = {
    "config.json": json.dumps({"model_type": "llama"}).encode(),
    "model.safetensors": safetensors(),
    "tokenizer.json": json.dumps({"model": {"vocab": {}}}).encode(),
    "tokenizer_config.json": json.dumps({"chat_template": CHAT}).encode(),
    "modeling.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
}
REPOSITORIES = {
    "org/good": MODEL,
    "org/pickled": {"config.json": b"{}", "pytorch_model.bin": b"pickle"},
    "org/own-code": MODEL | {"config.json": json.dumps({"model_type": "x", "auto_map": {"AutoModel": "m.M"}}).encode()},
    "org/two-ggufs": {"a.gguf": b"GGUF", "b.gguf": b"GGUF"},
    "org/damaged-gguf": {"a.gguf": b"GGUF\x03\x00\x00\x00cut"},
    "org/gated": MODEL,
    "org/cut": MODEL | {"model.safetensors": safetensors()[:-1]},
    "org/no-vocabulary": MODEL | {"tokenizer.json": b"{}"},
    "org/plain": MODEL | {"tokenizer_config.json": b"{}"},
    "org/broken-template": MODEL | {"chat_template.jinja": b"{% if %}"},
}


class Hub(http.server.BaseHTTPRequestHandler):
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        self.asked.append(self.path)
        parts = self.path.split("?")[0].strip("/").split("/")
        name = "/".join(parts[2:4] if parts[:2] == ["api", "models"] else parts[:2])
        files = REPOSITORIES.get(name)
        if files is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)
        elif parts[0] == "api":
            siblings = [{"rfilename": file, "size": len(content)} for file, content in files.items()]
            info = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0}
            if "tree" in parts:
                tree = [
                    {"type": "file", "path": file, "size": len(content), "oid": "0" * 40}
                    for file, content in files.items()
                ]
                self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body)
            else:
                self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
        elif name == "org/gated":
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo"}, body)
        else:
            content = files["/".join(parts[4:])]
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self._send(200, content, headers, body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(mlxdistill, tmp_path: Path) -> Iterator:
    Hub.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def pull(model: str):
            endpoint = f"http://127.0.0.1:{server.server_port}"
            environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
            environment |= {"HF_HUB_DISABLE_XET": "1", "TRANSFORMERS_OFFLINE": "0"}
            return mlxdistill("pull", model, **environment)

        yield pull
        server.shutdown()


def test_a_model_arrives_without_anything_that_could_run(hub, mlxdistill, tmp_path: Path) -> None:
    result = hub("org/good")
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not any("modeling.py" in path or ".bin" in path for path in Hub.asked)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("org/pickled", "neither safetensors nor GGUF"),
        ("org/own-code", "auto_map"),
        ("org/two-ggufs", "mlxdistill pull org/two-ggufs:a.gguf"),
        ("org/two-ggufs:c.gguf", "has no c.gguf"),
        ("org/damaged-gguf", "a.gguf"),
        ("org/cut", "model.safetensors is cut short"),
        ("org/no-vocabulary", "holds no vocabulary"),
        ("org/nothing", "no such model"),
        ("org/gated", "hf auth login"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(hub, tmp_path: Path, model: str, expected: str) -> None:
    result = hub(model)
    assert result.returncode == 1
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "hf").glob("hub/models--*/snapshots/*"))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("org/plain", "note: org/plain: the model has no chat template"),
        ("org/broken-template", "note: org/broken-template: the model's chat template fails in its line 1"),
    ],
)
def test_a_model_that_cannot_chat_is_kept_and_said(hub, model: str, expected: str) -> None:
    result = hub(model)
    assert result.returncode == 0, result.stderr
    assert expected in result.stderr
    assert Path(result.stdout.strip()).is_dir()


def test_a_hub_that_cannot_be_reached_is_one_line(mlxdistill, tmp_path: Path) -> None:
    result = mlxdistill("pull", "org/good", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0")
    assert result.returncode == 1
    assert "cannot be reached" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["just-a-name", "a b/c", "a--b/c", "../b", "org/" + "x" * 100])
def test_a_name_that_is_no_hub_id(call, name: str) -> None:
    result = call("pull", name)
    assert result.returncode == 2
    assert "org/name" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_refused_model_takes_nothing_of_what_was_there(hub, tmp_path: Path) -> None:
    repository = tmp_path / "hf" / "hub" / "models--org--two-ggufs"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("b" * 40)
    (repository / "blobs" / "mine").write_bytes(b"mine")
    (snapshot / "b.gguf").symlink_to("../../blobs/mine")
    before = {path: path.is_file() and path.read_bytes() for path in repository.rglob("*")}
    assert hub("org/two-ggufs:a.gguf").returncode == 1
    assert {path: path.is_file() and path.read_bytes() for path in repository.rglob("*")} == before


def test_code_is_refused_before_the_weights_are_fetched(hub) -> None:
    assert hub("org/own-code").returncode == 1
    assert not any("safetensors" in path for path in Hub.asked)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("best-of-breed.gguf", ["best-of-breed.gguf"]),
        ("m-00001-of-00002.gguf", ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]),
        ("m.x-00001-of-00002.gguf", []),
    ],
)
def test_the_parts_of_a_split_set_and_nothing_else(file: str, expected: list[str]) -> None:
    names = ["best-of-breed.gguf", "best-of-luck.gguf", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    names += ["m-00001-of-00003.gguf", "mmx-00001-of-00002.gguf", "m-big-00002-of-00002.gguf"]
    assert _with_parts(file, names) == expected


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "cannot be written")])
def test_the_disks_refusals_are_not_blamed_on_the_network(number: int, expected: str) -> None:
    with pytest.raises(ModelError) as caught, _hub_errors("org/name"):
        raise OSError(number, "refused")
    assert expected in caught.value.message
    assert "HF_HOME" in (caught.value.hint or "")
