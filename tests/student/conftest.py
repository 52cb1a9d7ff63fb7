"""Fixtures of the student's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_students import make_model, write_rows


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random model of a kind; made once a session, not to be written to."""
    root = tmp_path_factory.mktemp("students")

    def folder(kind: str = "llama") -> Path:
        return root / kind if (root / kind).exists() else make_model(root / kind, kind)

    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with `data/train.jsonl` (30 rows) and `data/valid.jsonl` (10 rows)."""
    write_rows(tmp_path / "data" / "train.jsonl", 30)
    write_rows(tmp_path / "data" / "valid.jsonl", 10, seed=1)
    return tmp_path
