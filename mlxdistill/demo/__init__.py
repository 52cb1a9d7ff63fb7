"""The embedded demo: two small models, their configuration, and the rows of a bank's inbox.

In a wheel the models lie inside this package, in a checkout in `models/` at its root.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "demo.yaml"


def models_folder() -> Path:
    """The folder that holds `teacher/` (a GGUF) and `student/` (an MLX model)."""
    packaged = HERE / "models"
    return packaged if packaged.is_dir() else HERE.parents[1] / "models"


def embedded_model(name: str) -> Path | None:
    """The path behind `embedded:teacher` or `embedded:student`; None for any other name."""
    paths = {"embedded:teacher": "teacher/demo-teacher-q8_0.gguf", "embedded:student": "student"}
    return models_folder() / paths[name] if name in paths else None
