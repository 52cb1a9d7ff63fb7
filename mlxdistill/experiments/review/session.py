"""What has been decided about the rows of a queue: the store's entries about them, and what they add up to.

The store is the only memory. Whatever another window or another process has added is read before anything is answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlxdistill.experiments.review.opinions import Opinion
from mlxdistill.experiments.review.queue import Item, Queue
from mlxdistill.experiments.review.reasons import CONTROL
from mlxdistill.experiments.review.visible import visible, visible_pieces
from mlxdistill.statistics.intervals import wilson
from mlxdistill.store import LabelStore, PersonLabel, Stale, Verdict
from mlxdistill.tasks.classification import ClassificationTask

SHOWN_CHARACTERS = 20_000  # of a text at a time
ACCEPTED, CHANGED, LABELLED, UNSURE = "accepted", "changed", "labelled", "unsure"


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows decided: as the teacher, otherwise than the teacher, without seeing an answer of the teacher's, unsure."""

    accepted: int = 0
    changed: int = 0
    labelled: int = 0
    unsure: int = 0

    @property
    def decided(self) -> int:
        return self.accepted + self.changed + self.labelled + self.unsure

    @property
    def share(self) -> dict[str, Any] | None:
        """How many of the teacher's answers the person changed, with Wilson's interval; None before any."""
        total = self.accepted + self.changed
        return {"changed": self.changed, "of": total, **wilson(self.changed, total).to_json()} if total else None


class Session:
    """The queue with its decisions. Of one thread."""

    def __init__(self, store: LabelStore, queue: Queue, task: ClassificationTask) -> None:
        self.queue = queue
        self._store = store
        self._task = task
        self._places = {item.row.id: place for place, item in enumerate(queue.items)}
        self._entries: dict[int, PersonLabel] = {}
        self._standing: list[tuple[int, int]] = []  # (number, place) of the decisions that can be taken back
        self._last = 0
        self._refresh()

    def state(self, since: int = 0) -> dict[str, Any]:
        """What a page has to know besides the rows: what changed after the entry `since`, and what it adds up to."""
        self._refresh()
        changes = {place: self._status(place) for place, entry in self._entries.items() if entry.number > since}
        number, place = self._standing[-1] if self._standing else (None, None)
        return {
            "version": self._last,
            "changes": changes,
            "undoable": None if number is None else {"number": number, "place": place},
            "summary": self.summary(),
        }

    def row(self, place: int, start: int = 0) -> dict[str, Any]:
        """One row as it is shown; of a long text a part, from `start` on. Raises IndexError where there is none."""
        item = self.queue.items[place]
        text, end = item.row.text, start + SHOWN_CHARACTERS
        shown: dict[str, Any] = {
            "place": place,
            "text": [piece.to_json() for piece in visible_pieces(text[start:end])],
            "characters": len(text),
            "next": end if end < len(text) else None,
        }
        if start:
            return shown
        shown |= {
            "id": visible(item.row.id),
            "gold": None if item.row.gold is None else visible(item.row.gold),
            "reasons": [[reason.kind, visible(reason.sentence)] for reason in item.reasons],
            "blind": item.blind,
            "answer": None,
            "opinions": [],
        }
        return shown if item.blind else shown | self._said(item)

    def decide(self, place: int, label: int | None, seen: int) -> None:
        """Commits a decision: the place of a label, or None for unsure.

        Args:
            seen: the number of the last entry about the row that the page knew of; 0 for none.

        Raises Stale where there is a later one, IndexError where there is no such row or label.
        """
        item = self.queue.items[place]
        name = None if label is None else self._task.names[label]
        verdict = Verdict(item.row.id, item.content_hash, self.queue.of_set, name, item.shown_label, item.why)
        self._store.decide(verdict, seen)

    def undo(self, number: int) -> None:
        """Takes back the last decision. Raises Stale where it is another one by now."""
        self._refresh()
        if not self._standing or self._standing[-1][0] != number:
            raise Stale
        self._store.undo(number)

    def counts(self, kind: str | None = None) -> Counts:
        """What was decided; of the rows with a reason of this kind, or without one where it begins with `-`."""
        self._refresh()
        found = dict.fromkeys((ACCEPTED, CHANGED, LABELLED, UNSURE), 0)
        for place in self._entries:
            outcome, why = self._outcome(place), self.queue.items[place].why
            if outcome and (kind is None or (kind in why if kind[0] != "-" else kind[1:] not in why)):
                found[outcome] += 1
        return Counts(**found)

    def summary(self) -> dict[str, Any]:
        """Counts, and what they say of the rows that nobody has looked at."""
        counts, control = self.counts(), self.counts(CONTROL)
        return {
            "total": len(self.queue.items),
            "decided": counts.decided,
            "accepted": counts.accepted,
            "changed": counts.changed,
            "labelled": counts.labelled,
            "unsure": counts.unsure,
            "share": counts.share,
            "control": control.share,
            "findings": list(self._findings(counts.share, control.share)),
        }

    def _findings(self, all_rows: dict[str, Any] | None, control: dict[str, Any] | None) -> Iterator[str]:
        """What the counts say, each share with its interval."""
        if all_rows is None:
            return
        yield f"{_changed(all_rows)} of the teacher's answers changed: {_share(all_rows)}."
        if control is not None:
            low, high = (round(end * self.queue.others) for end in control["ci"])
            rest = f"the {self.queue.others:,} rows that nothing points at"
            yield (
                f"Of those drawn at random from {rest}, {_changed(control)}: {_share(control)},"
                f" which makes {low:,} to {high:,} wrong answers among them."
            )
        pointed = self.counts(f"-{CONTROL}").share
        if pointed is not None and control is not None:
            yield f"Of the rows that something points at, {_changed(pointed)}: {_share(pointed)}."

    def _said(self, item: Item) -> dict[str, Any]:
        """What the teacher and others said of a row."""
        answer, names = item.answer, self._task.names
        said: dict[str, Any] = {"opinions": [_opinion(each, names) for each in item.opinions]}
        if answer is not None:
            shares = answer.probabilities
            said["answer"] = {
                "label": names.index(answer.label) if answer.label in names else None,
                "shares": None if shares is None else [round(share, 6) for share in shares],
                "truncated": answer.outcome == "truncated",
                "copied": answer.copied_from is not None,
            }
        return said

    def _status(self, place: int) -> dict[str, Any]:
        entry, outcome = self._entries[place], self._outcome(place)
        names = self._task.names
        label = names.index(entry.label) if outcome and entry.label in names else None
        return {"number": entry.number, "outcome": outcome, "label": label}

    def _outcome(self, place: int) -> str | None:
        """None where nothing stands, or what stands is about another text or label than there are now."""
        entry, item = self._entries[place], self.queue.items[place]
        if entry.kind == "withdrawn" or entry.content_hash != item.content_hash:
            return None
        if entry.kind == "unsure":
            return UNSURE
        if entry.label not in self._task.names:
            return None
        return LABELLED if entry.shown is None else ACCEPTED if entry.label == entry.shown else CHANGED

    def _refresh(self) -> None:
        for entry in self._store.people_history(self._last):
            self._last = entry.number
            place = self._places.get(entry.row_id)
            if place is None:
                continue
            self._entries[place] = entry
            if entry.undoes is None:
                self._standing.append((entry.number, place))
            else:
                self._standing = [each for each in self._standing if each[0] != entry.undoes]


def _changed(share: dict[str, Any]) -> str:
    return f"{share['changed']:,} of {share['of']:,}"


def _share(share: dict[str, Any]) -> str:
    value, (low, high) = share["value"], share["ci"]
    return f"{100 * value:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})"


def _opinion(opinion: Opinion, names: Sequence[str]) -> dict[str, Any]:
    return {
        "who": visible(opinion.who),
        "label": names.index(opinion.label) if opinion.label in names else None,
        "share": opinion.share,
        "times": opinion.times,
        "of": opinion.of,
    }
