"""Checkpoints: whole or passed over, the two newest kept, never another training's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlxdistill.errors import MlxDistillError
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


def test_weights_of_half_precision_come_back_as_they_are(tmp_path: Path) -> None:
    import mlx.core as mx

    weights = {
        "b": mx.arange(-3, 3).astype(mx.bfloat16) / 7,
        "a": mx.ones((2, 3), mx.float16),
        "s": mx.array(5, mx.uint64),
    }
    checkpoints = Checkpoints(tmp_path, "f")
    checkpoints.save(Checkpoint(1, {}, {"adapter": weights, "best": {}}))
    found, _ = checkpoints.load()
    assert found is not None
    assert found.tensors["best"] == {}
    for name, value in weights.items():
        assert found.tensors["adapter"][name].dtype == value.dtype
        assert mx.array_equal(found.tensors["adapter"][name], value)


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


def test_checkpoints_of_another_training_are_set_aside_and_found_again(tmp_path: Path) -> None:
    """Whoever changes a setting by mistake loses nothing, also after the other training has made checkpoints."""
    Checkpoints(tmp_path / "c", "one").save(checkpoint(1))
    found, notes = Checkpoints(tmp_path / "c", "two").load()
    assert found is None
    assert len(notes) == 1
    assert "set aside" in notes[0]
    assert "anew" in notes[0]
    assert Checkpoints(tmp_path / "c", "two").load() == (None, [])
    Checkpoints(tmp_path / "c", "two").save(checkpoint(2))
    for name, step in (("one", 1), ("two", 2), ("one", 1)):
        found, _ = Checkpoints(tmp_path / "c", name).load()
        assert found is not None
        assert found.step == step


def test_what_is_set_aside_is_kept_until_another_training_has_finished(tmp_path: Path) -> None:
    """Two mistakes in a row cost nothing either; and what a user keeps beside is the user's."""
    (tmp_path / "c.backup").mkdir()
    for digit in "123":
        checkpoints = Checkpoints(tmp_path / "c", digit * 64)
        checkpoints.load()
        for step in (1, 2):
            checkpoints.save(checkpoint(step))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")) == [
        f"c.{'1' * 16}/00000002",
        f"c.{'2' * 16}/00000002",
        "c/00000001",
        "c/00000002",
    ]
    checkpoints.drop_others()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "c.backup"]


def test_a_damaged_checkpoint_with_a_high_number_does_not_push_out_new_ones(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "f")
    for step in (900, 901):
        checkpoints.save(checkpoint(step))
        (tmp_path / f"{step:08d}" / "state.json").write_text("")
    found, notes = checkpoints.load()
    assert found is None
    assert "anew" in notes[-1]
    checkpoints.save(checkpoint(10))
    found, notes = checkpoints.load()
    assert found is not None
    assert (found.step, notes) == (10, [])


def test_what_a_kill_inside_a_save_left_is_swept_away(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "f")
    checkpoints.save(checkpoint(1))
    for kind in ("tmp", "old"):
        (tmp_path / f".00000002.ab12cd34.{kind}").mkdir()
        (tmp_path / f".00000002.ab12cd34.{kind}" / "adapter.safetensors").write_bytes(b"half")
    assert checkpoints.load()[0] is not None
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]


def test_a_place_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a file")
    with pytest.raises(MlxDistillError, match="cannot write") as caught:
        Checkpoints(tmp_path / "c", "f").save(checkpoint(1))
    assert caught.value.where == str(tmp_path / "c")
    assert "a file stands where a folder should be" in (caught.value.hint or "")
