"""What more labels would bring, and which settings are more than noise: the experiments made with a run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from mlxdistill.report.blocks import Cell, Column, Figure, Notes, Section, Table
from mlxdistill.report.drawing import Scale, circle, document, line, polyline, text, ticks
from mlxdistill.report.numbers import p_value, percent, points, points_interval, read_estimate, whole
from mlxdistill.report.svg import WIDTH

SERIES = {"student": ("curve", "dot"), "tfidf_logreg": ("curve second", "second point")}
WITHIN_NOISE = "within the noise"


def learning_curve_section(outcome: Mapping[str, Any]) -> Section:
    """Of a run with `evaluation/learning_curve.json`, whose content is given."""
    figures = tuple(
        Figure(
            _curve_chart(f"learning-curve-{place}", f"{outcome['metric'].title()} by rows learned from", curve),
            f"{name}: {whole(curve['n'])} rows",
            "Means over seeds, with 95 % intervals; the rows are on a logarithmic scale.",
            _curve_table(f"learning-curve-table-{place}", name, curve),
        )
        for place, (name, curve) in enumerate(outcome["sets"].items())
    )
    return Section("learning-curve", "More labels", (outcome["sentence"],), figures)


def _curve_chart(key: str, title: str, curve: Mapping[str, Any]) -> Markup:
    entries = curve["points"]
    ends = [end for each in entries for name in SERIES for end in (each[name]["ci"] or [each[name]["value"]])]
    levels = ticks(min(ends), max(ends), 4)
    first, last = (math.log2(max(1, entries[place]["rows"])) for place in (0, -1))
    top, bottom = 34.0, 206.0
    across, up = Scale(first, max(last, first + 1), 44, WIDTH - 20), Scale(levels[0], levels[-1], bottom, top)
    parts = [line(38, up(level), WIDTH - 12, up(level), "grid") for level in levels]
    parts += [text(32, up(level) + 4, f"{100 * level:.3g}", "faint", anchor="end") for level in levels]
    for each in entries:
        parts.append(
            text(across(math.log2(max(1, each["rows"]))), bottom + 17, str(each["share"]), "faint", anchor="middle")
        )
    parts.append(text(WIDTH - 12, bottom + 33, "percent of the labels", "faint", anchor="end"))
    for shift, (name, (style, point)) in zip((-2, 2), SERIES.items(), strict=True):
        corners = [(across(math.log2(max(1, each["rows"]))) + shift, each[name]) for each in entries]
        parts.append(polyline([(x, up(estimate["value"])) for x, estimate in corners], style))
        for x, estimate in corners:
            low, high = estimate["ci"] or (estimate["value"],) * 2
            parts += [line(x, up(low), x, up(high), "whisker"), circle(x, up(estimate["value"]), 3, point)]
    parts += [line(38, 12, 62, 12, "curve"), text(68, 16, "student")]
    parts += [line(136, 12, 160, 12, "curve second"), text(166, 16, "TF-IDF + logistic regression")]
    described = "; ".join(
        f"{whole(each['rows'])} rows: student {percent(each['student']['value'])}" for each in entries
    )
    return document(key, WIDTH, bottom + 38, title, described, parts)


def _curve_table(key: str, name: str, curve: Mapping[str, Any]) -> Table:
    notes = Notes()
    rows = tuple(
        (
            Cell(f"{each['share']} %"),
            Cell(whole(each["rows"])),
            *(notes.share(read_estimate(each[system])) for system in SERIES),
        )
        for each in curve["points"]
    )
    columns = (Column("Labels", False), Column("Rows"), Column("Student"), Column("TF-IDF + logistic regression"))
    return Table(key, f"{name}, by the share of the labels learned from", columns, rows, tuple(notes.reasons))


def sweep_section(outcome: Mapping[str, Any]) -> Section:
    """Of a run with `evaluation/sweep.json`, whose content is given."""
    said = (
        f"Each setting was trained with {outcome['seeds']} seeds and compared with the base on the same rows and "
        "seeds; p is corrected for the number of settings (Holm)."
    )
    tables = tuple(_sweep_table(place, name, outcome) for place, name in enumerate(outcome["base"]["sets"]))
    return Section("sweep", "One change at a time", (said,), tables=tables)


def _sweep_table(place: int, name: str, outcome: Mapping[str, Any]) -> Table:
    base = outcome["base"]["sets"][name]
    rows = [
        (Cell("base"), Cell(""), Cell(percent(base["value"]), f"seed sd {percent(base['seed_sd'])}"), *[Cell("")] * 3)
    ]
    strong = set()
    for setting in outcome["settings"]:
        entry = setting["sets"][name]
        difference = read_estimate({**entry, "value": entry["difference"]})
        if entry["verdict"] != WITHIN_NOISE:
            strong.add(len(rows))
        rows.append(
            (
                Cell(setting["key"]),
                Cell(_written(setting["value"]), f"base: {_written(setting['base_value'])}"),
                Cell(percent(entry["value"]), f"seed sd {percent(entry['seed_sd'])}"),
                Cell(points(difference.value), points_interval(difference.low, difference.high)),
                Cell(p_value(entry["p_holm"])),
                Cell(entry["verdict"]),
            )
        )
    columns = (
        Column("Setting", False),
        Column("Value", False),
        Column(outcome["metric"].title()),
        Column("Difference, points"),
        Column("p"),
        Column("Verdict", False),
    )
    return Table(f"sweep-{place}", name, columns, tuple(rows), strong=frozenset(strong))


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
