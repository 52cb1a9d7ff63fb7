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
PERSON = "person"  # the reference where people alone have given the gold, and `gold_by` of what they gave

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
        header: its first keys, with `labels`, `reference` (gold, person or teacher) and `settings` (margin, resamples,
            seed).
        sets: its sets, with their sizes.
        speeds: `rows_per_second` and `peak_memory_bytes` of every system.
    """
    settings, kind = header["settings"], header["reference"]
    resampling = Resampling(settings["resamples"], settings["seed"])
    found = _Found(records, reference_labels(records, kind), header["labels"])
    scored = _agreement if kind == TEACHER else _gold_scores
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
    if kind != TEACHER:
        both = STUDENT in speeds and TEACHER in speeds
        pairs = {name: found.pair(STUDENT, TEACHER, name) for name in sets} if both else {}
        content["retention"] = {
            name: retention(name, pair, sets[name]["n"], resampling) for name, pair in pairs.items()
        }
        rows = sets.get(REPLACEMENT_SET, {"n": 0})["n"]
        content["replacement"] = replacement(pairs.get(REPLACEMENT_SET), rows, settings["margin"], resampling)
    return content


def set_sizes(records: Records, names: Iterable[str], labels: Sequence[str], kind: str) -> dict[str, dict[str, Any]]:
    """The size of each set: its rows with a reference, how many of each class, and how many rows are left out.

    Where people gave gold, or disagree with it: how many rows of it.
    """
    reference = reference_labels(records, kind)
    sizes = {}
    for name in names:
        rows = {row_id: each for (_, of), found in records.items() if of == name for row_id, each in found.items()}
        right = reference.get(name, {})
        counts = Counter(right.values())
        sizes[name] = {"n": len(right), "class_counts": {label: counts[label] for label in labels}}
        if len(rows) > len(right):
            sizes[name]["without_teacher" if kind == TEACHER else "without_gold"] = len(rows) - len(right)
        by_people = sum(each.gold_by == PERSON for each in rows.values())
        disputed = sum(each.disputed is not None for each in rows.values())
        sizes[name] |= {"gold_by_people": by_people} if by_people else {}
        sizes[name] |= {"disputed_gold": disputed} if disputed else {}
    return sizes


def reference_labels(records: Records, kind: str) -> dict[str, dict[str, str]]:
    """The labels taken as right, by set and row id: gold, or what the teacher said."""
    reference: dict[str, dict[str, str]] = {}
    for (system, set_name), rows in records.items():
        right = reference.setdefault(set_name, {})
        for record in rows.values():
            label = record.gold if kind != TEACHER else record.prediction if system == TEACHER else None
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
    metric, left_out = ("agreement", {STUDENT, TEACHER}) if kind == TEACHER else ("accuracy", {STUDENT})
    return [
        compare(STUDENT, other, name, metric, found.pair(STUDENT, other, name), size["n"], resampling)
        for other in systems
        if other not in left_out
        for name, size in sets.items()
    ]
