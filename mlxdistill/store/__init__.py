"""The label store: every teacher answer, filter decision and label by a person, in one SQLite file."""

from mlxdistill.store.decisions import Decision
from mlxdistill.store.labels import LabelStore
from mlxdistill.store.people import PersonLabel, Stale, Verdict
from mlxdistill.store.reader import LabellerStatistics, LabelReader, StoredLabeller
from mlxdistill.store.records import SETTLED

__all__ = [
    "SETTLED",
    "Decision",
    "LabelReader",
    "LabelStore",
    "LabellerStatistics",
    "PersonLabel",
    "Stale",
    "StoredLabeller",
    "Verdict",
]
