"""What of a file's findings a person should look at before it teaches anything; none of it stops a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mlxdistill.data.check.examine import UNCLEAR, Findings

FEW_ROWS = 10  # of a class: neither learned nor measured
OTHER_LANGUAGES = 0.01  # share of rows in other languages than the most frequent


def warnings_of(found: Findings, name: str = "", redact: str | None = None) -> Iterator[str]:
    """One line each.

    Args:
        name: of the set, where it is not the source.
        redact: as of `data.redact`.
    """
    prefix = f"{name}: " if name else ""
    for line in _lines(found, redact):
        yield prefix + line


def _lines(found: Findings, redact: str | None) -> Iterator[str]:
    if found.bad_lines.count:
        yield f"lines that cannot be used: {found.bad_lines.count:,} of {found.rows:,}"
    if found.duplicates.conflicting_gold:
        yield f"rows with the text of an earlier one and another gold: {found.duplicates.conflicting_gold:,}"
    yield from _class_lines(found)
    yield from _language_lines(found.languages)
    if found.personal_data and redact not in ("before", "after"):
        kinds = ", ".join(kind.replace("_", " ") for kind in found.personal_data)
        yield f"personal data stays in the texts: {kinds}; data.redact: before or after takes it out"
    if found.hidden_characters:
        yield f"characters nobody sees: {', '.join(found.hidden_characters)}"
    for column in found.columns:
        if len(column.types) > 1:
            kinds = " and ".join(f"{count:,} {kind}" for kind, count in column.types.items())
            yield f"the column {column.name!r} mixes types: {kinds}"


def _class_lines(found: Findings) -> Iterator[str]:
    gold = found.gold
    if gold.too_many:
        yield "the gold column has over 1,000 different values, which are hardly classes"
    if not gold.counts or not any(gold.counts.values()):
        return
    if gold.absent:
        yield f"classes without a row: {_named(gold.absent)}"
    few = [label for label, rows in gold.counts.items() if 0 < rows < FEW_ROWS]
    if few:
        yield f"classes with fewer than {FEW_ROWS} rows: {_named(few)}"


def _language_lines(languages: Mapping[str, int]) -> Iterator[str]:
    told = {language: rows for language, rows in languages.items() if language != UNCLEAR}
    main = max(told, key=lambda language: told[language], default=None)
    others = sum(told.values()) - told.get(main or "", 0)
    if others > OTHER_LANGUAGES * sum(languages.values()):
        yield f"rows in other languages than {main}: {others:,}"


def _named(labels: tuple[str, ...] | list[str]) -> str:
    return ", ".join(map(repr, labels[:5])) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
