"""The label store: every teacher answer and filter decision, in one SQLite file."""

from mlxdistill.store.labels import Decision, LabelStore
from mlxdistill.store.reader import LabellerStatistics, LabelReader, StoredLabeller
from mlxdistill.store.records import SETTLED

__all__ = ["SETTLED", "Decision", "LabelReader", "LabelStore", "LabellerStatistics", "StoredLabeller"]
