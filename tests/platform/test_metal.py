"""Without Metal nothing is limited; with it, the limits follow from the device."""

from __future__ import annotations

import pytest

from mlxdistill.platform.metal import has_metal, set_memory_limits


@pytest.mark.skipif(has_metal(), reason="this machine has Metal")
def test_there_is_nothing_to_set_without_metal() -> None:
    assert set_memory_limits() == 0


@pytest.mark.metal
@pytest.mark.skipif(not has_metal(), reason="needs a Mac with Metal")
def test_the_recommended_working_set_is_wired() -> None:
    import mlx.core as mx

    assert set_memory_limits() in (0, int(mx.device_info()["max_recommended_working_set_size"]))
