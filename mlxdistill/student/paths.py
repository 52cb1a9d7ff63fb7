"""The trie of the labels as arrays, for scoring by the batch.

What depends on the labels alone is laid out once: which paths are run, where on them logits are wanted, which tokens
are looked up there, and how the log-probabilities of branches add up to those of labels. Labels by the dozen have
hundreds of nodes, which need not be walked again for each batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlxdistill.student.batches import token_matrix
from mlxdistill.tasks.trie import Node, Trie

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Span:
    """Nodes and branches, by their numbers, that are scored together."""

    nodes: slice
    branches: slice


@dataclass(frozen=True, slots=True)
class TriePaths:
    """Nodes and branches are numbered in the order in which the paths reach them; the root is the first node.

    Attributes:
        paths: the paths to run, to the trie's deepest nodes.
        depths: int [nodes], how many tokens lead to each.
        places: int [nodes], the path whose run scores each.
        tokens: int [branches], the token of each.
        sources: int [branches], the node of each.
        steps: for each depth the labels whose paths reach it, and the number of the branch that each takes there.
    """

    paths: tuple[tuple[int, ...], ...]
    depths: Integers
    places: Integers
    tokens: Integers
    sources: Integers
    steps: tuple[tuple[Integers, Integers], ...]
    _matrix: NDArray[np.int32]
    _lengths: Integers
    _nodes_before: Integers
    _branches_before: Integers

    @property
    def branches(self) -> int:
        return len(self.tokens)

    @property
    def labels(self) -> int:
        return len(self.steps[0][0])

    @property
    def root(self) -> Span:
        return self._span(0, 1)

    def span(self, first: int, last: int, *, root: bool = True) -> Span:
        """What the paths `first` to `last` (exclusive) score, with or without the root."""
        start = int(self._nodes_before[first])
        return self._span(start if root else max(1, start), int(self._nodes_before[last]))

    def matrix(self, first: int, last: int) -> NDArray[np.int32]:
        """int32 [paths, longest of them], padded on the right."""
        return self._matrix[first:last, : self._lengths[first:last].max()]

    def label_scores(self, found: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-probabilities [rows, labels] from those of the branches [branches, rows]."""
        scores = np.zeros((found.shape[1], self.labels))
        for labels, branches in self.steps:
            scores[:, labels] += found[branches].T
        return scores

    def _span(self, first: int, last: int) -> Span:
        return Span(slice(first, last), slice(int(self._branches_before[first]), int(self._branches_before[last])))


def trie_paths(trie: Trie) -> TriePaths:
    """Lays out a trie."""
    runs = _runs(trie)
    nodes = [node for _, found in runs for node in found]
    paths = tuple(path for path, _ in runs)
    branches = [(number, branch) for number, node in enumerate(nodes) for branch in node.branches]
    return TriePaths(
        paths=paths,
        depths=np.array([len(node.path) for node in nodes]),
        places=np.array([run for run, (_, found) in enumerate(runs) for _ in found]),
        tokens=np.array([branch.token for _, branch in branches]),
        sources=np.array([number for number, _ in branches]),
        steps=_steps(trie, nodes),
        _matrix=token_matrix(paths, max(map(len, paths))),
        _lengths=np.array([len(path) for path in paths]),
        _nodes_before=np.cumsum([0, *(len(found) for _, found in runs)]),
        _branches_before=np.cumsum([0, *(len(node.branches) for node in nodes)]),
    )


def _runs(trie: Trie) -> list[tuple[tuple[int, ...], list[Node]]]:
    """The paths to run, each with the nodes on it that no run before has scored."""
    runs: list[tuple[tuple[int, ...], list[Node]]] = []
    done: set[tuple[int, ...]] = set()
    for deepest in trie.deepest:
        path = deepest.path
        nodes = [node for node in trie.nodes if node.path == path[: len(node.path)] and node.path not in done]
        done.update(node.path for node in nodes)
        runs.append((path, nodes))
    return runs


def _steps(trie: Trie, nodes: Sequence[Node]) -> tuple[tuple[Integers, Integers], ...]:
    taken: list[dict[int, int]] = [{} for _ in range(max(map(len, trie.paths)))]
    number = 0
    for node in nodes:
        for branch in node.branches:
            taken[len(node.path)].update(dict.fromkeys(branch.labels, number))
            number += 1
    return tuple((np.array(list(step)), np.array(list(step.values()))) for step in taken)
