"""What `mlxdistill data check` prints: a short account of each file, within 80 columns, and at the end what to do.

Names of columns, labels and files are other people's, so they pass `visible` on their way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mlxdistill.cli.visible import visible

TITLE_WIDTH, BAR_WIDTH, NAME_WIDTH = 13, 20, 24
MOST_CLASSES, MOST_COLUMNS, MOST_LANGUAGES = 12, 20, 5


def print_check(found: Mapping[str, Any]) -> None:
    console = Console(highlight=False)
    for name, file in found["files"].items():
        title = visible(file["path"])
        console.print(Text(title if name == "source" else f"\n{name}: {title}", style="bold"), soft_wrap=True)
        _print_facts(console, _facts(file) if name == "source" else _given_facts(file))
    if found["kind"] == "configuration":
        console.print(Text("\nof a run", style="bold"))
        _print_facts(console, _run_facts(found))
    _print_end(console, found)


def _print_facts(console: Console, facts: Iterator[tuple[str, RenderableType]]) -> None:
    table = _grid(TITLE_WIDTH)
    for title, value in facts:
        table.add_row(Text(title, style="dim"), Text(value) if isinstance(value, str) else value)
    console.print(Padding(table, (0, 0, 0, 2)))


def _facts(file: Mapping[str, Any]) -> Iterator[tuple[str, RenderableType]]:
    yield "rows", _rows(file)
    if file["bad_lines"]["count"]:
        yield "bad lines", _bad_lines(file["bad_lines"])
    yield "columns", _columns(file)
    if not file["usable"]:
        return
    yield "duplicates", _duplicates(file["duplicates"])
    if classes := _classes(file["gold"]):
        yield "classes", classes
    if file["looked_at"] < file["usable"]:
        yield "looked at", f"{file['looked_at']:,} rows drawn by chance (--sample), for what follows"
    if file["lengths"] is not None:
        yield "lengths", _length_sentence(file["lengths"])
        yield "", _length_bars(file["lengths"])
    yield "languages", _languages(file["languages"], file["looked_at"])
    yield "personal data", _counts(file["personal_data"]) or "none found by pattern"
    yield "hidden", _counts(file["hidden_characters"]) or "no characters that nobody sees"


def _given_facts(file: Mapping[str, Any]) -> Iterator[tuple[str, RenderableType]]:
    yield "rows", _rows(file)
    if file["bad_lines"]["count"]:
        yield "bad lines", _bad_lines(file["bad_lines"])
    if file["usable"]:
        yield "duplicates", _duplicates(file["duplicates"])
        if classes := _classes(file["gold"]):
            yield "classes", classes


def _run_facts(found: Mapping[str, Any]) -> Iterator[tuple[str, RenderableType]]:
    splits = found["splits"]
    if splits:
        table = _grid()
        for name, size in splits.items():
            counts = size["class_counts"]
            shown = ", ".join(f"{visible(label)} {count:,}" for label, count in counts.items())
            table.add_row(name, Text(f"{size['n']:,}", justify="right"), shown if len(counts) <= 4 else "")
        yield "splits", table
    for name, each in (found["overlap"] or {}).items():
        places = {"source": each["source"], "pool": each["pool"]}
        parts = (f"{_overlapping(overlap)} in the {where}" for where, overlap in places.items() if overlap)
        yield "overlap", f"with {name}: {', '.join(parts)}"
    for name, each in found["truncated"].items():
        if each["rows"] is not None:
            about = "about " if each["about"] else ""
            yield "truncated", f"by {name}, at {each['most_tokens']:,} tokens: {about}{_plural(each['rows'], 'row')}"


def _overlapping(found: Mapping[str, int]) -> str:
    return f"{found['exact']:,} exact and {found['near']:,} near" if any(found.values()) else "none"


def _rows(file: Mapping[str, Any]) -> str:
    if not file["bad_lines"]["count"]:
        return f"{file['rows']:,}"
    return f"{file['rows']:,}, of which {file['usable']:,} can be used"


def _bad_lines(bad: Mapping[str, Any]) -> Table:
    """Lines that follow each other and are bad for one reason stand together."""
    table = _grid()
    for reason, group in groupby(bad["first"], key=lambda each: each["reason"]):
        numbers = [each["number"] for each in group]
        lines = f"lines {numbers[0]:,} to {numbers[-1]:,}" if len(numbers) > 1 else f"line {numbers[0]:,}"
        table.add_row(Text(lines, style="red"), Text(visible(reason)))
    left = bad["count"] - len(bad["first"])
    if left:
        table.add_row("", f"and {left:,} more")
    return table


def _columns(file: Mapping[str, Any]) -> RenderableType:
    columns = file["columns"]
    if not columns:
        return "none"
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("name", "type", "empty", "distinct"):
        table.add_column(name, justify="left" if name in ("name", "type") else "right")
    for column in columns[:MOST_COLUMNS]:
        empty = f"{column['empty']:,}" if column["empty"] else "-"
        distinct = f"{'about ' if column['about'] else ''}{column['distinct']:,}"
        table.add_row(_name(column["name"]), _types(column), empty, distinct)
    left = len(columns) - MOST_COLUMNS
    if left > 0 or file["columns_left_out"]:
        table.add_row(f"and {left:,} more" if left > 0 and not file["columns_left_out"] else "and more", "", "", "")
    return table


def _types(column: Mapping[str, Any]) -> str:
    types = column["types"]
    if not types:
        return "all empty"
    if len(types) > 1:
        return ", ".join(f"{kind} {_share(count, sum(types.values()))}" for kind, count in types.items())
    return "number, as text" if types.get("string") == column["numeric"] > 0 else str(next(iter(types)))


def _duplicates(found: Mapping[str, Any]) -> str:
    line = f"{found['exact']:,} exact, {found['near']:,} near (Jaccard {found['threshold']:g})"
    if found["conflicting_gold"]:
        line += f"; of the exact ones {found['conflicting_gold']:,} with another label"
    return line


def _classes(gold: Mapping[str, Any]) -> RenderableType | None:
    counts, unknown = gold["counts"], gold["unknown"]
    if gold["too_many"]:
        return "over 1,000 different values: hardly classes"
    if not any(counts.values()) and not unknown:
        return None
    ordered = sorted(counts, key=lambda label: -counts[label])
    shown, rest = ordered[:MOST_CLASSES], ordered[MOST_CLASSES:]
    if len(rest) == 1:
        shown, rest = ordered, []
    table = _bars([(label, counts[label]) for label in shown], sum(counts.values()))
    if rest:
        most, least = counts[rest[0]], counts[rest[-1]]
        table.add_row(
            f"and {len(rest):,} more", f"of {most:,} rows" if most == least else f"{most:,} to {least:,} rows"
        )
    if gold["without"]:
        table.add_row("", "without a label", f"{gold['without']:,}")
    for value, count in unknown.items():
        table.add_row(_name(value, "red"), Text("no label of the task", style="red"), f"{count:,}")
    return table


def _length_sentence(found: Mapping[str, Any]) -> str:
    quantiles = f"half up to {found['median']:,}, 90 % up to {found['p90']:,}, 99 % up to {found['p99']:,}"
    return f"{found['unit']}: {quantiles}, the longest {found['longest']:,}"


def _length_bars(found: Mapping[str, Any]) -> Table:
    low, bars = 0, []
    for bar in found["bars"]:
        bars.append((f"over {low:,}" if bar["up_to"] is None else f"up to {bar['up_to']:,}", bar["rows"]))
        low = bar["up_to"]
    return _bars(bars, found["rows"])


def _bars(rows: Sequence[tuple[str, int]], total: int) -> Table:
    table = _grid()
    table.columns[0].max_width = NAME_WIDTH
    for _ in range(2):
        table.add_column("", justify="right", no_wrap=True)
    most = max((count for _, count in rows), default=0)
    for name, count in rows:
        table.add_row(_name(name), Text(_bar(count, most), style="cyan"), f"{count:,}", _share(count, total))
    return table


def _bar(count: int, most: int) -> str:
    """In eighths of a character, so that the smallest share is still seen."""
    whole, rest = divmod(-(-count * BAR_WIDTH * 8 // most) if most else 0, 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[rest].strip()


def _languages(languages: Mapping[str, int], looked_at: int) -> str:
    told = [(name, rows) for name, rows in languages.items() if name != "unclear"]
    parts = [f"{name} {_share(rows, looked_at)}" for name, rows in told[:MOST_LANGUAGES]]
    if len(told) > MOST_LANGUAGES:
        rest = sum(rows for _, rows in told[MOST_LANGUAGES:])
        parts.append(f"{len(told) - MOST_LANGUAGES} more {_share(rest, looked_at)}")
    if unclear := languages.get("unclear"):
        parts.append(f"too short to tell {_share(unclear, looked_at)}")
    return ", ".join(parts)


def _counts(found: Mapping[str, Mapping[str, int]]) -> Table | None:
    if not found:
        return None
    table = _grid()
    table.add_column("", justify="right")
    table.add_column("", justify="right", style="dim")
    for kind, each in found.items():
        places = f"{each['places']:,} places" if each["places"] > each["rows"] else ""
        table.add_row(kind.replace("_", " "), _plural(each["rows"], "row"), places)
    return table


def _print_end(console: Console, found: Mapping[str, Any]) -> None:
    console.print()
    for line in found["warnings"]:
        console.print(Text.assemble(("! ", "yellow"), visible(line)), soft_wrap=True)
    for error in found["errors"]:
        where = f"{visible(error['where'])}: " if error["where"] else ""
        console.print(Text.assemble(("error: ", "bold red"), where + visible(error["message"])), soft_wrap=True)
        if error["hint"]:
            console.print(Text(f"  hint: {visible(error['hint'])}"), soft_wrap=True)
    console.print(_verdict(found))


def _verdict(found: Mapping[str, Any]) -> str:
    errors, warnings = len(found["errors"]), len(found["warnings"])
    seconds = f"{found['rows_per_second']:,.0f} rows/s"
    what = "a run would start" if found["kind"] == "configuration" else "its usable rows can be read"
    if errors:
        return f"not ok: {_plural(errors, 'thing')} to mend before a run ({seconds})"
    return f"ok: {what}" + (f"; {_plural(warnings, 'thing')} to look at" if warnings else "") + f" ({seconds})"


def _grid(first_width: int | None = None) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, min_width=first_width)
    table.add_column("", overflow="fold")
    return table


def _name(name: str, style: str = "") -> Text:
    return Text(visible(name).replace("\n", "\\n"), style=style, no_wrap=True, overflow="ellipsis")


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _share(count: int, total: int) -> str:
    share = 100 * count / total if total else 0.0
    return "<0.1 %" if 0 < share < 0.1 else f"{share:.1f} %"
