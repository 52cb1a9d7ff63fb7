"""The charts of the page, as inline SVG.

Every chart is about 360 units wide, so that on a phone it shrinks to no less than readable text, and no chart relies on
colour alone: lines differ by dashes, marks by shape, cells by their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mlxdistill.report.drawing import Scale, circle, clipped, document, line, polyline, rect, text, ticks
from mlxdistill.report.numbers import Estimate, percent, percent_interval, whole
from mlxdistill.statistics.written import signed

WIDTH = 360.0


@dataclass(frozen=True, slots=True)
class Dot:
    """One line of an interval chart, with a value. `faint` marks the baselines."""

    name: str
    estimate: Estimate
    faint: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        value = self.estimate.value or 0.0
        return self.estimate.interval or (value, value)

    @property
    def figures(self) -> str:
        shown = percent_interval(self.estimate.low, self.estimate.high)
        return f"{percent(self.estimate.value)} {shown}".strip()


def interval_chart(key: str, title: str, dots: Sequence[Dot], span: tuple[float, float]) -> Markup:
    """A point with its 95 % interval for each system; all values are shares. The scale covers `span`."""
    marks = ticks(*span)
    across = Scale(marks[0], marks[-1], 12, WIDTH - 16)
    row, top = 38.0, 8.0
    bottom = top + row * len(dots)
    parts = [line(across(mark), top, across(mark), bottom, "grid") for mark in marks]
    parts += [text(across(mark), bottom + 16, f"{mark * 100:.4g}", "faint", anchor="middle") for mark in marks]
    parts.append(text(WIDTH - 16, bottom + 32, "percent", "faint", anchor="end"))
    for index, dot in enumerate(dots):
        y = top + row * index + 26
        low, high = dot.ends
        style = "mark faint" if dot.faint else "mark"
        parts.append(text(12, y - 12, clipped(dot.name, 200)))
        parts.append(text(WIDTH - 16, y - 12, dot.figures, "faint", anchor="end"))
        parts.append(line(across(low), y, across(high), y, style))
        parts += [line(across(end), y - 4, across(end), y + 4, style) for end in (low, high) if low != high]
        parts.append(circle(across(dot.estimate.value or 0.0), y, 4.5, "dot hollow" if dot.faint else "dot"))
    described = "; ".join(f"{dot.name} {dot.figures}" for dot in dots)
    return document(key, WIDTH, bottom + 38, title, described, parts)


def margin_chart(key: str, title: str, difference: Estimate, margin: float) -> Markup:
    """The student's difference from the teacher beside the margin it may lose, both in shares."""
    value = difference.value or 0.0
    low, high = difference.interval or (value, value)
    marks = ticks(min(low, -margin, 0.0), max(high, margin, 0.0))
    across = Scale(marks[0], marks[-1], 16, WIDTH - 16)
    parts = [
        rect(across(-margin), 22, across(marks[-1]) - across(-margin), 34, "allowed"),
        line(across(-margin), 16, across(-margin), 62, "limit"),
        text(min(max(across(-margin), 50), WIDTH - 50), 12, f"margin {signed(-margin * 100)}", anchor="middle"),
        line(across(0.0), 22, across(0.0), 56, "axis"),
        line(across(low), 39, across(high), 39, "mark"),
        *(line(across(end), 34, across(end), 44, "mark") for end in (low, high) if low != high),
        circle(across(value), 39, 5, "dot"),
        *(text(across(mark), 78, signed(mark * 100), "faint", anchor="middle") for mark in marks),
        text(16, 94, "← student worse", "faint"),
        text(WIDTH - 16, 94, "student better →", "faint", anchor="end"),
    ]
    described = (
        f"Difference {signed(value * 100)} points, interval {signed(low * 100)} to {signed(high * 100)}; "
        f"the margin lies at {signed(-margin * 100)} points."
    )
    return document(key, WIDTH, 100, title, described, parts)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    step: float
    loss: float


def loss_chart(
    key: str, title: str, training: Sequence[CurvePoint], validation: Sequence[CurvePoint], best: CurvePoint | None
) -> Markup:
    """Training loss (thin, solid) and validation loss (dashed, with points) over steps; the best validation ringed."""
    everything = [*training, *validation]
    lowest, highest = min(0.0, *(point.loss for point in everything)), max(point.loss for point in everything)
    highest = max(highest, lowest + 1e-6)
    levels = [level for level in ticks(lowest, highest, 4) if level <= highest]
    steps = ticks(0.0, max(1.0, *(point.step for point in everything)), 4)
    top, bottom = 34.0, 206.0
    across, up = Scale(steps[0], steps[-1], 38, WIDTH - 16), Scale(levels[0], highest, bottom, top)
    parts = [line(38, up(level), WIDTH - 16, up(level), "grid") for level in levels]
    parts += [text(32, up(level) + 4, f"{level:.3g}", "faint", anchor="end") for level in levels]
    parts += [
        text(across(step), bottom + 17, f"{step:,.0f}", "faint", anchor="middle") for step in steps if step == int(step)
    ]
    parts.append(text(WIDTH - 16, bottom + 33, "step", "faint", anchor="end"))
    parts.append(polyline([(across(point.step), up(point.loss)) for point in training], "curve"))
    parts += [line(38, 12, 62, 12, "curve"), text(68, 16, "training")]
    if validation:
        parts.append(polyline([(across(point.step), up(point.loss)) for point in validation], "curve second"))
        parts += [circle(across(point.step), up(point.loss), 2.5, "second point") for point in validation]
        parts += [line(136, 12, 160, 12, "curve second"), text(166, 16, "validation")]
    described = (
        f"Training loss goes from {training[0].loss:.3g} to {training[-1].loss:.3g}."
        if training
        else "No training loss."
    )
    if best is not None:
        parts += [circle(across(best.step), up(best.loss), 6, "ring"), circle(247, 12, 5, "ring")]
        parts.append(text(258, 16, f"best, step {best.step:,.0f}"))
        described += f" The best validation loss is {best.loss:.3g} at step {best.step:,.0f}."
    return document(key, WIDTH, bottom + 38, title, described, parts)


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows whose top probability lies in (low, high]: how many, how sure the model was, how often it was right."""

    low: float
    high: float
    count: int
    confidence: float
    correct: Estimate


def reliability_diagram(key: str, title: str, bins: Sequence[Bin]) -> Markup:
    """Bars of how often each bin was right against how sure it was; the diagonal is perfect calibration."""
    top, bottom, left = 12.0, 262.0, 44.0
    across, up = Scale(0, 1, left, WIDTH - 16), Scale(0, 1, bottom, top)
    marks = (0.0, 0.25, 0.5, 0.75, 1.0)
    parts = [line(left, up(mark), WIDTH - 16, up(mark), "grid") for mark in marks]
    parts += [text(left - 6, up(mark) + 4, f"{mark * 100:.0f}", "faint", anchor="end") for mark in marks]
    parts += [text(across(mark), bottom + 16, f"{mark * 100:.0f}", "faint", anchor="middle") for mark in marks]
    for each in bins:
        if each.count == 0 or each.correct.value is None:
            continue
        start, end, middle = across(each.low) + 1, across(each.high) - 1, across((each.low + each.high) / 2)
        parts.append(rect(start, up(each.correct.value), end - start, bottom - up(each.correct.value), "bar"))
        parts.append(line(start, up(each.correct.value), end, up(each.correct.value), "cap"))
        if each.correct.interval is not None:
            parts.append(line(middle, up(each.correct.interval[0]), middle, up(each.correct.interval[1]), "whisker"))
        parts.append(text(middle + 4, bottom + 70, whole(each.count), "small", turned=True))
    parts += [
        line(across(0), up(0), across(1), up(1), "diagonal"),
        text(12, (top + bottom) / 2, "accuracy, percent", "faint", anchor="middle", turned=True),
        text(left - 6, bottom + 58, "rows", "faint", anchor="end"),
        text((left + WIDTH - 16) / 2, bottom + 32, "probability of the answer, percent", "faint", anchor="middle"),
    ]
    filled = [each for each in bins if each.count]
    described = "; ".join(
        f"{percent(each.low)} to {percent(each.high)}: {whole(each.count)} rows, accuracy {percent(each.correct.value)}"
        for each in filled
    )
    return document(key, WIDTH, bottom + 78, title, described or "No rows.", parts)


def heatmap(
    key: str, title: str, rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]]
) -> Markup:
    """Counts of answers (columns) for each gold label (rows), shaded by their share of the row."""
    many = len(columns) > 6
    width, gutter = (640.0, 116.0) if many else (WIDTH, 96.0)
    side = min(68.0, (width - gutter - 4) / len(columns))
    height = min(side, 44.0)
    head = 22.0 + (6.2 * min(14, max(map(len, columns))) if many else 18.0)
    parts = [text(gutter + side * len(columns) / 2, 12, "answer", "faint", anchor="middle")]
    parts.append(text(gutter - 8, head - 8, "gold", "faint", anchor="end"))
    for index, name in enumerate(columns):
        middle = gutter + side * (index + 0.5)
        if many:
            parts.append(text(middle + 4, head - 6, clipped(name, 87), turned=True))
        else:
            parts.append(text(middle, head - 8, clipped(name, side), anchor="middle"))
    for down, (name, line_counts) in enumerate(zip(rows, counts, strict=True)):
        y, total = head + height * down, sum(line_counts)
        parts.append(text(gutter - 8, y + height / 2 + 4, clipped(name, gutter - 12), anchor="end"))
        for index, count in enumerate(line_counts):
            share = count / total if total else 0.0
            x, style = gutter + side * index, "right" if index == down else "wrong"
            parts.append(rect(x + 1, y + 1, side - 2, height - 2, style, opacity=shade(share)))
            ink = ("cell " if many else "cell large ") + ("deep" if share > 0.5 else "" if count else "none")
            parts.append(text(x + side / 2, y + height / 2 + 4, whole(count), ink, anchor="middle"))
    total = sum(map(sum, counts))
    right = sum(counts[index][index] for index in range(min(len(rows), len(columns))))
    described = f"{whole(right)} of {whole(total)} answers are the gold label."
    return document(key, width, head + height * len(rows) + 4, title, described, parts)


def shade(share: float) -> float:
    """Opacity of a cell. Nothing lies between 0.48 and 0.86, where neither dark nor light numbers could be read."""
    return 0.86 + 0.28 * (share - 0.5) if share > 0.5 else 0.05 + 0.86 * share


def funnel_bars(key: str, title: str, steps: Sequence[tuple[str, int, int]]) -> Markup:
    """A bar for each (name, kept, dropped), as long as its share of the rows that entered the first."""
    entered = max((kept + dropped for _, kept, dropped in steps), default=0) or 1
    row, full = 44.0, WIDTH - 24
    parts: list[Markup] = []
    for index, (name, kept, dropped) in enumerate(steps):
        y = 8 + row * index
        parts.append(text(12, y + 10, clipped(name, 170)))
        figures = f"{whole(kept)} kept" + (f", {whole(dropped)} dropped" if dropped else "")
        parts.append(text(WIDTH - 12, y + 10, figures, "faint", anchor="end"))
        parts.append(rect(12, y + 16, full * kept / entered, 14, "kept"))
        parts.append(rect(12 + full * kept / entered, y + 16, full * dropped / entered, 14, "dropped"))
    described = "; ".join(f"{name}: {whole(kept)} kept, {whole(dropped)} dropped" for name, kept, dropped in steps)
    return document(key, WIDTH, 8 + row * len(steps), title, described or "No filters ran.", parts)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of all rows are of a class, before and after."""

    name: str
    before: int
    after: int


def class_bars(key: str, title: str, shares: Sequence[Share], before: int, after: int) -> Markup:
    """Two bars a class: its share of the rows `before` (outlined) and `after` (filled), on a scale of percent."""
    most = max((max(share.before / (before or 1), share.after / (after or 1)) for share in shares), default=0) or 1
    row, full = 50.0, WIDTH - 24
    parts: list[Markup] = []
    described = []
    for index, share in enumerate(shares):
        y = 8 + row * index
        ends = (share.before / before if before else 0.0, share.after / after if after else 0.0)
        figures = f"{percent(ends[0])} → {percent(ends[1])}"
        parts.append(text(12, y + 10, clipped(share.name, 170)))
        parts.append(text(WIDTH - 12, y + 10, figures, "faint", anchor="end"))
        parts.append(rect(12, y + 16, full * ends[0] / most, 9, "dropped"))
        parts.append(rect(12, y + 27, full * ends[1] / most, 9, "kept"))
        described.append(f"{share.name} {percent(ends[0])} before, {percent(ends[1])} after")
    return document(key, WIDTH, 8 + row * len(shares), title, "; ".join(described) or "No labelled rows.", parts)
