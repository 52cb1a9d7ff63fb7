"""From which rows the student learned: what each filter took, of which classes, and why.

A filter that finds wrong labels finds most of them among the labels that are given too often, and so eats a class;
that is shown beside the counts. Examples are ids: texts stay out of the report unless they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlxdistill.report.blocks import Cell, Column, Figure, Section, Table
from mlxdistill.report.data import FunnelStep
from mlxdistill.report.numbers import MISSING, percent, whole
from mlxdistill.report.svg import Share, class_bars, funnel_bars

MOST_CLASSES_DRAWN = 12
MOST_CLASS_COLUMNS = 5
MOST_REASONS = 40
# After these the rows are what the later filters choose from: labelled, and no test rows.
GIVEN = ("held_out", "budget", "answered")
TREATMENTS = {"weighed": "count less", "softened": "learn a second opinion too", "flipped": "learn another label"}


def funnel_section(funnel: Sequence[FunnelStep], notes: Sequence[str] = ()) -> Section:
    """Args: notes: what the user should know, a sentence each."""
    if not funnel:
        return Section("funnel", "Filters", ("No filter ran: every answered row could teach.",))
    entered, left = funnel[0].kept + funnel[0].dropped, funnel[-1].kept
    text = f"{whole(entered)} rows came to the filters, {whole(left)} taught the student"
    text += f" ({percent(left / entered)})." if entered else "."
    classes = _classes(funnel)
    figures = [_steps_figure(funnel)]
    if classes:
        figures.append(_classes_figure(classes))
    takers = [step for step in funnel if step.filter not in GIVEN and step.dropped]
    tables = [_classes_table(takers, [share.name for share in classes])] if classes and takers else []
    reasons = _reasons_table(funnel)
    folded = (reasons,) if reasons else ()
    paragraphs = (text, *(f"{note}." for note in notes))
    return Section(
        "funnel",
        "Filters",
        paragraphs,
        tuple(figures),
        tuple(tables),
        "Why rows were dropped" if folded else "",
        folded,
    )


def _steps_figure(funnel: Sequence[FunnelStep]) -> Figure:
    treated = any(step.treated for step in funnel)
    rows = tuple(
        (
            Cell(step.filter),
            Cell(whole(step.kept)),
            Cell(whole(step.dropped)),
            *([Cell(_treated(step) or MISSING)] if treated else []),
        )
        for step in funnel
    )
    columns: tuple[Column, ...] = (Column("Filter", False), Column("Kept"), Column("Dropped"))
    columns += (Column("Of those kept", numeric=False, long=True),) if treated else ()
    drawing = funnel_bars(
        "funnel-bars", "Rows kept by each filter", [(step.filter, step.kept, step.dropped) for step in funnel]
    )
    table = Table("funnel-table", "Rows kept and dropped, in the order the filters ran", columns, rows)
    return Figure(drawing, "Rows kept by each filter", "Filled: kept. Outlined: dropped by this filter.", table)


def _treated(step: FunnelStep) -> str:
    return ", ".join(f"{whole(count)} {TREATMENTS.get(kind, kind)}" for kind, count in step.treated.items())


def _classes(funnel: Sequence[FunnelStep]) -> list[Share]:
    """Each class before the filters that choose and after them, the largest first."""
    chosen = [step for step in funnel if step.filter not in GIVEN]
    given = [step for step in funnel if step.filter in GIVEN and step.classes]
    if not chosen or not chosen[0].classes:
        return []
    first, last = chosen[0].classes, chosen[-1].classes
    before = {label: sum(counts) for label, counts in first.items()}
    for label in given[-1].classes if given else ():
        before.setdefault(label, 0)
    shares = [Share(label, count, last.get(label, (0, 0))[0]) for label, count in before.items()]
    return sorted(shares, key=lambda share: (-share.before, share.name))


def _classes_figure(classes: Sequence[Share]) -> Figure:
    before, after = sum(share.before for share in classes), sum(share.after for share in classes)
    drawn = classes[:MOST_CLASSES_DRAWN]
    more = f" The {len(drawn)} largest of {len(classes)} classes." if len(drawn) < len(classes) else ""
    rows = tuple(
        (
            Cell(share.name),
            Cell(whole(share.before), percent(share.before / before) if before else ""),
            Cell(whole(share.after), percent(share.after / after) if after else ""),
            Cell(percent(share.after / share.before) if share.before else MISSING),
        )
        for share in classes
    )
    columns = (Column("Class", False), Column("Before"), Column("After"), Column("Kept"))
    return Figure(
        class_bars("class-bars", "Share of each class before and after the filters", drawn, before, after),
        "What the filters did to the classes",
        f"Share of the labelled rows. Outlined: before. Filled: after.{more}",
        Table("class-share-table", "Rows of each class, by the label they were given", columns, rows),
    )


def _classes_table(steps: Sequence[FunnelStep], labels: Sequence[str]) -> Table:
    """Which class each filter takes how much of; with many classes, of which it takes most."""
    wide = len(labels) <= MOST_CLASS_COLUMNS
    names = [f"{label} dropped" for label in labels] if wide else ["Takes most of", "Rows dropped", "Of its class"]
    rows = []
    for step in steps:
        if wide:
            cells = [_taken(step.classes.get(label, (0, 0))) for label in labels]
        else:
            label, counts = max(
                step.classes.items(), key=lambda item: (_part(item[1]), item[1][1], item[0]), default=("", (0, 0))
            )
            taken = bool(counts[1])
            cells = [Cell(label if taken else MISSING), Cell(whole(counts[1])), Cell(percent(_part(counts)))]
        rows.append((Cell(step.filter), Cell(whole(step.dropped)), *cells))
    columns = (
        Column("Filter", False),
        Column("Dropped"),
        *(Column(name, wide or place > 0) for place, name in enumerate(names)),
    )
    caption = "Which classes the filters take rows of, in percent of what the class had left"
    return Table("class-dropped-table", caption, columns, tuple(rows))


def _part(counts: tuple[int, int]) -> float:
    return counts[1] / sum(counts) if sum(counts) else 0.0


def _taken(counts: tuple[int, int]) -> Cell:
    return Cell(whole(counts[1]), percent(_part(counts)) if counts[1] else "")


def _reasons_table(funnel: Sequence[FunnelStep]) -> Table | None:
    found = [(step, reason, count) for step in funnel for reason, count in step.reasons.items()]
    if not found:
        return None
    rows = tuple(
        (Cell(step.filter), Cell(reason), Cell(whole(count)), Cell(", ".join(step.examples.get(reason, ())) or MISSING))
        for step, reason, count in found[:MOST_REASONS]
    )
    columns = (
        Column("Filter", False),
        Column("Reason", False, long=True),
        Column("Rows"),
        Column("For example", False, long=True),
    )
    notes = (f"{whole(len(found) - MOST_REASONS)} rarer reasons are left out",) if len(found) > MOST_REASONS else ()
    return Table("reasons-table", "Reasons, with the ids of some rows", columns, rows, notes)
