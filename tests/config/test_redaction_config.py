"""Every key about personal data is heeded, or refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mlxdistill.config.data import DataConfig
from mlxdistill.data.redaction.phones import USUAL_REGIONS


def test_the_usual_regions_are_the_same_everywhere() -> None:
    assert DataConfig(source="rows.jsonl").redact_regions == USUAL_REGIONS


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"redact_as": "stand_ins"}, "`redact_as` means nothing without `redact`"),
        ({"redact_kinds": ("email",)}, "`redact_kinds` means nothing without `redact`"),
        ({"redact": "report", "redact_as": "stand_ins"}, "`redact_as` means nothing with `redact: report`"),
        ({"redact": "after", "redact_spacy": "folder"}, "`redact_spacy` means nothing"),
        ({"redact": "after", "redact_max_tokens": 64}, "`redact_max_tokens` means nothing"),
        ({"redact": "after", "redact_kinds": ("email",), "redact_regions": ("DE",)}, "`redact_regions` means nothing"),
        (
            {"redact": "after", "redact_with": ("presidio",), "redact_regions": ("DE",)},
            "`redact_regions` means nothing",
        ),
        ({"redact": "before", "redact_kinds": ("name",)}, "which no pattern finds"),
        ({"redact": "before", "redact_regions": ("de",)}, "two capital letters"),
        ({"redact": "before", "redact_kinds": ()}, "at least 1 item"),
        ({"redact": "sometimes"}, "'before', 'after' or 'report'"),
    ],
)
def test_what_would_go_unheeded_is_refused(keys: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DataConfig(source="rows.jsonl", **keys)


def test_kinds_that_only_models_know_are_allowed_with_a_model() -> None:
    config = DataConfig(source="rows.jsonl", redact="before", redact_kinds=("name",), redact_with=("presidio",))
    assert config.redact_settings["redact_kinds"] == ["name"]
    assert "source" not in config.redact_settings


def test_what_only_a_teacher_heeds_is_no_setting_where_none_is_asked() -> None:
    patterns = DataConfig(source="rows.jsonl", redact="after")
    asked = DataConfig(source="rows.jsonl", redact="after", redact_with=("teacher",), redact_max_tokens=64)
    assert "redact_max_tokens" not in patterns.redact_settings
    assert asked.redact_settings["redact_max_tokens"] == 64
