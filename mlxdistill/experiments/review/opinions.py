"""What others said of a row: every answer that the teacher's was made of, told apart by teacher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mlxdistill.rundir.layout import RunDir
from mlxdistill.store import LabelReader, LabelStore
from mlxdistill.tasks.protocols import Answer


@dataclass(frozen=True, slots=True)
class Opinion:
    """One teacher's label.

    Attributes:
        who: the teacher's name.
        label: None where its answer names none.
        share: the mean probability of the label over these answers; None where they have no probabilities.
        times, of: how many of its answers name this label, of how many.
    """

    who: str
    label: str | None
    share: float | None
    times: int
    of: int


@dataclass(frozen=True, slots=True)
class Voices:
    """Whose answers count.

    Attributes:
        number: of the labels in force.
        givers: those whose answers these were made of, with their names; empty where a single answer was used as it is.
    """

    number: int
    givers: Mapping[int, str]

    def answers(self, store: LabelStore, hashes: Mapping[str, str]) -> dict[str, Answer]:
        """Row id -> the answer in force, for rows (id -> hash of their text) as they now read."""
        found: dict[str, Answer] = {}
        for answer in store.answers(self.number, hashes):
            found.setdefault(answer.row_id, answer)
        return found

    def opinions(self, store: LabelStore, hashes: Mapping[str, str]) -> dict[str, list[Opinion]]:
        """Row id -> what each of the givers said, for those of the rows that several answers were given to."""
        found: dict[str, list[Opinion]] = {}
        for number, name in self.givers.items():
            given: dict[str, list[Answer]] = {}
            for answer in store.answers(number, hashes):
                given.setdefault(answer.row_id, []).append(answer)
            for row_id, answers in given.items():
                found.setdefault(row_id, []).extend(_opinions(name, answers))
        return found


def voices(run: RunDir, number: int) -> Voices:
    """Args: number: of the labels in force."""
    with LabelReader(run.labels) as reader:
        by_number = {labeller.number: labeller for labeller in reader.labellers()}

    def givers(numbers: Iterable[int]) -> Iterator[int]:
        for each in numbers:
            if each in by_number:
                yield from givers(by_number[each].made_of) if by_number[each].is_derived else (each,)

    members = by_number[number].made_of if number in by_number else ()
    return Voices(number, {each: by_number[each].name for each in givers(members)})


def _opinions(who: str, answers: list[Answer]) -> Iterator[Opinion]:
    by_label: dict[str | None, list[Answer]] = {}
    for answer in answers:
        by_label.setdefault(answer.label, []).append(answer)
    for label, said in sorted(by_label.items(), key=lambda item: (-len(item[1]), item[0] or "")):
        shares = [max(answer.probabilities) for answer in said if answer.probabilities is not None]
        share = sum(shares) / len(shares) if shares and label is not None else None
        yield Opinion(who, label, share, len(said), len(answers))
