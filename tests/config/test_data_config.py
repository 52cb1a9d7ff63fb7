"""The keys of splits are heeded, or refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mlxdistill.config.data import DataConfig


def test_near_duplicates_are_kept_together_unless_told_otherwise() -> None:
    assert DataConfig(source="rows.jsonl").near_duplicates == 0.8
    assert DataConfig(source="rows.jsonl", near_duplicates=None).near_duplicates is None


@pytest.mark.parametrize("value", [0.49, 1.01, 0, -1, True, "often"])
def test_a_similarity_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        DataConfig(source="rows.jsonl", near_duplicates=value)  # type: ignore[arg-type]


def test_a_time_that_would_split_nothing_is_refused() -> None:
    given = {"valid": "valid.jsonl", "test": {"indist": "a.jsonl", "balanced": None}}
    with pytest.raises(ValidationError, match="`time` means nothing where no set is drawn"):
        DataConfig(source="rows.jsonl", time="when", **given)  # type: ignore[arg-type]
    DataConfig(source="rows.jsonl", time="when", valid="valid.jsonl")
    DataConfig(source="rows.jsonl", **given)  # type: ignore[arg-type]
