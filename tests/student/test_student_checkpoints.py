"""Checkpoints: whole or passed over, the two newest kept, never another training's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlxdistill.student.checkpoints import Checkpoint, Checkpoints


def checkpoint(step: int) -> Checkpoint:
    import mlx.core as mx

    return Checkpoint(
        step, {"loss": 0.1 + 0.2, "history": [step]}, {"adapter": {"b": mx.arange(4) + step, "a": mx.ones(2)}}
    )


def test_what_was_saved_is_loaded_to_the_bit_and_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", "f")
    assert checkpoints.load() == (None, [])
    for step in (1, 5, 12):
        checkpoints.save(checkpoint(step))
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["00000005", "00000012"]
    found, notes = checkpoints.load()
    assert found is not None
    assert notes == []
    assert (found.step, found.state) == (12, {"loss": 0.1 + 0.2, "history": [12]})
    assert np.array(found.tensors["adapter"]["b"]).tolist() == [12, 13, 14, 15]


def test_the_same_step_may_be_saved_again(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "f")
    checkpoints.save(checkpoint(3))
    checkpoints.save(checkpoint(3))
    assert [path.name for path in tmp_path.iterdir()] == ["00000003"]
    assert checkpoints.load()[0] is not None


@pytest.mark.parametrize("file", ["adapter.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "lose", "empty"])
def test_any_damage_is_recognised(tmp_path: Path, file: str, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path, "f")
    checkpoints.save(checkpoint(1))
    checkpoints.save(checkpoint(2))
    path = tmp_path / "00000002" / file
    content = bytearray(path.read_bytes())
    if damage == "lose":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes({"flip": content, "cut": content[:-3], "empty": b""}[damage])
    found, notes = checkpoints.load()
    assert found is not None
    assert found.step == 1
    assert "00000002 is damaged" in notes[0]


def test_a_folder_left_by_a_crash_is_not_a_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "f")
    checkpoints.save(checkpoint(1))
    (tmp_path / ".00000002.ab12cd34.tmp").mkdir()
    found, notes = checkpoints.load()
    assert found is not None
    assert (found.step, notes) == (1, [])


def test_checkpoints_of_another_training_are_set_aside(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "c", "one").save(checkpoint(1))
    found, notes = Checkpoints(tmp_path / "c", "two").load()
    assert found is None
    assert "anew" in notes[0]
    assert Checkpoints(tmp_path / "c", "one").load() == (None, [])
