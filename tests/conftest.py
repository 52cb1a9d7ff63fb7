"""For all tests: no network, and the BLAS that users get."""

from __future__ import annotations

import signal

import pytest

from mlxdistill.platform.blas import load_blas
from mlxdistill.privacy.guard import install_guard

install_guard()
load_blas()
# A shell that starts the tests in the background lets them ignore Ctrl-C, and every process they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


class SilentProgress:
    """Implements `tasks.protocols.Progress`; keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.advances: list[tuple[int, int]] = []

    def advance(self, done: int, total: int, **figures: float) -> None:
        self.advances.append((done, total))

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def progress() -> SilentProgress:
    return SilentProgress()
