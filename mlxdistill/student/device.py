"""What a student's process sets before it opens a model."""

from __future__ import annotations

from mlxdistill.platform.metal import has_metal, set_memory_limits
from mlxdistill.student.cpu_kernels import use_cpu_kernels


def prepare_device() -> None:
    """Memory limits on Metal; without it, kernels of the CPU that are faster than MLX's own."""
    set_memory_limits()
    if not has_metal():
        use_cpu_kernels()
