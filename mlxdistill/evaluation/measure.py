"""Records to metrics: which scores, pairs and verdicts make up metrics.json.

With gold, every system is scored, and the student is compared with each of the others. Without, the teacher's answers
take gold's place, and only how often the others agree with it is given: a student that copies a wrong teacher agrees
perfectly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlxdistill.evaluation.comparisons import compare
from mlxdistill.evaluation.records import Record
from mlxdistill.evaluation.samples import Pair, Sample, make_pair, make_sample
from mlxdistill.evaluation.scores import Resampling, accuracy_interval, score
from mlxdistill.evaluation.verdict import REPLACEMENT_SET, replacement, retention

STUDENT, TEACHER = "student", "teacher"

Records = Mapping[tuple[str, str], Mapping[str, Record]]


@dataclass(frozen=True, slots=True)
class _Found:
    """The records with the labels they are measured against."""

    records: Records
    reference: Mapping[str, Mapping[str, str]]
    labels: Sequence[str]

    def answered(self, system: str, set_name: str) -> Mapping[str, Record]:
        return self.records.get((system, set_name), {})

    def sample(self, system: str, set_name: str) -> Sample:
        return make_sample(self.answered(system, set_name), self.reference.get(set_name, {}), self.labels)

    def pair(self, a: str, b: str, set_name: str) -> Pair:
        reference = self.reference.get(set_name, {})
        return make_pair(self.answered(a, set_name), self.answered(b, set_name), reference, self.labels)


def measure(
    records: Records, header: Mapping[str, Any], sets: Mapping[str, Any], speeds: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of metrics.json.

    Args:
        records: by (system, set), then by row id.
        header: its first keys, with `labels`, `reference` (gold or teacher) and `settings` (margin, resamples, seed).
        sets: its sets, with their sizes.
        speeds: `rows_per_second` and `peak_memory_bytes` of every system.
    """
    settings, kind = header["settings"], header["reference"]
    resampling = Resampling(settings["resamples"], settings["seed"])
    found = _Found(records, reference_labels(records, kind), header["labels"])
    scored = _gold_scores if kind == "gold" else _agreement
    content = {
        **header,
        "sets": dict(sets),
        "systems": {
            name: {"sets": {set_name: scored(found, name, set_name, resampling) for set_name in sets}, **speed}
            for name, speed in speeds.items()
        },
        "comparisons": _comparisons(found, kind, list(speeds), sets, resampling),
        "retention": {},
        "replacement": None,
    }
    if kind == "gold":
        both = STUDENT in speeds and TEACHER in speeds
        pairs = {name: found.pair(STUDENT, TEACHER, name) for name in sets} if both else {}
        content["retention"] = {
            name: retention(name, pair, sets[name]["n"], resampling) for name, pair in pairs.items()
        }
        rows = sets.get(REPLACEMENT_SET, {"n": 0})["n"]
        content["replacement"] = replacement(pairs.get(REPLACEMENT_SET), rows, settings["margin"], resampling)
    return content


def set_sizes(records: Records, names: Iterable[str], labels: Sequence[str], kind: str) -> dict[str, dict[str, Any]]:
    """The size of each set: its rows with a reference, how many of each class, and how many rows are left out."""
    reference = reference_labels(records, kind)
    sizes = {}
    for name in names:
        rows = {row_id for (_, set_name), found in records.items() if set_name == name for row_id in found}
        right = reference.get(name, {})
        counts = Counter(right.values())
        sizes[name] = {"n": len(right), "class_counts": {label: counts[label] for label in labels}}
        if len(rows) > len(right):
            sizes[name]["without_gold" if kind == "gold" else "without_teacher"] = len(rows) - len(right)
    return sizes


def reference_labels(records: Records, kind: str) -> dict[str, dict[str, str]]:
    """The labels taken as right, by set and row id: gold, or what the teacher said."""
    reference: dict[str, dict[str, str]] = {}
    for (system, set_name), rows in records.items():
        right = reference.setdefault(set_name, {})
        for record in rows.values():
            label = record.gold if kind == "gold" else record.prediction if system == TEACHER else None
            if label is not None:
                right[record.id] = label
    return reference


def _gold_scores(found: _Found, system: str, set_name: str, resampling: Resampling) -> dict[str, Any]:
    return score(found.sample(system, set_name), found.labels, resampling)


def _agreement(found: _Found, system: str, set_name: str, resampling: Resampling) -> dict[str, Any]:
    answered = {"answered": len(found.answered(system, set_name))}
    if system == TEACHER:
        return answered
    sample = found.sample(system, set_name)
    agreement = accuracy_interval(sample, resampling).to_json() if len(sample.reference) else None
    return {**answered, "agreement": agreement}


def _comparisons(
    found: _Found, kind: str, systems: Sequence[str], sets: Mapping[str, Any], resampling: Resampling
) -> list[dict[str, Any]]:
    if STUDENT not in systems:
        return []
    metric, left_out = ("accuracy", {STUDENT}) if kind == "gold" else ("agreement", {STUDENT, TEACHER})
    return [
        compare(STUDENT, other, name, metric, found.pair(STUDENT, other, name), size["n"], resampling)
        for other in systems
        if other not in left_out
        for name, size in sets.items()
    ]
