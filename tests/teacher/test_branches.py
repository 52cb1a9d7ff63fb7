"""The plan of decoding: every label's product along its path, whatever is shared or split."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.tasks.trie import build_trie
from mlxdistill.teacher.branches import plan_branches

END = 9
label_tokens = st.lists(
    st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=2, max_size=24, unique=True
)


@given(label_tokens, st.integers(1, 30))
def test_plans_cover_every_label_by_its_path(tokens: list[tuple[int, ...]], most: int) -> None:
    paths = build_trie(tokens, END).paths
    plans = plan_branches(paths, most)
    assert sorted(label for plan in plans for label in plan.labels) == list(range(len(tokens)))
    for plan in plans:
        assert 1 <= plan.branches <= most
        written = [_written(plan.inner, branch) for branch in range(plan.branches)]
        for label, steps in zip(plan.labels, plan.paths, strict=True):
            assert tuple(step.token for step in steps) == paths[label]
            assert all(step.token in plan.next_tokens[step.node] for step in steps)
            for depth, step in enumerate(steps[1:]):
                node = plan.inner[step.node - 1]
                assert node.depth == depth
                assert all(
                    written[branch][: depth + 1] == paths[label][: depth + 1] for branch in range(node.start, node.end)
                )


def _written(inner: tuple, branch: int) -> tuple[int, ...]:
    """What a branch's sequence holds; positions must go up by one."""
    nodes = [node for node in inner if node.start <= branch < node.end]
    assert [node.depth for node in nodes] == list(range(len(nodes)))
    return tuple(node.token for node in nodes)


@given(label_tokens)
def test_shared_beginnings_are_decoded_once(tokens: list[tuple[int, ...]]) -> None:
    paths = build_trie(tokens, END).paths
    (plan,) = plan_branches(paths, 255)
    beginnings = {path[:length] for path in paths for length in range(1, len(path))}
    assert len(plan.inner) == len(beginnings)


def test_labels_of_one_token_need_no_decoding_of_their_own() -> None:
    (plan,) = plan_branches([(1,), (2,), (0,)], 255)
    assert plan.inner == ()
    assert plan.branches == 1


def test_splitting_uses_as_few_plans_as_the_branches_need() -> None:
    paths = [(first, second, 0) for first in range(5) for second in range(4)]
    plans = plan_branches(paths, 6)
    assert len(plans) == math.ceil(20 / 6)
