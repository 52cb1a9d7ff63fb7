"""How long something will still take.

The pace is that of the later half of what this command has done: what an earlier command did counts as done, but not as
speed, and neither do compiling and other first steps count for long.
"""

from __future__ import annotations

from collections import deque

MOST_SAMPLES = 256
SHORTEST_SECONDS = 1.0


class TimeLeft:
    """Of one bar that fills from `done` to `total`."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def update(self, done: float, total: float, now: float) -> float | None:
        """Seconds left at the time `now` (seconds, of any clock that does not jump); None while nobody can know."""
        samples = self._samples
        if samples and done < samples[-1][1]:
            samples.clear()
        samples.append((now, done))
        middle = (samples[0][0] + now) / 2
        began, before = next(sample for sample in reversed(samples) if sample[0] <= middle)
        if len(samples) > MOST_SAMPLES:
            self._samples = deque(sample for number, sample in enumerate(samples) if number % 2 == 0)
        if now - began < SHORTEST_SECONDS or done <= before:
            return None
        return max(0.0, total - done) * (now - began) / (done - before)
