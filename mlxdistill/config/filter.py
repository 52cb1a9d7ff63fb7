"""The keys of `filter`: which labels may teach."""

from __future__ import annotations

from pydantic import Field

from mlxdistill.config.section import Section


class FilterConfig(Section):
    min_confidence: float | None = Field(
        None, ge=0, le=1, description="Drop rows whose most probable label is less sure than this."
    )
    min_characters: int | None = Field(1, ge=0)
    max_characters: int | None = Field(None, ge=1)
    exact_duplicates: bool = Field(True, description="Keep only the first of rows with the same normalised text.")
