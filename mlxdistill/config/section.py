"""What every section of a configuration has in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from mlxdistill.config.kinds import kinds

Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        wanted = kinds(cls.model_fields[info.field_name or ""].annotation)
        if isinstance(value, bool) and bool not in wanted and wanted & {int, float}:
            raise ValueError("input should be a number")
        return value


def scalar_keys(value: Any) -> Any:
    return {scalar_name(key): label for key, label in value.items()} if isinstance(value, dict) else value


def scalar_name(value: Any) -> str:
    """YAML reads `[false, true]` as booleans; rows are compared by the text."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
