"""Near duplicates: nearly all found, none invented, by the same rule every time."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.text import near_duplicates as module
from mlxdistill.text import shingles as shingles_module
from mlxdistill.text.near_duplicates import bands_for, near_duplicates
from mlxdistill.text.shingles import shingles, signatures

WORDS = [
    "".join(random.Random(number).choices("abcdefghijklmnopqrstuvwxyz", k=3 + number % 7)) for number in range(3000)
]
NAMES = ["anna", "bartholomew", "chidi", "dorothea", "emre", "fatima"]


def jaccard(first: str, second: str) -> float:
    ours, theirs = shingles(first), shingles(second)
    return len(ours & theirs) / len(ours | theirs)


def small_edit(sentences: list[str], chance: random.Random) -> list[str]:
    place = chance.randrange(len(sentences))
    words = sentences[place].split()
    words[chance.randrange(len(words))] = chance.choice(WORDS)
    return [*sentences[:place], " ".join(words), *sentences[place + 1 :]]


def moved_sentence(sentences: list[str], chance: random.Random) -> list[str]:
    rest = list(sentences)
    sentence = rest.pop(chance.randrange(len(rest)))
    rest.insert(chance.randrange(len(rest) + 1), sentence)
    return rest


def changed_name(sentences: list[str], chance: random.Random) -> list[str]:
    name = chance.choice(NAMES)
    return [f"dear {name},", *sentences[1:]]


def planted(count: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Texts, half of them edits of another, and the pairs (original, edit) with a Jaccard similarity of 0.8 or more."""
    chance = random.Random(7)
    texts, pairs = [], []
    for number in range(count // 2):
        sentences = [f"dear {chance.choice(NAMES)},"]
        sentences += [" ".join(chance.choices(WORDS, k=chance.randint(4, 12))) for _ in range(chance.randint(3, 7))]
        edit = (small_edit, moved_sentence, changed_name)[number % 3](sentences, chance)
        texts += [" ".join(sentences), " ".join(edit)]
        if jaccard(texts[-2], texts[-1]) >= 0.8:
            pairs.append((len(texts) - 2, len(texts) - 1))
    return texts, pairs


def test_planted_pairs_are_found_and_no_other() -> None:
    texts, pairs = planted(20_000)
    assert len(pairs) > 5_000
    found = near_duplicates(texts, 0.8)
    hits = sum(found[edit] == original for original, edit in pairs)
    assert hits / len(pairs) >= 0.98
    for place in np.flatnonzero(found != np.arange(len(texts))):
        assert jaccard(texts[place], texts[found[place]]) >= 0.8


@pytest.mark.parametrize(("threshold", "common", "own"), [(0.8, 80, 10), (0.5, 60, 30), (0.9, 90, 5), (0.95, 190, 5)])
def test_98_of_100_pairs_are_found_at_exactly_the_threshold(threshold: float, common: int, own: int) -> None:
    chance = random.Random(3)

    def letters(count: int) -> str:
        return "".join(chr(chance.randrange(0x4E00, 0x9000)) for _ in range(count))

    texts = []
    for _ in range(1500):
        beginning = letters(common + 4)
        texts += [beginning + "a" + letters(own - 1), beginning + "b" + letters(own - 1)]
    exact = [jaccard(*texts[place : place + 2]) for place in range(0, len(texts), 2)]
    assert set(exact) == {threshold}
    found = near_duplicates(texts, threshold)
    assert (found[1::2] == np.arange(0, len(texts), 2)).mean() >= 0.98


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0])
def test_bands_meet_at_the_threshold_within_the_budget_of_hashes(threshold: float) -> None:
    bands, rows = bands_for(threshold)
    assert 1 - (1 - threshold**rows) ** bands >= 0.98
    assert bands * rows <= module.MOST_HASHES


def test_nothing_is_passed_on_along_a_chain() -> None:
    words = WORDS[:40]
    chain = [" ".join([*WORDS[100 : 100 + 2 * step], *words[2 * step :]]) for step in range(12)]
    found = near_duplicates(chain, 0.8)
    assert jaccard(chain[0], chain[1]) >= 0.8 > jaccard(chain[0], chain[-1])
    assert 1 < len(set(found.tolist())) < len(chain)
    assert all(jaccard(chain[place], chain[stands]) >= 0.8 for place, stands in enumerate(found))


TEXTS = st.lists(st.text("ab \x00é\ud800", max_size=9) | st.text(max_size=30), max_size=25)


@given(TEXTS, st.sampled_from([0.5, 0.8, 1.0]))
def test_each_stands_for_itself_or_is_stood_for_by_an_earlier_similar_text(
    texts: Sequence[str], threshold: float
) -> None:
    found = near_duplicates(iter(texts), threshold)
    first: dict[str, int] = {}
    for place, stands in enumerate(found.tolist()):
        assert stands <= place
        assert found[stands] == stands
        assert jaccard(texts[place], texts[stands]) >= threshold
        same = first.setdefault(texts[place], place)
        assert found[same] == stands


def test_short_and_empty_texts_are_whole_shingles() -> None:
    found = near_duplicates(["", "a", "", "ab", "a", "abcd", "abcde", "abcd"], 0.8)
    assert found.tolist() == [0, 1, 0, 3, 1, 5, 6, 5]
    assert near_duplicates([], 0.8).tolist() == []
    assert near_duplicates(["alone"], 0.8).tolist() == [0]


def test_a_megabyte_of_one_letter() -> None:
    assert near_duplicates(["other", "a" * 2**20, "a" * 5, "a" * (2**20 - 1) + "b"], 0.8).tolist() == [0, 1, 1, 3]


def test_a_long_text_cut_in_pieces_has_the_signature_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["short", " ".join(WORDS), "", " ".join(WORDS[::-1]), "xyz"]
    whole = np.concatenate(list(signatures(texts, 20)))
    monkeypatch.setattr(shingles_module, "LIST_CHARACTERS", 11)
    assert np.array_equal(np.concatenate(list(signatures(texts, 20))), whole)


def test_agreement_of_signatures_estimates_the_similarity() -> None:
    texts, pairs = planted(600)
    found = np.concatenate(list(signatures(texts, 160)))
    errors = [(found[first] == found[second]).mean() - jaccard(texts[first], texts[second]) for first, second in pairs]
    assert abs(np.mean(errors)) < 0.01
    assert np.std(errors) < 0.04


def test_rows_of_one_template_are_compared_with_a_few_others_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_MET", 6)
    monkeypatch.setattr(module, "MOST_COMPARED", 4)
    texts = [f"your order {number * 7919 % 100003:06d} was sent and arrives on monday" for number in range(300)]
    met, compared = [], []
    likely = module._likely

    def counting(marks: object, text: int, earlier: list[np.ndarray], least: float) -> list[int]:
        places = likely(marks, text, earlier, least)
        met.append(max(map(len, earlier), default=0))
        compared.append(len(places))
        return places

    monkeypatch.setattr(module, "_likely", counting)
    found = near_duplicates([*texts, texts[0]], 0.8)
    assert max(met) == 6
    assert max(compared) == 4
    assert found[-1] == 0


def test_the_same_in_every_process() -> None:
    program = (
        "import sys, numpy as np\n"
        "from mlxdistill.text.shingles import signatures\n"
        "print(np.concatenate(list(signatures(['one text', 'two', 'texts'], 9))).tolist())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1
    assert runs == {f"{np.concatenate(list(signatures(['one text', 'two', 'texts'], 9))).tolist()}\n"}
