"""The labels of a task as a trie over a model's tokens.

Teacher and student score labels by the same rule, and a student trained on class probabilities learns them along the
same paths: the probability of a label is the product, along its path, of the probability of each token after those
before it. Labels that begin alike share the nodes of their beginning. A verbalizer that is the beginning of another is
scored with the end of the turn after it, because otherwise its probability would contain that of the longer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlxdistill.errors import ModelError


@dataclass(frozen=True, slots=True)
class Branch:
    """A way on from a node: the next token, the labels it leads to (ascending), and the number of the node behind it,
    or None at a path's end."""

    token: int
    labels: tuple[int, ...]
    node: int | None


@dataclass(frozen=True, slots=True)
class Node:
    """A place where a next token is scored: the tokens that lead here, and the branches, by their first label."""

    path: tuple[int, ...]
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Trie:
    """The trie of all labels.

    Attributes:
        nodes: the root first, parents before children; every node has at least one branch.
        paths: for each label the tokens that are scored: its verbalizer's, and the end of the turn where it is nested.
    """

    nodes: tuple[Node, ...]
    paths: tuple[tuple[int, ...], ...]

    @property
    def deepest(self) -> tuple[Node, ...]:
        """The nodes no other node lies behind: whoever evaluates their paths has evaluated every node."""
        return tuple(node for node in self.nodes if all(branch.node is None for branch in node.branches))


def build_trie(verbalizers: Sequence[Sequence[int]], end_of_turn: int, names: Sequence[str] | None = None) -> Trie:
    """The trie over each label's tokens.

    Args:
        verbalizers: the tokens of each label's verbalizer, in the task's order.
        end_of_turn: the token that ends the assistant's turn.
        names: the labels' names, for messages; default: their numbers.

    Raises ModelError where a verbalizer has no tokens, or two have the same.
    """
    tokens = [tuple(path) for path in verbalizers]
    called = names or [str(number) for number in range(len(tokens))]
    first: dict[tuple[int, ...], int] = {}
    for label, path in enumerate(tokens):
        if not path:
            raise ModelError(
                f"the model's tokenizer makes nothing of label {called[label]!r}",
                hint="give it another verbalizer",
            )
        if path in first:
            raise ModelError(
                f"labels {called[first[path]]!r} and {called[label]!r} are the same tokens to this model",
                hint="give one of them another verbalizer",
            )
        first[path] = label
    paths = tuple((*path, end_of_turn) if _is_beginning(path, tokens) else path for path in tokens)
    return Trie(_nodes(paths), paths)


def _is_beginning(path: tuple[int, ...], others: Sequence[tuple[int, ...]]) -> bool:
    return any(len(other) > len(path) and other[: len(path)] == path for other in others)


def _nodes(paths: Sequence[tuple[int, ...]]) -> tuple[Node, ...]:
    # Breadth first: the prefixes that something follows, in the order of their first label within a depth.
    prefixes: dict[tuple[int, ...], int] = {}
    for depth in range(max(map(len, paths))):
        for path in paths:
            if depth < len(path):
                prefixes.setdefault(path[:depth], len(prefixes))
    nodes = []
    for prefix in prefixes:
        following: dict[int, list[int]] = {}
        for label, path in enumerate(paths):
            if len(path) > len(prefix) and path[: len(prefix)] == prefix:
                following.setdefault(path[len(prefix)], []).append(label)
        nodes.append(
            Node(
                prefix,
                tuple(
                    Branch(token, tuple(labels), prefixes.get((*prefix, token))) for token, labels in following.items()
                ),
            )
        )
    return tuple(nodes)
