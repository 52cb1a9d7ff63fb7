"""The keys of `data` that say what becomes of personal data; they begin with `redact`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mlxdistill.config.section import Section

Kind = Literal[
    "api_key",
    "url_token",
    "email",
    "iban",
    "card",
    "national_id",
    "ip",
    "phone",
    "date_of_birth",
    "street_address",
    "url",
    "name",
    "organisation",
    "location",
]
MODEL_KINDS = ("name", "organisation", "location")  # the others are found by patterns and checksums


class RedactionKeys(Section):
    redact: Literal["before", "after", "report"] | None = Field(
        None,
        description=(
            "Personal data in texts. before: it is taken out as rows are read, and neither the run folder nor the "
            "teacher ever has it. after: the teacher reads the texts as they are; the student, in training and in "
            "`predict`, and the report read them without. report: it is only counted."
        ),
    )
    redact_kinds: tuple[Kind, ...] | None = Field(
        None,
        min_length=1,
        description="What to look for; default: all kinds but `url`, as far as redact_with finds them.",
    )
    redact_as: Literal["marks", "stand_ins"] = Field(
        "marks",
        description=(
            "What stands in its place: marks such as [EMAIL], or invented values that belong to nobody, the same for "
            "the "
            "same value within a text."
        ),
    )
    redact_with: tuple[Literal["patterns", "presidio", "teacher"], ...] = Field(
        ("patterns",),
        min_length=1,
        description=(
            "What finds it: patterns and checksums; presidio (extra `pii`), which knows names, organisations and "
            "locations; the first teacher with a `model`, which is asked to quote it."
        ),
    )
    redact_max_tokens: int = Field(
        1024,
        ge=1,
        description=(
            "Most tokens of the teacher's list of what is personal in a text, or in a piece of a long one; "
            "teacher.n_ctx has to hold them too."
        ),
    )
    redact_regions: tuple[str, ...] = Field(
        ("US", "GB", "DE", "FR", "ES", "IT", "NL", "CA", "AU", "IN"),
        description=(
            "Countries (two letters) whose phone numbers are known without the country's prefix, also where no word "
            "such "
            "as `call` stands near."
        ),
    )
    redact_spacy: str = Field(
        "en_core_web_lg",
        description="The spaCy pipeline for presidio: an installed package, or a folder; of the language of the texts.",
    )

    @field_validator("redact_regions", mode="after")
    @classmethod
    def _are_countries(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [region for region in value if len(region) != 2 or not region.isascii() or not region.isupper()]
        if wrong:
            raise ValueError(f"a country is written with two capital letters, as in `DE`; {wrong[0]!r} is none")
        return value

    @model_validator(mode="after")
    def _is_heeded(self) -> RedactionKeys:
        """Nothing that is configured goes unheeded."""
        fields = RedactionKeys.model_fields
        changed = [key for key in fields if key != "redact" and getattr(self, key) != fields[key].default]
        if self.redact is None and changed:
            raise ValueError(f"`{changed[0]}` means nothing without `redact`: set it to before, after or report")
        if self.redact == "report" and "redact_as" in changed:
            raise ValueError("`redact_as` means nothing with `redact: report`, which leaves the texts as they are")
        if "redact_spacy" in changed and "presidio" not in self.redact_with:
            raise ValueError("`redact_spacy` means nothing where `redact_with` has no presidio")
        if "redact_max_tokens" in changed and "teacher" not in self.redact_with:
            raise ValueError("`redact_max_tokens` means nothing where `redact_with` has no teacher")
        phones = self.redact_kinds is None or "phone" in self.redact_kinds
        if "redact_regions" in changed and not ("patterns" in self.redact_with and phones):
            raise ValueError("`redact_regions` means nothing where phone numbers are not looked for by patterns")
        unfound = set(MODEL_KINDS) & set(self.redact_kinds or ())
        if unfound and set(self.redact_with) == {"patterns"}:
            raise ValueError(
                f"`redact_kinds` has {min(unfound)}, which no pattern finds: add presidio or teacher to `redact_with`"
            )
        return self

    @property
    def redact_settings(self) -> dict[str, Any]:
        """These keys alone; what only a teacher heeds where one is asked."""
        unheeded = set() if "teacher" in self.redact_with else {"redact_max_tokens"}
        return self.model_dump(mode="json", include=set(RedactionKeys.model_fields) - unheeded)
