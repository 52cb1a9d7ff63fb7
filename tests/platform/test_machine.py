"""What this machine is, measured rather than believed."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlxdistill.platform import blas
from mlxdistill.platform.device import device_facts
from mlxdistill.platform.memory import machine_memory_bytes, peak_memory_bytes

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="MLX uses Accelerate on macOS")


@linux_only
@pytest.mark.skipif(
    shutil.which("cc") is None, reason="only the shim for SciPy's OpenBLAS is compiled, and there is no C compiler"
)
def test_the_forwarding_blas_multiplies_and_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = blas._scipy_shim()
    built = path.stat().st_mtime_ns
    library = ctypes.CDLL(str(path))
    a, b = (np.random.default_rng(seed).random((3, 3), dtype=np.float32) for seed in (0, 1))
    c = np.zeros((3, 3), np.float32)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (a, b, c)]
    row_major, no_transpose, one, zero = 101, 111, ctypes.c_float(1), ctypes.c_float(0)
    library.cblas_sgemm(
        row_major, no_transpose, no_transpose, 3, 3, 3, one, pointers[0], 3, pointers[1], 3, zero, pointers[2], 3
    )
    assert np.allclose(c, a @ b)
    assert blas._scipy_shim().stat().st_mtime_ns == built


@linux_only
def test_mlx_multiplies_through_the_forwarding_blas(tmp_path: Path) -> None:
    script = (
        "from mlxdistill.platform import blas; blas.SYSTEM_LIBRARY = 'nothing'; print(blas.load_blas())\n"
        "import mlx.core as mx, numpy as np; a = mx.random.normal((300, 200)); b = mx.random.normal((200, 100))\n"
        "print(bool(np.allclose(np.array(a @ b), np.array(a) @ np.array(b), atol=1e-3)))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.split("\n")[:2] == ["OpenBLAS of SciPy", "True"]


def test_peak_memory_follows_what_was_used() -> None:
    script = (
        "from mlxdistill.platform.memory import peak_memory_bytes as peak\n"
        "before = peak(); block = bytearray(b'x' * 100_000_000); del block; print(peak() - before)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 90_000_000 < int(result.stdout) < 250_000_000


def test_facts_are_plausible(tmp_path: Path) -> None:
    facts = device_facts(tmp_path)
    assert facts.cores >= 1
    assert 0 < peak_memory_bytes() < machine_memory_bytes() == facts.memory_bytes
    assert facts.gemm_gflops > 1
    assert facts.metal == (facts.working_set_bytes is not None) == (facts.gemm_gflops_metal is not None)
    assert facts.disk_free_bytes > 0


def test_the_blas_is_measured_on_the_processor_and_metal_on_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlx.core as mx

    devices = []
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": 1})
    monkeypatch.setattr("mlxdistill.platform.device._gemm_gflops", lambda device: devices.append(device) or 1.0)
    device_facts(tmp_path)
    assert devices == [mx.cpu, mx.gpu]
