"""Personal data: where it stands in a text, and texts without it."""

from mlxdistill.data.redaction.finding import find_personal_data
from mlxdistill.data.redaction.redactor import Finder, Redacted, Redactor
from mlxdistill.data.redaction.spans import KINDS, Span

__all__ = ["KINDS", "Finder", "Redacted", "Redactor", "Span", "find_personal_data"]
