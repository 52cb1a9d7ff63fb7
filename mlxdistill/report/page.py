"""The page itself: sections in their order, the template, and what keeps hostile row text harmless.

Templates escape everything. Beyond that, characters that could reorder or break the page without being markup (bidi
overrides, control characters, halves of surrogate pairs) are shown by their code.
"""

from __future__ import annotations

import re
from pathlib import Path

from mlxdistill.report.calibration import calibration_section
from mlxdistill.report.classes import confusion_section
from mlxdistill.report.data import ReportData
from mlxdistill.report.experiments import learning_curve_section, sweep_section
from mlxdistill.report.funnel import funnel_section
from mlxdistill.report.mistakes import mistakes_section
from mlxdistill.report.origin import origin_section
from mlxdistill.report.outcome import comparisons_section, key_figures, replacement, retention_section
from mlxdistill.report.prompts import prompts_section
from mlxdistill.report.systems import scores_section
from mlxdistill.report.taught import taught_section
from mlxdistill.report.teachers import teachers_section
from mlxdistill.report.training import training_section
from mlxdistill.rundir.files import write_text
from mlxdistill.rundir.layout import RunDir

TEMPLATES = Path(__file__).parent / "templates"
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def render_report(data: ReportData) -> str:
    """The whole page as HTML. The same data gives the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    metrics, teachers = data.metrics, teachers_section(data.manifest)
    taught = taught_section(data.manifest, data.config)
    sections = [
        scores_section(metrics),
        comparisons_section(metrics),
        retention_section(metrics),
        confusion_section(metrics),
        calibration_section(metrics, data.predictions),
        *([teachers] if teachers else []),
        training_section(data.training),
        funnel_section(data.funnel, data.filter_notes),
        *([taught] if taught else []),
        *([prompts_section(data.prompts)] if data.prompts else []),
        *([learning_curve_section(data.learning_curve)] if data.learning_curve else []),
        *([sweep_section(data.sweep)] if data.sweep else []),
        mistakes_section(metrics, data.predictions, data.mistakes),
        origin_section(data),
    ]
    page = environment.get_template("report.html.j2").render(
        name=data.name,
        sentence=data.verdict_sentence,
        verdict=replacement(metrics),
        key_figures=key_figures(metrics),
        sections=sections,
    )
    return _INVISIBLE.sub(lambda match: f"[U+{ord(match.group()):04X}]", page)


def write_report(run: RunDir, data: ReportData) -> Path:
    """Writes `report.html`, whole or not at all. Raises MlxDistillError where the folder cannot be written."""
    write_text(run.report, render_report(data))
    return run.report
