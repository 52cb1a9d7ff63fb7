"""How the student learned: the loss curve."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlxdistill.report.blocks import Cell, Column, Figure, Section, Table
from mlxdistill.report.data import TrainPoint
from mlxdistill.report.numbers import MISSING, whole
from mlxdistill.report.svg import CurvePoint, loss_chart

MOST_POINTS = 240  # more than a chart this wide can show


def training_section(training: Sequence[TrainPoint]) -> Section:
    losses = [
        CurvePoint(point.step, point.loss) for point in training if point.loss is not None and math.isfinite(point.loss)
    ]
    validation = [
        CurvePoint(point.step, point.valid_loss)
        for point in training
        if point.valid_loss is not None and math.isfinite(point.valid_loss)
    ]
    if not losses and not validation:
        return Section("training", "Training", ("No losses were recorded.",))
    best = min(validation, key=lambda point: point.loss, default=None)
    drawn, _ = thinned(losses)
    drawing = loss_chart("loss", "Loss of the student while it was trained", drawn, validation, best)
    merged = round(drawn[1].step - drawn[0].step) if len(drawn) > 1 else 1
    caption = f"Each point of the training curve is the mean of {merged} steps." if merged > 1 else ""
    skipped = sum(point.loss is not None and not math.isfinite(point.loss) for point in training)
    if skipped:
        caption += f" {whole(skipped)} steps without a finite loss are left out."
    text = (
        f"The best validation loss, {best.loss:.3f}, was reached at step {whole(best.step)}."
        if best
        else "Validation was not run."
    )
    return Section(
        "training",
        "Training",
        (text,),
        (Figure(drawing, "Loss by step", caption.strip(), _loss_table(drawn, validation, best)),),
    )


def thinned(curve: Sequence[CurvePoint], most: int = MOST_POINTS) -> tuple[list[CurvePoint], int]:
    """At most `most` points, each the mean of as many neighbours as the second value says."""
    group = max(1, math.ceil(len(curve) / most))
    if group == 1:
        return list(curve), 1
    parts = [curve[start : start + group] for start in range(0, len(curve), group)]
    means = [CurvePoint(part[-1].step, math.fsum(point.loss for point in part) / len(part)) for part in parts]
    return means, group


def _loss_table(training: Sequence[CurvePoint], validation: Sequence[CurvePoint], best: CurvePoint | None) -> Table:
    trained, valid = {point.step: point.loss for point in training}, {point.step: point.loss for point in validation}
    rows = []
    for step in sorted({*trained, *valid}):
        tag = "best" if best is not None and step == best.step else ""
        shown = [f"{curve[step]:.4f}" if step in curve else MISSING for curve in (trained, valid)]
        rows.append((Cell(whole(step)), Cell(shown[0]), Cell(shown[1], tag=tag)))
    return Table(
        "loss-table", "Losses by step", (Column("Step", False), Column("Training"), Column("Validation")), tuple(rows)
    )
