"""Several opinions about the same rows made into one: by the mean of their class probabilities, or by majority.

An opinion is a whole distribution over the labels; whoever only named a label is taken to be sure of it. Who gave no
usable answer does not vote. No result depends on the order of the voters: what they say is sorted before it is added,
so that not even rounding does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mlxdistill.statistics.resampling import Floats, Integers

Flags = npt.NDArray[np.bool_]
NONE = -1


@dataclass(frozen=True, slots=True)
class Opinions:
    """What one voter thinks of n rows.

    Attributes:
        labels: (n,) the place of the label it named; NONE where it named none.
        shares: (n, K) class probabilities, summing to 1; zeros where it named no label.
        answered: (n,) whether it answered at all; an answer that names no label is one.
        graded: (n,) whether the shares are more than the bare label.
        agreement: (n,) of an opinion that several were made into, the share of the answers that named its label; else
            NaN.
    """

    labels: Integers
    shares: Floats
    answered: Flags
    graded: Flags
    agreement: Floats

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, rows: Integers | Flags) -> Opinions:
        """Those about some of the rows."""
        return Opinions(
            self.labels[rows], self.shares[rows], self.answered[rows], self.graded[rows], self.agreement[rows]
        )

    def with_shares(self, shares: Floats) -> Opinions:
        """The same, with other class probabilities where they are graded. The labels stay."""
        return replace(self, shares=np.where(self.graded[:, None], shares, self.shares))

    def relabelled(self) -> Opinions:
        """The same, each label that had class probabilities now the most probable one."""
        return replace(self, labels=np.where(self.graded, top(self.shares), self.labels))


def make_opinions(labels: Integers, shares: Floats, *, answered: Flags | None = None) -> Opinions:
    """Opinions of single answers.

    Args:
        labels: (n,) places, NONE for an answer that names no label.
        shares: (n, K) class probabilities; NaN or zeros where only a label was named.
        answered: (n,); default: all.
    """
    named = labels != NONE
    graded = named & (np.nan_to_num(shares).sum(axis=1) > 0)
    one_hot = np.zeros(shares.shape)
    one_hot[named, labels[named]] = 1.0
    full = np.where(graded[:, None], np.nan_to_num(shares), one_hot)
    full /= np.maximum(full.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    everyone = np.ones(len(labels), dtype=np.bool_) if answered is None else answered
    return Opinions(labels, full, everyone, graded, np.full(len(labels), np.nan))


def mean(members: Sequence[Opinions]) -> Opinions:
    """The mean of the class probabilities of those who named a label; the label is the most probable one.

    Of labels that are equally probable it is the task's first. A single member is returned as it is.
    """
    if len(members) == 1:
        return members[0]
    shares = _mean_shares(members)
    return _joined(members, np.where(shares.any(axis=1), top(shares), NONE), shares)


def majority(members: Sequence[Opinions]) -> Opinions:
    """The label that most named. The class probabilities are the labels' shares of the votes.

    Of labels with equally many votes it is the one with the greater mean probability, then the task's first. A single
    member is returned as it is.
    """
    if len(members) == 1:
        return members[0]
    shares = vote_shares(np.column_stack([member.labels for member in members]), members[0].shares.shape[1])
    most = shares == shares.max(axis=1, keepdims=True)
    labels = top(np.where(most, _mean_shares(members), -1.0))
    return _joined(members, np.where(shares.any(axis=1), labels, NONE), shares)


def vote_shares(votes: Integers, labels: int) -> Floats:
    """Each label's share of the votes (n, voters) of each row: (n, labels); zeros for a row without a vote."""
    counts = (votes[:, :, None] == np.arange(labels)).sum(axis=1).astype(np.float64)
    shares: Floats = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def agreement(members: Sequence[Opinions], labels: Integers) -> Floats:
    """The share of the members' answers that name each row's label (n,); NaN where there is no label.

    An answer that names no label counts against it; who did not answer does not count.
    """
    named = sum((member.labels == labels).astype(np.float64) for member in members)
    answers = sum(member.answered.astype(np.float64) for member in members)
    shares: Floats = np.full(len(labels), np.nan)
    np.divide(named, answers, out=shares, where=(labels != NONE) & (np.asarray(answers) > 0))
    return shares


def top(shares: Floats) -> Integers:
    """The place of the largest share of each row (n, K), the first of equals: (n,)."""
    places: Integers = shares.argmax(axis=1)
    return places


def _mean_shares(members: Sequence[Opinions]) -> Floats:
    stacked = np.sort(np.stack([member.shares for member in members]), axis=0)
    voters = sum((member.labels != NONE).astype(np.float64) for member in members)
    shares: Floats = stacked.sum(axis=0) / np.maximum(voters, 1)[:, None]
    return shares


def _joined(members: Sequence[Opinions], labels: Integers, shares: Floats) -> Opinions:
    answered = np.logical_or.reduce([member.answered for member in members])
    return Opinions(labels, shares, answered, labels != NONE, agreement(members, labels))
