"""Rounds of writing and judging, until every class has its rows or is given up.

A round has as many drafts as the yield so far makes likely to be enough, so that the model's process changes its work a
few times only. Nothing here knows the model: it is handed what writes drafts, and what asks the teacher about rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlxdistill.config.synth import SynthConfig
from mlxdistill.experiments.synthesis.checks import NEAR, Profile, faults
from mlxdistill.experiments.synthesis.journal import Draft, Journal, Verdict
from mlxdistill.experiments.synthesis.wanted import Job
from mlxdistill.tasks.protocols import Progress
from mlxdistill.tasks.rows import Row, normalised
from mlxdistill.text.shingles import shingles

TWIN = "nearly the same as another synthetic row"
PILOT = 64  # drafts of a class before its yield is known
FEWEST, MOST = 8, 512  # drafts of a class in a round
MARGIN = 1.1
JUDGED_ENOUGH = 50  # drafts after which a yield can be called hopeless


@dataclass(frozen=True, slots=True)
class Ask:
    """A draft to be written: of which label, the number among its drafts, and the rows to show."""

    label: str
    number: int
    seeds: tuple[Row, ...]


Write = Callable[[Sequence[Ask]], Iterator[list[Draft]]]
"""Writes drafts, in groups as they are finished."""
Judge = Callable[[Sequence[Row]], Mapping[str, str | None]]
"""Says of each row, by its id, why the teacher does not stand by its `meta["intended"]` label; None where it does."""
Keep = Callable[[Sequence[Row]], None]
"""Keeps rows that were accepted, with the teacher's answers to them."""


class Synthesis:
    """One job.

    Args:
        profiles: of the classes of which rows are wanted, in the task's order.
        texts: of all rows there are, synthetic ones too, normalised.
    """

    def __init__(
        self,
        job: Job,
        synth: SynthConfig,
        profiles: Mapping[str, Profile],
        journal: Journal,
        write: Write,
        judge: Judge,
        keep: Keep,
        texts: Callable[[], Iterable[str]],
        progress: Progress,
    ) -> None:
        self._job = job
        self._synth = synth
        self._profiles = profiles
        self._journal = journal
        self._write = write
        self._judge = judge
        self._keep = keep
        self._texts = texts
        self._progress = progress

    def run(self) -> None:
        """Until nothing is missing, or nothing can be hoped for."""
        while True:
            wanting = [label for label in self._profiles if self.missing(label)]
            pending = [draft for label in wanting for draft in self._journal.pending(label)]
            # A stop leaves gaps. They are filled before anything is judged, so that drafts are always taken in order.
            asks = [self._ask(label, number) for label in wanting for number in self._journal.gaps(label)]
            if pending and not asks:
                self._decide(pending)
                continue
            asks = asks or [ask for label in wanting for ask in self._next_asks(label)]
            if not asks:
                return
            for group in self._write(asks):
                self._journal.add(group)

    def missing(self, label: str) -> int:
        """How many rows are still to be accepted."""
        return self._job.wanted.get(label, 0) - self._journal.outcomes(label, self._job.number)[None]

    def given_up(self, label: str) -> bool:
        """Whether so little came of the drafts that the rest would take too many."""
        outcomes = self._journal.outcomes(label, self._job.number)
        judged, most = outcomes.total(), self._synth.most_drafts
        # With 0 of n accepted the yield is below 3 / n, with 95 % confidence (Hanley and Lippman-Hand 1983).
        hopeless = judged >= JUDGED_ENOUGH and (outcomes[None] + 3) * most < judged
        return hopeless or judged >= most * self._job.wanted.get(label, 0)

    def _next_asks(self, label: str) -> Iterator[Ask]:
        if self.given_up(label):
            return
        outcomes = self._journal.outcomes(label, self._job.number)
        judged = outcomes.total()
        rate = (outcomes[None] + 1) / (judged + 2)
        count = max(FEWEST, math.ceil(MARGIN * self.missing(label) / rate))
        count = min(count, MOST if judged >= PILOT // 2 else PILOT)
        count = min(count, self._synth.most_drafts * self._job.wanted[label] - judged)
        first = self._journal.next_number(label)
        for number in range(first, first + count):
            yield self._ask(label, number)

    def _ask(self, label: str, number: int) -> Ask:
        return Ask(label, number, self._seeds(label, number))

    def _seeds(self, label: str, number: int) -> tuple[Row, ...]:
        rows = self._profiles[label].rows
        random = np.random.default_rng([self._synth.seed, number, *label.encode()])
        chosen = random.choice(len(rows), min(self._synth.seeds, len(rows)), replace=False) if rows else ()
        return tuple(rows[int(each)] for each in chosen)

    def _decide(self, pending: Sequence[Draft]) -> None:
        judged = (draft for key, draft in self._journal.drafts.items() if key in self._journal.verdicts)
        found: dict[tuple[str, int], str | None] = dict(faults(pending, self._profiles, judged, self._texts))
        rows = {draft.key: draft.row() for draft in pending if draft.key not in found}
        said = self._judge(list(rows.values()))
        found |= {key: said[row.id] for key, row in rows.items()}
        missing = {label: self.missing(label) for label in self._profiles}
        accepted: list[Row] = []
        verdicts: list[Verdict] = []
        sets: list[set[str]] = []
        for draft in pending:
            reason = found[draft.key]
            if reason is None:
                if not missing[draft.label]:
                    continue  # it waits for a job that wants more
                own = shingles(normalised(rows[draft.key].text))
                if any(_similar(own, other) for other in sets):
                    reason = TWIN
                else:
                    sets.append(own)
                    accepted.append(rows[draft.key])
                    missing[draft.label] -= 1
            verdicts.append(Verdict(draft.label, draft.number, reason, self._job.number))
        # Rows before verdicts: after a stop in between, a draft whose row is there has been accepted.
        self._keep(accepted)
        self._journal.add(verdicts)
        for label in dict.fromkeys(draft.label for draft in pending):
            outcomes = self._journal.outcomes(label, self._job.number)
            self._progress.note(
                f"{label}: {outcomes[None]:,} of {self._job.wanted[label]:,} rows after {outcomes.total():,} drafts"
            )


def _similar(ours: set[str], theirs: set[str]) -> bool:
    fewer, more = sorted((len(ours), len(theirs)))
    common = len(ours & theirs) if fewer >= NEAR * more else 0
    return common >= NEAR * (fewer + more - common)
