"""The keys of `data`: where the rows come from, and which of them test."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from mlxdistill.config.redaction import RedactionKeys
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


class RowsConfig(Section):
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
    near_duplicates: float | None = Field(
        0.8,
        ge=0.5,
        le=1,
        description=(
            "Rows nearly the same stay on one side of every split, and those of the source that a given set has are "
            "left out: the least Jaccard similarity of their five-character shingles. null: exact duplicates only."
        ),
    )
    time: str | None = Field(
        None,
        description=(
            "A column with the time a row was written; splits are then by date: the pool is what was written first, "
            "validation rows come after it, test rows are the latest. Rows of the same months as a set that it does "
            "not take are left out, and so are earlier ones of its groups. Without gold, test_balanced is drawn from "
            "the latest rows of the pool, and nothing is learned from what is later."
        ),
    )
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _is_split(self) -> RowsConfig:
        """Nothing that is configured goes unheeded."""
        drawn = (self.valid, self.test.indist, self.test.balanced)
        if self.time is not None and not any(isinstance(count, int) for count in drawn):
            raise ValueError("`time` means nothing where no set is drawn: give a number for `valid` or a test set")
        return self

    @field_validator("gold_values", mode="before")
    @classmethod
    def _scalar_names(cls, value: Any) -> Any:
        return scalar_keys(value)


class DataConfig(RedactionKeys, RowsConfig):
    pass
