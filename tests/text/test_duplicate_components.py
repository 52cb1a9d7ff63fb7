"""Components of near duplicates: none torn apart, none invented, and no crowd that takes for ever."""

from __future__ import annotations

import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_near_duplicates import WORDS, jaccard, planted

from mlxdistill.text import joining
from mlxdistill.text.comparing import TextSpool
from mlxdistill.text.near_duplicates import duplicate_components
from mlxdistill.text.shingles import packed_shingles, shingles


def expected(texts: Sequence[str], threshold: float) -> list[int]:
    """By comparing every text with every other."""
    component = list(range(len(texts)))
    for first, second in itertools.combinations(range(len(texts)), 2):
        if component[first] != component[second] and jaccard(texts[first], texts[second]) >= threshold:
            low, high = sorted((component[first], component[second]))
            component = [low if number == high else number for number in component]
    return component


@st.composite
def texts_with_copies(draw) -> list[str]:
    """Short texts, and copies of them with a few characters changed, many of them close to the threshold."""
    letters = st.text("abc d\U0001f600é", max_size=30)
    texts = draw(st.lists(letters, min_size=1, max_size=8))
    for _ in range(draw(st.integers(0, 14))):
        text = list(draw(st.sampled_from(texts)))
        for _ in range(draw(st.integers(0, 2))):
            if text:
                text[draw(st.integers(0, len(text) - 1))] = draw(st.sampled_from("abcxyz中"))
        texts.insert(draw(st.integers(0, len(texts))), "".join(text) * draw(st.integers(1, 2)))
    return texts


@settings(deadline=None, max_examples=80)
@given(texts_with_copies(), st.sampled_from([0.5, 0.8, 1.0]))
def test_few_texts_are_in_the_components_that_comparing_all_pairs_gives(texts: list[str], threshold: float) -> None:
    assert duplicate_components(iter(texts), threshold).tolist() == expected(texts, threshold)


def test_planted_pairs_are_joined_and_no_other() -> None:
    texts, pairs = planted(2400)
    assert len(texts) > joining.EXHAUSTIVE
    found = duplicate_components(texts, 0.8)
    assert np.mean([found[first] == found[second] for first, second in pairs]) >= 0.98
    members = Counter(found.tolist())
    assert max(members.values()) == 2
    for place in np.flatnonzero(found != np.arange(len(texts))):
        assert jaccard(texts[place], texts[found[place]]) >= 0.8


@pytest.mark.parametrize("exhaustive", [0, joining.EXHAUSTIVE])
def test_a_chain_is_one_component_though_its_ends_differ(monkeypatch: pytest.MonkeyPatch, exhaustive: int) -> None:
    monkeypatch.setattr(joining, "EXHAUSTIVE", exhaustive)
    chain = [" ".join([*WORDS[100 : 100 + 2 * step], *WORDS[2 * step : 40]]) for step in range(12)]
    others = [" ".join(WORDS[start : start + 40]) for start in range(400, 2000, 40)]
    texts = [*others, *chain[::-1]]
    found = duplicate_components(texts, 0.8)
    assert jaccard(chain[0], chain[1]) >= 0.8 > jaccard(chain[0], chain[-1])
    assert set(found[len(others) :].tolist()) == {len(others)}
    assert found[: len(others)].tolist() == list(range(len(others)))


@pytest.mark.parametrize("exhaustive", [0, joining.EXHAUSTIVE])
def test_short_and_empty_texts_and_a_megabyte_of_one_letter(monkeypatch: pytest.MonkeyPatch, exhaustive: int) -> None:
    monkeypatch.setattr(joining, "EXHAUSTIVE", exhaustive)
    texts = ["", "a", "", "ab", "a", "abcd", "abcde", "abcd", "a" * 2**20, "a" * 5, "a" * 70, "日本", "日本"]
    assert duplicate_components(texts, 0.8).tolist() == [0, 1, 0, 3, 1, 5, 6, 5, 8, 8, 8, 11, 11]
    assert duplicate_components([], 0.8).tolist() == []
    assert duplicate_components(["alone"], 0.8).tolist() == [0]


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each text is compared."""
    compared: Counter[int] = Counter()
    similar = TextSpool.similar

    def counting(spool: TextSpool, place: int, other: int, threshold: float) -> bool:
        compared.update((place, other))
        return similar(spool, place, other, threshold)

    monkeypatch.setattr(TextSpool, "similar", counting)
    return compared


def test_a_cluster_is_joined_without_comparing_all_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = counted(monkeypatch)
    chance = random.Random(1)
    cluster = [" ".join([*WORDS[:60], chance.choice(WORDS)]) for _ in range(2100)]
    assert set(duplicate_components(cluster, 0.8).tolist()) == {0}
    assert compared.total() < 4 * 2 * len(cluster)


def test_a_crowd_too_alike_to_be_all_compared_stays_together_and_costs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "EXHAUSTIVE", 100)
    monkeypatch.setattr(joining, "MOST_COMPARED", 8)
    compared = counted(monkeypatch)
    chance = random.Random(2)
    crowd = [" ".join([*WORDS[:40], *chance.choices(WORDS, k=7)]) for _ in range(600)]
    assert 0.7 < jaccard(crowd[0], crowd[1]) < 0.8
    others = [" ".join(chance.choices(WORDS, k=40)) for _ in range(200)]
    found = duplicate_components([*others, *crowd], 0.8)
    apart = [place for place in range(len(crowd)) if found[len(others) + place] != len(others)]
    assert len(apart) < 5
    for place in apart:
        assert all(jaccard(crowd[place], text) < 0.8 for number, text in enumerate(crowd) if number != place)
    assert found[: len(others)].tolist() == list(range(len(others)))
    assert compared.total() < 4 * joining.MOST_COMPARED * len(crowd)


def test_a_template_that_is_a_smaller_part_of_each_text_joins_none(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = counted(monkeypatch)
    chance = random.Random(3)
    texts = [" ".join([*WORDS[:20], *chance.choices(WORDS, k=20)]) for _ in range(2100)]
    assert duplicate_components(texts, 0.8).tolist() == list(range(len(texts)))
    assert compared.total() < 2 * len(texts)


def test_of_many_that_share_a_band_each_meets_those_next_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "MOST_MET", 5)
    pairs_met = 0
    join_pairs = joining.Joining._join_pairs

    def counting(self: joining.Joining, firsts: np.ndarray, seconds: np.ndarray) -> None:
        nonlocal pairs_met
        pairs_met += len(firsts)
        join_pairs(self, firsts, seconds)

    monkeypatch.setattr(joining.Joining, "_join_pairs", counting)
    chance = random.Random(4)
    texts = [" ".join([*WORDS[:30], *chance.choices(WORDS, k=12)]) for _ in range(2100)]
    twins = [texts[0] + " " + WORDS[1], texts[1] + " " + WORDS[2]]
    found = duplicate_components([*texts, *twins], 0.8)
    assert pairs_met <= 18 * 5 * len(found)
    assert found[-2:].tolist() == [found[0], found[1]]


def test_the_files_lie_where_they_are_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    temporary = tempfile.TemporaryFile

    def noting(**settings: object) -> object:
        asked.append(settings.get("dir"))
        return temporary(**settings)

    monkeypatch.setattr(tempfile, "TemporaryFile", noting)
    duplicate_components(["one", "two"], 0.8, folder=tmp_path)
    assert asked == [tmp_path, tmp_path]


@example("a", "\0a")
@example("abcde", "\0abcd")
@given(st.text(max_size=40), st.text(max_size=40))
def test_packed_shingles_are_as_many_and_common_ones_too(first: str, second: str) -> None:
    ours, theirs = packed_shingles(first), packed_shingles(second)
    for text, packed in ((first, ours), (second, theirs)):
        if packed is not None:
            assert len(packed) == len(shingles(text)) == len(set(packed.tolist()))
        else:
            assert any(ord(mark) >= 0x1000 for mark in text)
    if ours is not None and theirs is not None:
        assert len(set(ours.tolist()) & set(theirs.tolist())) == len(shingles(first) & shingles(second))
