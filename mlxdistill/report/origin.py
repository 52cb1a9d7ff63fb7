"""How the run was made: its models and settings, its stages with their time and rows, the seeds, and the versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxdistill.report.blocks import Cell, Column, Section, Table
from mlxdistill.report.data import ReportData
from mlxdistill.report.numbers import MISSING, duration, finite, whole
from mlxdistill.report.settings import settings_table

STAGE_COLUMNS = (
    Column("Stage", numeric=False),
    Column("Started (UTC)", numeric=False),
    Column("Time"),
    Column("Rows in"),
    Column("Rows out"),
    Column("Notes", numeric=False, long=True),
)


def origin_section(data: ReportData) -> Section:
    """Models and settings, the stages with their time and rows, the seeds, and the versions of what they ran on."""
    recorded = (data.manifest.get("stages") or {}).items()
    stages = {name: record for name, record in recorded if isinstance(record, Mapping)}
    settings = settings_table(data)
    tables = [] if settings is None else [settings]
    if stages:
        rows = tuple(_stage(str(name), record) for name, record in stages.items())
        tables.append(Table("stages", "Stages", STAGE_COLUMNS, rows))
    seeds = {str(name): seed for name, record in stages.items() if (seed := _seed(record)) is not None}
    if len(set(seeds.values())) == 1:
        facts = [("Seed", next(iter(seeds.values())))]
    else:
        facts = [(f"Seed of {name}", seed) for name, seed in seeds.items()]
    facts += [(str(name), str(version)) for name, version in data.versions.items()]
    if facts:
        columns = (Column("What", numeric=False), Column("Value", numeric=False))
        named = tuple((Cell(name), Cell(value)) for name, value in facts)
        tables.append(Table("versions", "Seeds and versions", columns, named))
    return Section("origin", "How it was made", () if tables else ("No stages were recorded.",), tables=tuple(tables))


def _stage(name: str, record: Mapping[str, Any]) -> tuple[Cell, ...]:
    facts = {**(record.get("figures") or {}), **record}
    return (
        Cell(name),
        Cell(_moment(facts.get("started"))),
        Cell(duration(finite(facts.get("seconds"))) if facts.get("finished") else "not finished"),
        Cell(whole(facts.get("rows_in"))),
        Cell(whole(facts.get("rows_out"))),
        Cell(_notes(facts.get("notes"))),
    )


def _seed(record: Mapping[str, Any]) -> str | None:
    """The seed among a stage's figures or inputs, there also inside a section of the configuration."""
    figures, inputs = record.get("figures") or {}, record.get("inputs") or {}
    sections = [section for section in inputs.values() if isinstance(section, Mapping)]
    found = [place["seed"] for place in (record, figures, inputs, *sections) if place.get("seed") is not None]
    return str(found[0]) if found else None


def _moment(raw: Any) -> str:
    """An ISO time, readable: `2026-11-22 15:49`."""
    return str(raw)[:16].replace("T", " ") if raw else MISSING


def _notes(raw: Any) -> str:
    if not raw:
        return MISSING
    return "; ".join(map(str, raw)) if isinstance(raw, list | tuple) else str(raw)
