"""The keys of `data`: where the rows come from, and which of them test."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from mlxdistill.config.section import Count, Section, scalar_keys


class FieldsConfig(Section):
    text: str | None = Field(
        None, description="The column that holds the text; for a request log, default: the last user message."
    )
    gold: str | tuple[str, ...] | None = Field(
        None, description="The column that holds the gold label; a list where files name it differently."
    )
    id: str | None = Field(None, description="The column that holds the row's id; default: a hash of the text.")


class TestSetsConfig(Section):
    indist: Count | str | None = Field(
        400, description="Rows in the traffic's own class balance: how many to draw, or a file."
    )
    balanced: Count | str | None = Field(
        400, description="Rows with the same number of each class: how many to draw, or a file."
    )


class DataConfig(Section):
    source: str = Field(description="Rows to learn from: .jsonl, .csv, .parquet, a datasets folder, or a request log.")
    fields: FieldsConfig = FieldsConfig()
    gold_values: dict[str, str] = Field(
        default_factory=dict, description="What the gold column holds, and the label it means."
    )
    valid: Count | str = Field(
        500, description="Rows that choose (early stopping, thresholds): how many to draw, or a file."
    )
    test: TestSetsConfig = TestSetsConfig()
    group: str | None = Field(None, description="A column; rows with the same value stay on one side of every split.")
    seed: int = Field(0, ge=0, lt=2**63)

    @field_validator("gold_values", mode="before")
    @classmethod
    def _scalar_names(cls, value: Any) -> Any:
        return scalar_keys(value)
