"""Similarities are those of all pairs; phrases are counted as they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.text.diversity import distinct, diversity
from mlxdistill.text.nearest import nearest
from mlxdistill.text.shingles import shingles

texts = st.lists(st.text("ab ü", max_size=14), max_size=8)


def jaccard(one: str, other: str) -> float:
    ours, theirs = shingles(one), shingles(other)
    return len(ours & theirs) / len(ours | theirs)


@given(texts, texts)
def test_the_nearest_is_the_most_similar_of_all(some: list[str], others: list[str]) -> None:
    expected = [max((jaccard(text, other) for other in others), default=0.0) for text in some]
    assert nearest(some, iter(others)).tolist() == pytest.approx(expected)


@given(texts)
def test_no_text_is_its_own_neighbour(some: list[str]) -> None:
    found = nearest(some, some, but_itself=True)
    for place, text in enumerate(some):
        others = [other for number, other in enumerate(some) if number != place]
        assert found[place] == pytest.approx(max((jaccard(text, other) for other in others), default=0.0))


def test_phrases_that_come_again_lower_the_share_of_different_ones() -> None:
    some = ["the card is lost", "the card is stolen", "lost"]
    assert distinct(some, 1) == 5 / 9
    assert distinct(some, 2) == 4 / 6
    assert distinct(some, 3) == 3 / 4
    assert distinct(["a b"], 3) is None


def test_texts_alike_are_less_varied() -> None:
    alike = diversity(["my card was stolen in town", "my card was stolen in the town", "my card was stolen in town!"])
    unlike = diversity(["my card was stolen in town", "how do I close an account?", "thanks, all is well again"])
    assert alike.self_similarity is not None
    assert unlike.self_similarity is not None
    assert alike.self_similarity > 0.7 > 0.1 > unlike.self_similarity
    assert [one < other for one, other in zip(alike.distinct, unlike.distinct, strict=True)] == [True] * 3  # type: ignore[operator]
    assert diversity(["alone"]).self_similarity is None
