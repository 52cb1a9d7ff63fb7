"""How similar each of some texts is to the most similar of many others: exact, for texts by the thousand.

The similarity is the Jaccard similarity of their runs of five characters, as everywhere. Finding pairs above a
threshold among millions is another matter (`near_duplicates`); here every pair is counted, through an index of the runs
of the few, so that the similarity itself can be told where nothing is near.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mlxdistill.text.shingles import shingles


def nearest(texts: Sequence[str], others: Iterable[str], *, but_itself: bool = False) -> NDArray[np.float64]:
    """For each text the largest similarity to any of the others, 0 where there are none: (n,).

    Args:
        texts: normalised (`tasks.rows.normalised`), as the others.
        others: read once.
        but_itself: the others are the same texts in the same order, and none is compared with itself.
    """
    sets = [shingles(text) for text in texts]
    sizes = np.array([len(found) for found in sets], np.float64)
    holders: dict[str, list[int]] = {}
    for place, found in enumerate(sets):
        for shingle in found:
            holders.setdefault(shingle, []).append(place)
    index = {shingle: np.array(places, np.int64) for shingle, places in holders.items()}
    best = np.zeros(len(sets))
    for number, other in enumerate(others):
        theirs = shingles(other)
        hits = [index[shingle] for shingle in theirs if shingle in index]
        if not hits:
            continue
        common = np.bincount(np.concatenate(hits), minlength=len(sets)).astype(np.float64)
        similarity = common / (sizes + len(theirs) - common)
        if but_itself:
            similarity[number] = 0.0
        np.maximum(best, similarity, out=best)
    return best
