"""Folders that this user may not enter are said, with the place; as root, the tests become another user first."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFIG = """\
task: {instruction: Decide., labels: [ok, toxic]}
data: {source: rows.jsonl}
teacher: {model: embedded:teacher}
student: {model: embedded:student}
"""


@pytest.fixture
def closed(common_folder: Path):
    folder = common_folder / "closed"
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "student").mkdir()
    (common_folder / "config.yaml").write_text(CONFIG)
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["config", "show", "closed/config.yaml"], "closed/config.yaml: cannot be read"),
        (["run", "config.yaml", "--run-dir", "closed"], "'closed' is not readable"),
        (["run", "config.yaml", "--run-dir", "closed/sub"], "closed/sub: cannot write"),
        (["run", "config.yaml"], "runs: cannot write"),
        (["predict", "closed/sub", "-"], "closed/sub/config.yaml: not the folder of a finished run"),
        (["init", "new", "--labels", "a,b"], "new.yaml: cannot write"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("closed")
def test_a_closed_folder_is_one_clear_error(unprivileged, arguments: list[str], message: str) -> None:
    result = unprivileged(*arguments)
    assert result.returncode in (1, 2), result.stderr
    assert "Traceback" not in result.stderr
    assert message in result.stderr


@pytest.mark.usefixtures("closed")
def test_doctor_goes_on_past_a_closed_folder(unprivileged, common_folder: Path) -> None:
    text = CONFIG.replace("embedded:teacher", "./closed/t.gguf").replace("embedded:student", "./closed")
    (common_folder / "config.yaml").write_text(text)
    before = (
        "import mlxdistill.student.base, mlxdistill.teacher.labeller\n"
        "from mlxdistill.platform import device\n"
        "from mlxdistill.rundir import manifest\n"
        "facts, versions = device.device_facts('.'), manifest.package_versions()\n"
        "device.device_facts, manifest.package_versions = lambda _: facts, lambda: versions\n"
    )
    result = unprivileged("doctor", "config.yaml", before=before)
    assert "Traceback" not in result.stderr
    assert result.returncode == 1
    assert f"{common_folder}/closed/t.gguf: cannot be read: permission denied" in result.stdout
    assert f"{common_folder}/closed: cannot be read: permission denied" in result.stdout
