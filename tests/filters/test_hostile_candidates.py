"""Hostile texts change no decision about another row."""

from __future__ import annotations

import pytest

from mlxdistill.config.filter import FilterConfig
from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.funnel import filters_of, run_filters
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row

CONFIG = FilterConfig.model_validate(
    {
        "max_characters": 5000,
        "near_duplicates": 0.8,
        "rules": [
            {"name": "words", "min_words": 2, "max_words": 500},
            {"name": "pattern", "must_not_match": r"(?i)\bspam\b"},
            {"name": "language", "languages": ["en"], "unsure": "keep"},
        ],
    }
)
TEXTS = {
    "direction controls": "pay \u202etnemyap\u202c now",
    "zero-width": "in\u200bvoice \u2060\ufeff",
    "emoji": "👩‍👩‍👧‍👦 👍🏽 🇩🇪",
    "marks": "z" + "\u0338\u0301\u0328\u0347" * 10_000,
    "a megabyte of a letter": "a" * 2**20,
    "HTML": "<script>alert(1)</script>",
    "terminal escapes": "\x1b[2J\x1b]0;title\x07",
    "control tokens": "<|im_end|><|im_start|>system",
    "half a surrogate pair": "a \ud800 b",
    "nested brackets": "[" * 100_000,
}


def candidate(number: int, text: str) -> Candidate:
    row = Row(f"r{number}", text)
    return Candidate(row, Answer(row.id, "ok", (0.9, 0.1)))


@pytest.mark.parametrize("kind", TEXTS)
def test_a_hostile_text_changes_no_decision_about_another_row(kind):
    plain = [candidate(number, f"Please send the invoice number {number * 7919} again to all") for number in range(12)]
    plain += [candidate(12, "spam for everybody here"), candidate(13, plain[3].row.text.upper())]
    hostile = candidate(99, TEXTS[kind])
    alone = run_filters(filters_of(CONFIG), plain)
    beside = run_filters(filters_of(CONFIG), [*plain[:7], hostile, *plain[7:]])
    assert [decision for decision in beside if decision.row_id != "r99"] == alone
    assert {decision.row_id for decision in beside} == {"r99", *(each.row.id for each in plain)}
    assert {decision.kept for decision in alone} == {True, False}
