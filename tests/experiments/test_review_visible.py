"""Text on the review page: nothing hidden stays hidden, and what people see stays as it is."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.experiments.review.visible import visible, visible_pieces

HIDDEN = regex.compile(
    r"(?V1)[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cs}--[\t\n\u200C\u200D\uFE00-\uFE0F\U000E0000-\U000E01EF]]"
)


def marks(text: str) -> list[str]:
    return [piece.name for piece in visible_pieces(text) if piece.name]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("pay \u202eevil\u202c now", ["RLO", "PDF"]),
        ("a\u200b\u200b\u200bb", ["ZWSP ×3"]),
        ("\ufeffa\u2066b\u2069", ["BOM", "LRI", "PDI"]),
        ("x\u200dy", ["ZWJ"]),
        ("a\ufe0fb", ["U+FE0F"]),
        ("half \ud83d of one", ["U+D83D"]),
        ("\x00\x1b[31m\x07", ["U+0000", "U+001B", "U+0007"]),
        ("a\rb", ["U+000D"]),
        ("\U000e0049\U000e0067", ["U+E0049", "U+E0067"]),
        ("a\u2028b", ["LS"]),
        ("\u3164\u115f", ["U+3164", "U+115F"]),
    ],
)
def test_what_is_hidden_is_named(text: str, names: list[str]) -> None:
    assert marks(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "line one\nline two\tand a tab",
        "👨‍👩‍👧‍👦 ❤️‍🔥 1️⃣ 👍🏽 🏳️‍🌈",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "می‌خواهم",
        "क्‍ष",
        "e\u0301 naïve\u00a0space",
        "葛\U000e0100",
    ],
)
def test_what_belongs_to_the_writing_stays(text: str) -> None:
    assert [piece.text for piece in visible_pieces(text)] == [text]


def test_lines_of_windows_are_lines() -> None:
    assert [piece.to_json() for piece in visible_pieces("a\r\nb")] == [["a\nb"]]


def test_one_line_for_names() -> None:
    assert visible("row\u202e\n 7") == "row[RLO] 7"


@given(st.text(st.characters(categories=["Lu", "Cf", "Cc", "Cs", "Mn", "So", "Zs"]), max_size=60))
def test_no_piece_of_text_hides_anything(text: str) -> None:
    pieces = list(visible_pieces(text))
    for piece in pieces:
        if not piece.name:
            assert not HIDDEN.search(piece.text)
    plain = "".join(piece.text for piece in pieces if not piece.name)
    rest = iter(text.replace("\r\n", "\n"))  # nothing but what was there, in its order
    assert all(each in rest for each in plain)


def test_a_megabyte_of_one_mark_is_one_piece() -> None:
    assert marks("\u200b" * 1_000_000) == ["ZWSP ×1,000,000"]
