"""Which candidate to use, without chasing noise.

Two questions are asked of the same rows, and each has its own family of tests (McNemar's exact test, or sign flips of
whole groups; corrected by Holm):

- Is a candidate better than what its teacher is configured with? The configured one was named before any answer was
  seen, so one comparison for each other candidate is corrected for. It is recommended to leave it only where the answer
  is yes: of candidates that are all equally good, some other one is then recommended in at most 5 % of experiments.
- Which candidates are worse than the best? The best was found in these very rows, so every pair counts as compared.

"Better" and "worse" are said only where the corrected p value is below 5 % and the interval leaves out 0. Among those
that are better than the configured one, one that is shown to be no worse than the best of them by more than
`evaluate.margin`, and clearly faster, is preferred.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlxdistill.evaluation.comparisons import difference
from mlxdistill.evaluation.records import Record
from mlxdistill.evaluation.samples import make_pair
from mlxdistill.evaluation.scores import Resampling
from mlxdistill.statistics.intervals import CONFIDENCE, Interval
from mlxdistill.statistics.multiple import detectable_difference, holm
from mlxdistill.statistics.paired import mcnemar_exact, sign_flip
from mlxdistill.statistics.resampling import sums_by_cluster

SIGNIFICANT = round(1 - CONFIDENCE, 10)
CLEARLY_FASTER = 1.2  # times as many rows a second; less is within the noise of a short measurement
BY_GROUP = "sign flip by group"
_FLIPS_PER_TEST = 40  # so that the smallest p value that can be seen, corrected, is still below 5 %


@dataclass(frozen=True, slots=True, eq=False)
class Entrant:
    """What the choice knows of a candidate.

    Attributes:
        records: its answers to rows with gold, by row id.
        configured: its teacher is configured so; each teacher has one such.
    """

    name: str
    teacher: str
    configured: bool
    records: Mapping[str, Record]
    rows_per_second: float | None = None

    @property
    def right(self) -> int:
        """Rows right; those not answered are not."""
        return sum(bool(record.correct) for record in self.records.values())


@dataclass(frozen=True, slots=True)
class Versus:
    """A candidate against another on the `n` rows that both answered.

    Attributes:
        only, other_only: rows that only this one, only the other has right.
        difference: in accuracy, this one less the other; None without rows.
        p_value, p_adjusted: None without rows.
    """

    other: str
    n: int
    only: int = 0
    other_only: int = 0
    difference: Interval | None = None
    test: str | None = None
    p_value: float | None = None
    p_adjusted: float | None = None

    @property
    def value(self) -> float:
        """The difference in accuracy; 0 without rows."""
        return self.difference.value if self.difference else 0.0

    @property
    def disagreement(self) -> float:
        """The share of rows on which one is right and the other wrong."""
        return (self.only + self.other_only) / self.n

    @property
    def sign(self) -> int:
        """1 where this one is better, -1 where it is worse, 0 where that cannot be told."""
        ends = self.difference.ci if self.difference else None
        if self.p_adjusted is None or self.p_adjusted >= SIGNIFICANT or ends is None or ends[0] <= 0 <= ends[1]:
            return 0
        return 1 if self.value > 0 else -1

    def no_worse(self, margin: float) -> bool:
        """Whether the interval shows that this one loses no more than `margin` to the other."""
        return self.difference is not None and self.difference.ci is not None and self.difference.ci[0] > -margin


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do with one teacher.

    Attributes:
        configured, recommended: names of candidates; the same where nothing is shown to be better.
        faster: a candidate that may stand in for the recommended one where speed counts, or None.
    """

    teacher: str
    configured: str
    recommended: str
    faster: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What the rows can tell about the candidates.

    Attributes:
        best: the name of the one with the most rows right.
        against_best, against_configured: by name, of all but the best, all but the configured ones.
        detectable: the smallest difference from a configured candidate that would probably have been found
            (`statistics.multiple.detectable_difference`); None: none would, or there is nothing to compare.
        disagreement: the mean share of rows on which a candidate and the configured one differ.
    """

    best: str
    against_best: Mapping[str, Versus]
    against_configured: Mapping[str, Versus]
    recommendations: tuple[Recommendation, ...]
    detectable: float | None
    disagreement: float

    @property
    def grouped(self) -> bool:
        """Whether rows come in groups, so that they prove less than as many that stand alone."""
        return any(versus.test == BY_GROUP for versus in self.against_configured.values())


def choose(
    entrants: Sequence[Entrant], gold: Mapping[str, str], labels: Sequence[str], resampling: Resampling, margin: float
) -> Choice:
    """Compares the entrants on the rows with gold.

    Args:
        gold: the right label by row id; not empty.
        labels: the task's, in order.
        margin: how much less accurate a faster candidate may be, `evaluate.margin`.
    """
    judge = _Judge(gold, labels, resampling)
    configured = {each.teacher: each for each in entrants if each.configured}
    others = [each for each in entrants if not each.configured]
    best = max(entrants, key=lambda each: (each.right, each.configured, each.rows_per_second or 0.0))
    against_configured = judge.family([(each, configured[each.teacher]) for each in others])
    every_pair = judge.family([(a, b) if b is best else (b, a) for a, b in itertools.combinations(entrants, 2)])
    recommendations = []
    for own in configured.values():
        better = [each for each in others if each.teacher == own.teacher and against_configured[each, own].sign > 0]
        top = max(better, key=lambda each: each.right, default=own)
        pick = judge.fastest(better, top, margin) or top
        rivals = [each for each in entrants if each.teacher == own.teacher and each is not pick]
        faster = judge.fastest(rivals, pick, margin)
        recommendations.append(Recommendation(own.teacher, own.name, pick.name, faster.name if faster else None))
    disagreements = [each.disagreement for each in against_configured.values() if each.n]
    mean = statistics.fmean(disagreements) if disagreements else 0.0
    return Choice(
        best=best.name,
        against_best={a.name: result for (a, b), result in every_pair.items() if b is best},
        against_configured={a.name: result for (a, _), result in against_configured.items()},
        recommendations=tuple(recommendations),
        detectable=detectable_difference(len(gold), mean, SIGNIFICANT / len(disagreements)) if disagreements else None,
        disagreement=mean,
    )


class _Judge:
    """Compares two entrants at a time on the rows that both answered."""

    def __init__(self, gold: Mapping[str, str], labels: Sequence[str], resampling: Resampling) -> None:
        self._gold = gold
        self._labels = labels
        self._resampling = resampling

    def family(self, pairs: Sequence[tuple[Entrant, Entrant]]) -> dict[tuple[Entrant, Entrant], Versus]:
        """Each first against its second, the p values corrected for all of them."""
        flips = max(self._resampling.resamples, _FLIPS_PER_TEST * len(pairs))
        results = [self._compare(a, b, flips) for a, b in pairs]
        corrected = iter(holm([each.p_value for each in results if each.p_value is not None]))
        adjusted = (each if each.p_value is None else replace(each, p_adjusted=next(corrected)) for each in results)
        return dict(zip(pairs, adjusted, strict=True))

    def fastest(self, rivals: Sequence[Entrant], than: Entrant, margin: float) -> Entrant | None:
        """The fastest of those that are clearly faster, and shown to be no worse by more than the margin."""
        wanted = CLEARLY_FASTER * (than.rows_per_second or math.inf)
        faster = [each for each in rivals if (each.rows_per_second or 0.0) >= wanted]
        close = [each for each in faster if self._compare(each, than, 1).no_worse(margin)]
        return max(close, key=lambda each: each.rows_per_second or 0.0, default=None)

    def _compare(self, a: Entrant, b: Entrant, flips: int) -> Versus:
        pair = make_pair(a.records, b.records, self._gold, self._labels)
        n = len(pair.reference)
        if not n:
            return Versus(b.name, 0)
        _, only, other_only, _ = (int(total) for total in pair.cells.sum(axis=0))
        if pair.clusters is None:
            test, p_value = "mcnemar exact", mcnemar_exact(only, other_only)
        else:
            cells = sums_by_cluster(pair.cells, pair.clusters)
            test = BY_GROUP
            p_value = sign_flip(cells[:, 1] - cells[:, 2], resamples=flips, seed=self._resampling.seed)
        return Versus(b.name, n, only, other_only, difference(pair, self._resampling), test, p_value)
