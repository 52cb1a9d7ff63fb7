"""How many threads of the CPU decode fastest, found by trying.

llama.cpp's threads wait for each other by spinning. On a machine that does something else besides, one thread for
every core can be several times slower than one fewer; and half of many cores may be all that the memory can feed. The
logits are the same for any number.
"""

from __future__ import annotations

from collections.abc import Callable

from mlxdistill.tasks.protocols import Progress

ROUNDS = 2
MANY_CORES = 8
WORTH_A_NOTE = 1.5


def fastest_threads(most: int, seconds_with: Callable[[int], float], progress: Progress) -> int:
    """The fastest number up to `most`.

    Args:
        seconds_with: decodes the same tokens with so many threads, and says how long that took.
    """
    counts = sorted({most, max(1, most - 1), most // 2 if most >= MANY_CORES else most}, reverse=True)
    if len(counts) == 1:
        return most
    seconds = dict.fromkeys(counts, 0.0)
    for count in counts * ROUNDS:
        seconds[count] += seconds_with(count)
    fastest = min(counts, key=lambda count: seconds[count])
    if seconds[most] >= WORTH_A_NOTE * seconds[fastest]:
        times = seconds[most] / seconds[fastest]
        progress.note(f"decoding with {fastest} of {most} cores: {times:.1f} times as fast as with all, just now")
    return fastest
