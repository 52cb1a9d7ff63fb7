"""How much memory this process has used, and how much the machine has.

macOS counts what Metal allocates in a process's physical footprint but not in its resident size; Linux's VmHWM is the
resident peak. Each is the figure its system kills by.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

RUSAGE_INFO_V4 = 4
# struct rusage_info_v4 (<sys/resource.h>): 16 bytes of uuid, then uint64 fields; the index of
# ri_lifetime_max_phys_footprint.
LIFETIME_MAX_PHYS_FOOTPRINT = 28
RUSAGE_INFO_V4_FIELDS = 35


def peak_memory_bytes() -> int:
    """The most memory this process has had at once, in bytes."""
    if sys.platform == "darwin":
        return _peak_physical_footprint()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def machine_memory_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _peak_physical_footprint() -> int:
    class RusageInfo(ctypes.Structure):
        _fields_ = [("uuid", ctypes.c_uint8 * 16), ("fields", ctypes.c_uint64 * RUSAGE_INFO_V4_FIELDS)]

    import os

    info = RusageInfo()
    libproc = ctypes.CDLL("/usr/lib/libproc.dylib")
    if libproc.proc_pid_rusage(os.getpid(), RUSAGE_INFO_V4, ctypes.byref(info)) != 0:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(info.fields[LIFETIME_MAX_PHYS_FOOTPRINT])
