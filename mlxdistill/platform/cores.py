"""How many cores and threads there are to use."""

from __future__ import annotations

import os

BLAS_THREADS = "OPENBLAS_NUM_THREADS"


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    import psutil

    return psutil.cpu_count(logical=False) or 1


def blas_threads() -> int:
    """Threads of OpenBLAS: what the user's environment says, else one a core.

    The number decides how sums are split and so the last bits of a training: it is set, not left to the library, and
    kept in the manifest.
    """
    asked = os.environ.get(BLAS_THREADS, "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else usable_cores()


def thread_environment() -> dict[str, str]:
    """Variables for the process of a student."""
    return {BLAS_THREADS: str(blas_threads())}
