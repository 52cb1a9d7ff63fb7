"""The sets as files, all in one pass over the rows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.data.deck import Places
from mlxdistill.data.spool import RowSpool
from mlxdistill.rundir.files import atomic_file
from mlxdistill.tasks.rows import Row

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)

SELECTION, CALIBRATION = "selection", "calibration"


def write_drawn(
    paths: Mapping[str, Path],
    rows: RowSpool,
    sets: Mapping[str, Places],
    components: Places,
    calibrates: NDArray[np.bool_] | None,
) -> None:
    """Writes each of the sets, in the order of the rows, under the path with its name.

    Args:
        sets: the places of their rows.
        components: for each row the place of the first of its near duplicates; where it has others, `meta["component"]`
            is the id of that one.
        calibrates: of the rows of `valid`, ascending.
    """
    set_of = np.full(len(rows), -1, np.int8)
    for place, places in enumerate(sets.values()):
        set_of[places] = place
    half_of = np.zeros(len(rows), np.int8)
    if calibrates is not None:
        half_of[sets["valid"]] = 1 + calibrates
    alone = np.bincount(components, minlength=len(rows)) == 1
    names: dict[int, str] = {}
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(atomic_file(paths[name])) for name in sets]
        for row, number, component, half in zip(rows, set_of, components, half_of, strict=True):
            more: dict[str, Any] = {}
            if not alone[component]:
                more["component"] = names.setdefault(int(component), row.id)
            if half:
                more["half"] = CALIBRATION if half == 2 else SELECTION
            if number >= 0:
                files[number].write(_line(row, more))


def write_given(path: Path, rows: RowSpool, calibrates: NDArray[np.bool_] | None) -> None:
    """Writes a given set as it is; validation rows with their halves."""
    with atomic_file(path) as file:
        for place, row in enumerate(rows):
            half = {} if calibrates is None else {"half": CALIBRATION if calibrates[place] else SELECTION}
            file.write(_line(row, half))


def _line(row: Row, more: Mapping[str, Any]) -> bytes:
    changed = replace(row, meta={**row.meta, **more}) if more else row
    return (_ENCODER.encode(changed.to_json()) + "\n").encode()
