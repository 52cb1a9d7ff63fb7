"""Which rows to learn from are also in a test set, exactly or nearly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np

from mlxdistill.data.check.columns import text_mark
from mlxdistill.data.check.duplicates import THRESHOLD
from mlxdistill.data.fields import MadeRow, RowMaker
from mlxdistill.data.readers import read_source
from mlxdistill.tasks.lines import Record
from mlxdistill.tasks.rows import iter_rows, normalised
from mlxdistill.text.near_duplicates import duplicate_components

Texts: TypeAlias = Callable[[], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Rows whose text a test set has: the same after normalisation; nearly the same, directly or through others."""

    exact: int
    near: int


def overlap(rows: Texts, test: Texts, threshold: float = THRESHOLD) -> Overlap:
    """Of rows with a test set, both as normalised texts, which are read twice."""
    marks = [text_mark(text) for text in test()]
    known = set(marks)
    exact = sum(text_mark(text) in known for text in rows())
    components = duplicate_components(chain(test(), rows()), threshold)
    similar = int(np.isin(components[len(marks) :], components[: len(marks)]).sum())
    return Overlap(exact, max(0, similar - exact))


def texts_of_rows(path: Path) -> Iterator[str]:
    """Of a file that this program wrote."""
    return (normalised(row.text) for row in iter_rows(path))


def texts_of_source(path: Path, maker: RowMaker) -> Iterator[str]:
    """Of the source, from the rows that can be used."""
    source = read_source(path, [*maker.columns.keys, *maker.columns.other_gold])
    for record in source.records:
        if isinstance(record, Record):
            made = maker.make(record, source.class_names, timed=True)
            if isinstance(made, MadeRow):
                yield normalised(made.row.text)
