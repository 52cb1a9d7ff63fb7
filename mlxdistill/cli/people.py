"""Labels by people, as `mlxdistill labels show|export|stats` shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlxdistill.store import LabelReader, PersonLabel

COUNTS = ("accepted", "changed", "labelled", "unsure")


def people_records(history: Sequence[PersonLabel], text: str | None) -> list[dict[str, Any]]:
    """What people decided about one row, oldest first.

    Args:
        text: the row's as it reads now; None where it is in no file any more.
    """
    from mlxdistill.tasks.rows import content_hash

    last = max((entry.number for entry in history), default=0)
    digest = None if text is None else content_hash(text)
    return [
        {
            "decided": entry.decided,
            "decision": entry.kind if entry.undoes is None else "taken back",
            "label": entry.label,
            "shown": entry.shown,
            "why": list(entry.why),
            "set": entry.of_set,
            "in_force": entry.number == last and entry.kind != "withdrawn" and entry.content_hash == digest,
        }
        for entry in history
    ]


def print_people(records: Sequence[Mapping[str, Any]]) -> None:
    from mlxdistill.cli.console import print_table

    if records:
        rows = [
            (
                f"{record['decided'][:19].replace('T', ' ')}{', in force' if record['in_force'] else ''}",
                record["decision"],
                record["label"] or "–",
                record["shown"] or "–",
                ", ".join(record["why"]),
            )
            for record in records
        ]
        print_table(("a person", "decision", "label", "teacher said", "asked because"), rows)


def exported_people(reader: LabelReader) -> Iterator[dict[str, Any]]:
    """What stands of what people decided, in the order of row ids."""
    for row_id, entry in sorted(reader.people().items()):
        yield {
            "id": row_id,
            "label": entry.label,
            "decision": entry.kind,
            "set": entry.of_set,
            "shown": entry.shown,
            "why": list(entry.why),
            "content_hash": entry.content_hash,
            "decided": entry.decided,
        }


def people_counts(reader: LabelReader) -> dict[str, dict[str, Any]]:
    """By set: how many rows were decided as the teacher, otherwise, without seeing its answer, and not for sure."""
    found: dict[str, Counter[str]] = {}
    classes: dict[str, Counter[str]] = {}
    for entry in reader.people().values():
        if entry.label is None:
            kind = "unsure"
        else:
            kind = "labelled" if entry.shown is None else "accepted" if entry.shown == entry.label else "changed"
            classes.setdefault(entry.of_set, Counter())[entry.label] += 1
        found.setdefault(entry.of_set, Counter())[kind] += 1
    return {
        name: {**{kind: counts[kind] for kind in COUNTS}, "classes": dict(classes.get(name, {}))}
        for name, counts in sorted(found.items())
    }


def print_people_counts(counts: Mapping[str, Mapping[str, Any]]) -> None:
    from mlxdistill.cli.console import print_table

    if counts:
        labels = dict.fromkeys(label for each in counts.values() for label in sorted(each["classes"]))
        rows = [[kind, *(f"{each[kind]:,}" for each in counts.values())] for kind in COUNTS]
        rows += [
            [f"label {name}", *(f"{each['classes'].get(name, 0):,}" for each in counts.values())] for name in labels
        ]
        print_table(("by people", *counts), rows)
