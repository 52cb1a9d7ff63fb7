"""How the trie of labels is decoded after a row.

What is decoded are the trie's inner nodes, the tokens after which a label goes on; the last token of a label only needs
the logits before it. llama.cpp lets a token belong to several sequences, so each deepest inner node gets a sequence
(a branch), a node belongs to all branches that pass through it, and the row to all of them: one decode for everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest


@dataclass(frozen=True, slots=True)
class Inner:
    """A token to decode, `depth` tokens after the row; branches `start` to before `end` pass through it."""

    token: int
    depth: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Step:
    """After `node` (0: the row's own last token; n: the inner node n - 1) comes `token`, on the way to a label."""

    node: int
    token: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Some of the labels, ready to be decoded after a row.

    Attributes:
        labels: which ones, by their place in the task.
        inner: tokens to decode, parents before children.
        branches: sequences needed, at least one.
        paths: for each label, its steps; the label's probability is the product of theirs.
        next_tokens: for each node (see Step), the tokens whose probabilities are needed there.
    """

    labels: tuple[int, ...]
    inner: tuple[Inner, ...]
    branches: int
    paths: tuple[tuple[Step, ...], ...]
    next_tokens: tuple[tuple[int, ...], ...]


def plan_branches(paths: Sequence[tuple[int, ...]], most_branches: int) -> list[Plan]:
    """One plan for all labels, or several where they need more than `most_branches` sequences.

    Args:
        paths: for each label, the tokens that are scored.
    """
    groups: list[list[int]] = []
    deepest: tuple[int, ...] = ()
    branches = 0
    for label in sorted(range(len(paths)), key=lambda label: paths[label]):
        parent = paths[label][:-1]
        # In sorted order a parent goes on with the branch, lies on it, or begins the next.
        if groups and parent[: len(deepest)] == deepest:
            deepest = parent
        elif not groups or deepest[: len(parent)] != parent:
            deepest, branches = parent, branches + 1
        if not groups or branches > most_branches:
            groups.append([])
            deepest, branches = parent, 1
        groups[-1].append(label)
    return [_plan(paths, group) for group in groups]


def _plan(paths: Sequence[tuple[int, ...]], labels: Sequence[int]) -> Plan:
    """`labels` are sorted by their paths, so that the branches through a node have consecutive numbers."""
    beginnings = sorted({paths[label][:length] for label in labels for length in range(1, len(paths[label]))})
    number = {(): 0, **{beginning: place for place, beginning in enumerate(beginnings, start=1)}}
    deepest = [
        path for path, after in zip_longest(beginnings, beginnings[1:], fillvalue=()) if after[: len(path)] != path
    ]
    inner = []
    for beginning in beginnings:
        through = [branch for branch, path in enumerate(deepest) if path[: len(beginning)] == beginning]
        inner.append(Inner(beginning[-1], len(beginning) - 1, through[0], through[-1] + 1))
    steps = [
        tuple(Step(number[paths[label][:depth]], token) for depth, token in enumerate(paths[label])) for label in labels
    ]
    wanted: list[dict[int, None]] = [{} for _ in number]
    for path in steps:
        for step in path:
            wanted[step.node][step.token] = None
    return Plan(tuple(labels), tuple(inner), max(1, len(deepest)), tuple(steps), tuple(tuple(each) for each in wanted))
