"""How much memory this process has used, and how much the machine has.

macOS counts what Metal allocates in a process's physical footprint but not in its resident size; Linux's VmHWM is the
resident peak. Each is the figure its system kills by.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

RUSAGE_INFO_V4 = 4
# struct rusage_info_v4 (<sys/resource.h>): 16 bytes of uuid, then uint64 fields; the indices of ri_phys_footprint and
# ri_lifetime_max_phys_footprint.
PHYS_FOOTPRINT = 7
LIFETIME_MAX_PHYS_FOOTPRINT = 28
RUSAGE_INFO_V4_FIELDS = 35
# What the system and other programs are left, where no Metal says how much to use at most.
USABLE_SHARE = 0.8
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def peak_memory_bytes() -> int:
    """The most memory this process has had at once, in bytes."""
    return _physical_footprint(LIFETIME_MAX_PHYS_FOOTPRINT) if sys.platform == "darwin" else _status("VmHWM")


def memory_bytes() -> int:
    """The memory that this process has now, in bytes."""
    return _physical_footprint(PHYS_FOOTPRINT) if sys.platform == "darwin" else _status("VmRSS")


def machine_memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def usable_memory_bytes() -> int:
    """What a program should use at most where there is no Metal: a share of the machine's memory, or a container's."""
    limits = [machine_memory_bytes()]
    for path in _CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no container, or `max`
            limits.append(int(Path(path).read_text()))
    return int(min(limits) * USABLE_SHARE)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def _physical_footprint(field: int) -> int:
    class RusageInfo(ctypes.Structure):
        _fields_ = [("uuid", ctypes.c_uint8 * 16), ("fields", ctypes.c_uint64 * RUSAGE_INFO_V4_FIELDS)]

    import os

    info = RusageInfo()
    libproc = ctypes.CDLL("/usr/lib/libproc.dylib")
    if libproc.proc_pid_rusage(os.getpid(), RUSAGE_INFO_V4, ctypes.byref(info)) != 0:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(info.fields[field])
