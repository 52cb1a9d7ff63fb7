"""Dawid and Skene 1979: whom to trust how far, learned from who agrees with whom, without gold.

Every teacher is taken to have a confusion matrix of its own: how often it says each label of rows of each class. Rows
have one hidden class, and given that, teachers err independently. Expectation maximisation goes back and forth between
the rows' classes and the matrices, starting from the vote shares. It wants three teachers or more; of two who disagree
nothing tells which is right.

Rows with the same votes have the same class probabilities, so that the work grows with the number of different votes,
not with that of the rows. Counts are smoothed by one row's worth for each class of each teacher, spread evenly, which
keeps a label nobody named yet from being impossible; products are sums of logarithms, so that many teachers and labels
do not underflow. There is no randomness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlxdistill.statistics.resampling import Floats, Integers
from mlxdistill.teacher.votes import NONE, Flags, vote_shares

FEWEST_TEACHERS = 3
MOST_ITERATIONS = 1000
TOLERANCE = 1e-4  # of the class probabilities of any row
SMOOTHING_ROWS = 1.0
FEWEST_ROWS = 0.5  # expected of a class; of fewer a confusion matrix says little but the smoothing


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """What was learned.

    Attributes:
        prior: (K,) how common each class is.
        confusion: (teachers, K, K) the probability that a teacher says the last label of a row of the middle class.
        rows: (teachers, K) how many rows of each class are expected among those that a teacher named a label of.
        iterations: how many it took.
        objectives: after each, the log-likelihood of the votes and the smoothing; never falls.
        converged: whether the classes stopped moving.
    """

    prior: Floats
    confusion: Floats
    rows: Floats
    iterations: int
    objectives: tuple[float, ...]
    converged: bool

    def class_probabilities(self, votes: Integers) -> Floats:
        """Of rows by their votes (n, teachers), (n, K); zeros for a row without a vote."""
        joint = _log_joint(self.prior, self.confusion, votes)
        shares = np.exp(joint - _log_sum(joint)[:, None])
        shares[(votes == NONE).all(axis=1)] = 0.0
        return shares

    @property
    def seen(self) -> Flags:
        """(teachers, K) whether the votes say how a teacher answers rows of the class."""
        return self.rows >= FEWEST_ROWS

    def reliability(self, teacher: int) -> float | None:
        """How often the teacher is right, were the model true; None where it named no label."""
        if not self.rows[teacher].any():
            return None
        return float((self.prior * np.diagonal(self.confusion[teacher])).sum())


def fit_dawid_skene(votes: Integers, labels: int, counts: Integers | None = None) -> DawidSkene:
    """Learns from votes (n, teachers): places of labels, NONE where a teacher named none.

    Args:
        labels: how many (K) the task has.
        counts: (n,) how many rows have these votes; default: one each.

    Source: A. P. Dawid, A. M. Skene, Maximum likelihood estimation of observer error-rates using the EM algorithm,
    Applied Statistics 28 (1979).
    """
    voted = (votes != NONE).any(axis=1)
    weights = np.ones(len(votes)) if counts is None else counts.astype(np.float64)
    votes, places = np.unique(votes[voted], axis=0, return_inverse=True)
    weights = np.bincount(places.ravel(), weights[voted], len(votes)).astype(np.float64)
    shares, converged = vote_shares(votes, labels), False
    objectives: list[float] = []
    prior, confusion = _maximise(votes, weights, shares)
    while not converged and len(objectives) < MOST_ITERATIONS:
        joint = _log_joint(prior, confusion, votes)
        evidence = _log_sum(joint)
        objectives.append(float(weights @ evidence) + _smoothing(prior, confusion))
        moved = np.exp(joint - evidence[:, None])
        converged = not len(votes) or float(np.abs(moved - shares).max()) < TOLERANCE
        shares = moved
        prior, confusion = _maximise(votes, weights, shares)
    rows = np.where((votes != NONE).T[:, :, None], shares * weights[:, None], 0.0).sum(axis=1)
    return DawidSkene(prior, confusion, rows, len(objectives), tuple(objectives), converged)


def _maximise(votes: Integers, weights: Floats, shares: Floats) -> tuple[Floats, Floats]:
    """The prior and the confusion matrices that fit the rows' class probabilities best."""
    labels = shares.shape[1]
    weighted = shares * weights[:, None]
    prior = weighted.sum(axis=0) + SMOOTHING_ROWS / labels
    confusion = np.full((votes.shape[1], labels, labels), SMOOTHING_ROWS / labels)
    for teacher, said in enumerate(votes.T):
        named = said != NONE
        for label in np.unique(said[named]):
            confusion[teacher, :, label] += weighted[said == label].sum(axis=0)
    return prior / prior.sum(), confusion / confusion.sum(axis=2, keepdims=True)


def _log_joint(prior: Floats, confusion: Floats, votes: Integers) -> Floats:
    """log P(class, votes), (n, K)."""
    joint: Floats = np.tile(np.log(prior), (len(votes), 1))
    for teacher, said in enumerate(votes.T):
        named = said != NONE
        joint[named] += np.log(confusion[teacher]).T[said[named]]
    return joint


def _log_sum(joint: Floats) -> Floats:
    most = joint.max(axis=1, initial=-np.inf)
    total: Floats = most + np.log(np.exp(joint - most[:, None]).sum(axis=1))
    return total


def _smoothing(prior: Floats, confusion: Floats) -> float:
    labels = len(prior)
    return SMOOTHING_ROWS / labels * float(np.log(prior).sum() + np.log(confusion).sum())
