"""Facts about this machine, for `mlxdistill doctor`."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxdistill.platform.blas import load_blas
from mlxdistill.platform.memory import machine_memory_bytes

GEMM_SIZE = 1024
GEMM_REPEATS = 5


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What decides how large a model fits and how fast it runs.

    Attributes:
        working_set_bytes: what Metal recommends to use at most; None without Metal.
        gemm_gflops: float32 matrix multiplication on the processor, through MLX and its BLAS, best of several, in 1e9
            operations a second; `gemm_gflops_metal` is that of the graphics processor, None without Metal.
    """

    system: str
    python: str
    chip: str
    cores: int
    memory_bytes: int
    working_set_bytes: int | None
    metal: bool
    blas: str
    gemm_gflops: float
    gemm_gflops_metal: float | None
    disk_free_bytes: int


def device_facts(folder: Path) -> DeviceFacts:
    """Measures this machine; `folder` says which disk. Takes about a second."""
    blas = load_blas()
    import mlx.core as mx

    metal = bool(mx.metal.is_available())
    working_set = int(mx.device_info()["max_recommended_working_set_size"]) if metal else None
    return DeviceFacts(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        chip=_chip(),
        cores=_cores(),
        memory_bytes=machine_memory_bytes(),
        working_set_bytes=working_set,
        metal=metal,
        blas=blas,
        gemm_gflops=_gemm_gflops(mx.cpu),
        gemm_gflops_metal=_gemm_gflops(mx.gpu) if metal else None,
        disk_free_bytes=shutil.disk_usage(folder).free,
    )


def _cores() -> int:
    import psutil

    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def _chip() -> str:
    if sys.platform == "darwin":
        import subprocess

        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return (
            subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or platform.processor()
        )
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _gemm_gflops(device: Any) -> float:
    import mlx.core as mx

    fastest = float("inf")
    with mx.stream(device):
        a, b = (mx.random.normal((GEMM_SIZE, GEMM_SIZE)) for _ in range(2))
        mx.eval(a, b)
        for _ in range(GEMM_REPEATS):
            start = time.perf_counter()
            mx.eval(a @ b)
            fastest = min(fastest, time.perf_counter() - start)
    return 2 * GEMM_SIZE**3 / fastest / 1e9
