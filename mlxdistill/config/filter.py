"""The keys of `filter`: which labels may teach."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import Field, field_validator, model_validator

from mlxdistill.config.rules import RuleConfig
from mlxdistill.config.section import Count, Section

NoiseScore = Literal["self_confidence", "margin", "confident_joint"]
NoiseAction = Literal["drop", "drop_per_class", "weigh", "soften", "flip"]
OF_NOISE = ("noise_features", "noise_score")


class JudgeConfig(Section):
    teacher: str | None = Field(
        None, description="Which of several teachers judges; default: the first of them that has a `model`."
    )
    drop: float = Field(
        0.05, gt=0, lt=1, description="Share of the rows of each class that is dropped: those with the worst grades."
    )
    per_class: bool = Field(
        True, description="Take the share of each class; false: of all rows together, which may eat a rare class."
    )
    least: float | None = Field(
        None,
        gt=1,
        le=5,
        description="Drop the rows with a grade under this instead (1: surely wrong, 5: surely right).",
    )
    insist: bool = Field(
        False, description="Drop rows even where validation rows with gold do not show that the judge can tell."
    )

    @model_validator(mode="after")
    def _one_limit(self) -> JudgeConfig:
        """Nothing that is configured goes unheeded."""
        fields = type(self).model_fields
        if self.least is not None and any(getattr(self, key) != fields[key].default for key in ("drop", "per_class")):
            raise ValueError("`least` takes the place of `drop` and `per_class`: leave them out, or it")
        return self


class FilterConfig(Section):
    min_characters: int | None = Field(1, ge=0)
    max_characters: int | None = Field(None, ge=1)
    exact_duplicates: bool = Field(True, description="Keep only the first of rows with the same normalised text.")
    min_confidence: float | None = Field(
        None, ge=0, le=1, description="Drop rows whose most probable label is less sure than this."
    )
    min_margin: float | None = Field(
        None, ge=0, le=1, description="Drop rows whose two most probable labels lie closer together than this."
    )
    agreement: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Drop rows whose label fewer than this share of the samples, label orders or teachers named.",
    )
    rules: tuple[RuleConfig, ...] = Field(
        (), description="Conditions on the row's text or the teacher's answer; what does not meet them is dropped."
    )
    near_duplicates: float | None = Field(
        None,
        ge=0.5,
        le=1,
        description="Of rows at least this similar (Jaccard similarity of runs of five characters; 0.8 is usual), keep "
        "the one whose label is surest.",
    )
    judge: JudgeConfig | None = Field(
        None,
        description="Let a teacher grade each label that is left by then, which takes about as long as labelling did. "
        "It is checked first, on validation rows with gold.",
    )
    noise: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Name at most this share of the labels as likely wrong: those that a model taught by the other "
        "rows speaks against (out-of-fold probabilities).",
    )
    noise_features: Literal["tfidf", "student"] = Field(
        "tfidf", description="What that model sees of a text: words and runs of characters, or the student's states."
    )
    noise_score: NoiseScore = Field(
        "self_confidence",
        description="self_confidence: how likely the label is. margin: how much likelier than any other. "
        "confident_joint: the margin, of rows where another label reaches its own average.",
    )
    noise_action: NoiseAction = Field(
        "drop_per_class",
        description="What becomes of likely wrong labels. drop: they do not teach. drop_per_class: so, the same share "
        "of every class. weigh: they count less. soften: the other opinion is learned beside them. flip: in their "
        "place.",
    )
    dynamics: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Name at most this share of the labels as likely wrong: those that the student before, trained "
        "with `train.record_dynamics`, learned last and least.",
    )
    most_per_class: Count | None = Field(None, description="Keep at most so many rows of each class, drawn by chance.")
    seed: int = Field(0, ge=0, lt=2**63, description="Of what filters draw by chance.")

    @field_validator("rules")
    @classmethod
    def _names(cls, rules: tuple[RuleConfig, ...]) -> tuple[RuleConfig, ...]:
        twice = [name for name, count in Counter(rule.title for rule in rules).items() if count > 1]
        if twice:
            raise ValueError(f"two rules are called {twice[0]!r}; give one of them another `name`")
        return rules

    @model_validator(mode="after")
    def _noise_is_named(self) -> FilterConfig:
        """Nothing that is configured goes unheeded."""
        fields = type(self).model_fields
        given = [key for key in OF_NOISE if getattr(self, key) != fields[key].default]
        if given and self.noise is None:
            raise ValueError(f"`{given[0]}` means nothing without `noise`, the share of rows to name")
        if self.noise_action != fields["noise_action"].default and self.noise is None and self.dynamics is None:
            raise ValueError("`noise_action` means nothing without `noise` or `dynamics`, the share of rows to name")
        if self.dynamics is not None and self.noise_action in ("soften", "flip"):
            raise ValueError(f"`noise_action: {self.noise_action}` needs another opinion, and `dynamics` has none")
        return self
