"""The keys of `synth`: how many rows the teacher writes, and how."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mlxdistill.config.section import Count, Section, scalar_keys


class SynthConfig(Section):
    rows: Count | Literal["balance"] = Field(
        "balance",
        description="New rows in all, given to the classes with the fewest; balance: as many as bring every class to "
        "the training rows of the largest.",
    )
    classes: dict[str, Count] = Field(
        default_factory=dict, description="New rows of these classes alone, so many of each; instead of `rows`."
    )
    seeds: int = Field(4, ge=1, le=64, description="Training rows of the class that a prompt shows, drawn by chance.")
    prompt: str | None = Field(
        None,
        description="A file with {examples} in it, and {instruction}, {labels}, {label}, {description}, {answer} where "
        "wanted.",
    )
    format: Literal["json", "text"] = Field(
        "json", description="The text in JSON under a grammar, or between <text> and </text>."
    )
    temperature: float = Field(1.0, gt=0, description="Of what is written: lower ones repeat themselves.")
    max_tokens: int | None = Field(
        None, ge=16, description="Most tokens of one text; default: from the lengths of the rows."
    )
    min_confidence: float = Field(
        0.8, ge=0, le=1, description="Least probability with which the teacher must give a text the class it is for."
    )
    most_drafts: int = Field(
        10, ge=1, description="A class is given up after so many drafts for each row that is wanted of it."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Of the rows that are shown, and of what is written.")

    @field_validator("classes", mode="before")
    @classmethod
    def _scalar_names(cls, value: Any) -> Any:
        return scalar_keys(value)

    @model_validator(mode="after")
    def _one_number(self) -> SynthConfig:
        """Nothing that is configured goes unheeded."""
        if self.classes and self.rows != "balance":
            raise ValueError("`classes` says how many rows of each class, and `rows` how many in all: give one of them")
        return self
