"""The label trie: shared beginnings once, nested verbalizers told apart."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.errors import ModelError
from mlxdistill.tasks.trie import build_trie

END = 9


def test_labels_of_one_token_need_the_root_alone() -> None:
    trie = build_trie([(1,), (2,), (3,)], END)
    assert [node.path for node in trie.nodes] == [()]
    assert [(branch.token, branch.labels, branch.node) for branch in trie.nodes[0].branches] == [
        (1, (0,), None),
        (2, (1,), None),
        (3, (2,), None),
    ]


def test_shared_beginnings_are_one_node_and_nested_verbalizers_end_their_turn() -> None:
    trie = build_trie([(1, 2), (1,), (1, 2, 3), (4,)], END)
    assert trie.paths == ((1, 2, END), (1, END), (1, 2, 3), (4,))
    assert [node.path for node in trie.nodes] == [(), (1,), (1, 2)]
    assert [branch.labels for branch in trie.nodes[0].branches] == [(0, 1, 2), (3,)]
    assert [(branch.token, branch.labels) for branch in trie.nodes[1].branches] == [(2, (0, 2)), (END, (1,))]
    assert trie.nodes[1].branches[0].node == 2
    assert [node.path for node in trie.deepest] == [(1, 2)]


@pytest.mark.parametrize("verbalizers", [[(1,), ()], [(1, 2), (1, 2)]])
def test_labels_that_cannot_be_told_apart_are_refused_by_name(verbalizers: list[tuple[int, ...]]) -> None:
    with pytest.raises(ModelError, match="'second'"):
        build_trie(verbalizers, END, ["first", "second"])


@given(st.sets(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=1, max_size=20))
def test_the_branches_along_the_paths_share_out_all_probability(verbalizers: set[tuple[int, ...]]) -> None:
    trie = build_trie(sorted(verbalizers), END)
    shares = [0.0] * len(verbalizers)

    def walk(number: int, mass: float) -> None:
        node = trie.nodes[number]
        for branch in node.branches:
            if branch.node is None:
                shares[branch.labels[0]] += mass / len(node.branches)
                assert len(branch.labels) == 1
                assert trie.paths[branch.labels[0]] == (*node.path, branch.token)
            else:
                assert trie.nodes[branch.node].path == (*node.path, branch.token)
                walk(branch.node, mass / len(node.branches))

    walk(0, 1.0)
    assert math.isclose(sum(shares), 1.0)
    assert all(share > 0 for share in shares)
