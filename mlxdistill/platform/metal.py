"""What MLX needs to be told on a Mac.

Without a wired limit, macOS pages a large model's weights in and out while it trains; without a cache limit, the memory
that MLX keeps for reuse grows beside what it counts as its peak. Both follow from what the device recommends. On Linux
there is nothing to set: MLX runs on the CPU, where half precision is forty times slower than float32.
"""

from __future__ import annotations

CACHE_SHARE = 0.25


def has_metal() -> bool:
    """Whether MLX computes on a Mac's graphics processor."""
    import mlx.core as mx

    return bool(mx.metal.is_available())


def set_memory_limits() -> int:
    """Wires the recommended working set and caps the cache at a quarter of it.

    Returns the wired limit in bytes, 0 without Metal. Needs macOS 15 for wiring; where that is refused, training is
    slower but right, so it goes on.
    """
    import mlx.core as mx

    if not has_metal():
        return 0
    recommended = int(mx.device_info()["max_recommended_working_set_size"])
    mx.set_cache_limit(int(recommended * CACHE_SHARE))
    try:
        mx.set_wired_limit(recommended)
    except (RuntimeError, ValueError):
        return 0
    return recommended
