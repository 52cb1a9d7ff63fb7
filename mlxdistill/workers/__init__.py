"""Models in child processes: start, ask, progress, stop, peak memory.

A child's memory is back with the system when it ends, and a crash in native code becomes an error message instead of
the end of the run.
"""

from mlxdistill.workers.parent import Worker, stop_asked, stop_signals

__all__ = ["Worker", "stop_asked", "stop_signals"]
