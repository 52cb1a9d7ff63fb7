"""The label store: every teacher answer and filter decision, in one SQLite file."""

from mlxdistill.store.labels import Decision, LabelStore

__all__ = ["Decision", "LabelStore"]
