"""Which texts are nearly the same as an earlier one, and which belong together because near duplicates join them.

Nearly the same: the Jaccard similarity of their sets of five characters reaches a threshold. Candidates come from
MinHash signatures cut into bands (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4): two texts meet
where a whole band agrees. Bands are chosen by the S-curve 1 - (1 - s**rows)**bands such that pairs exactly at the
threshold meet with a probability of 99 %; bands that balance both kinds of error instead, as is usual, miss more than
half of those pairs. Every candidate is then compared exactly, so no pair is reported that is none.

Where one text is to stand for others (`near_duplicates`), each takes the first earlier text that it is itself similar
to and that stands for itself: nothing is passed on along a chain of texts each a little different from the last. Where
none may be torn from another (`duplicate_components`), the whole chain is one component.

Texts, signatures and bands lie in temporary files; in memory stand the texts that met another.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.text.comparing import TextSpool
from mlxdistill.text.joining import Joining
from mlxdistill.text.shingles import Signatures, signatures

RECALL = 0.99
MOST_HASHES = 160
COMPONENT_RECALL = 0.999
COMPONENT_HASHES = 96
MOST_MET = 256  # texts of one bucket that stand for themselves; those beyond are met in other buckets or not at all
SURELY = 4.0  # standard deviations under the threshold at which a signature rules a pair out
MOST_COMPARED = 64  # texts that one is compared with exactly; where more are likely, the likeliest

_MIX = np.uint64(0x9E3779B97F4A7C15)


def bands_for(threshold: float, recall: float = RECALL, most_hashes: int = MOST_HASHES) -> tuple[int, int]:
    """Bands and their rows (hashes each): as many rows as allow the recall at the threshold, for the fewest
    candidates."""
    best = (1, 1)
    for rows in range(1, most_hashes + 1):
        meets = threshold**rows
        bands = 1 if meets == 1 else math.ceil(math.log(1 - recall) / math.log1p(-meets))
        if rows > 1 and bands * rows > most_hashes:
            break
        best = (bands, rows)
    return best


def near_duplicates(texts: Iterable[str], threshold: float) -> NDArray[np.int64]:
    """For each text the place of the text that stands for it: an earlier one, or its own.

    Args:
        texts: normalised (`tasks.rows.normalised`), read once and in order.
        threshold: the least Jaccard similarity, above 0 and at most 1. Two empty texts have 1.

    Raises OSError where the temporary files find no room.
    """
    bands, rows = bands_for(threshold)
    with tempfile.TemporaryFile() as text_file, tempfile.TemporaryFile() as marks, tempfile.TemporaryFile() as keys:
        spool = TextSpool(text_file)
        for part in signatures(spool.passing(texts), bands * rows):
            marks.write(part.astype(np.uint8).tobytes())
            keys.write(_band_keys(part, bands).tobytes())
        count = len(spool)
        if count < 2:
            return np.arange(count)
        marks.flush()
        keys.flush()
        buckets = _buckets(np.memmap(keys, np.uint64, "r", shape=(count, bands)))
        return _representatives(spool, np.memmap(marks, np.uint8, "r", shape=(count, bands * rows)), buckets, threshold)


def duplicate_components(texts: Iterable[str], threshold: float, *, folder: Path | None = None) -> NDArray[np.int64]:
    """For each text the place of the first text of its component: of those that near duplicates join, directly or
    through others.

    Two texts are joined where their similarity was compared exactly and reaches the threshold. Of up to
    `joining.EXHAUSTIVE` texts all pairs are looked at, and none is missed; of more, a pair exactly at the threshold is
    missed with a probability of one in a thousand, unless others join it, and more similar ones less often. Only in
    crowds of texts too alike to be all compared (`text.joining`) some are joined unseen. Cost is linear.

    Args:
        texts: as of `near_duplicates`.
        threshold: likewise, 0.05 at least.
        folder: where the temporary files lie; None: where the system has them.

    Raises OSError where the temporary files find no room.
    """
    bands, rows = bands_for(threshold, COMPONENT_RECALL, COMPONENT_HASHES)
    hashes = max(COMPONENT_HASHES, -(-bands * rows // 8) * 8)
    with tempfile.TemporaryFile(dir=folder) as text_file, tempfile.TemporaryFile(dir=folder) as marks:
        spool = TextSpool(text_file)
        for part in signatures(spool.passing(texts), hashes):
            marks.write(part.astype(np.uint8).tobytes())
        if len(spool) < 2:
            return np.arange(len(spool))
        marks.flush()
        known = np.memmap(marks, np.uint8, "r", shape=(len(spool), hashes))
        return Joining(spool, known, threshold).components(bands, rows)


def _band_keys(part: Signatures, bands: int) -> NDArray[np.uint64]:
    """(n, bands): each band's hashes as one number."""
    cut = part.reshape(len(part), bands, -1).astype(np.uint64)
    keys = np.zeros((len(part), bands), np.uint64)
    for place in range(cut.shape[2]):
        keys = (keys ^ cut[:, :, place]) * _MIX
        keys ^= keys >> np.uint64(29)
    return keys


@dataclass(frozen=True, slots=True)
class _Buckets:
    """Texts that share a band with another.

    Attributes:
        starts: where each bucket begins in `members`.
        members: places of texts, ascending within a bucket.
        texts: the places of all members, ascending, each as often as it is in a bucket.
        buckets: the bucket, beside `texts`.
    """

    starts: NDArray[np.int64]
    members: NDArray[np.int32]
    texts: NDArray[np.int32]
    buckets: NDArray[np.int32]


def _buckets(keys: NDArray[np.uint64]) -> _Buckets:
    members, buckets = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    count = 0
    for band in range(keys.shape[1]):
        values = np.array(keys[:, band])
        order = np.argsort(values, kind="stable")
        values = values[order]
        same = values[1:] == values[:-1]
        shared = np.concatenate([same, [False]]) | np.concatenate([[False], same])
        begins = np.concatenate([[True], ~same])[shared]
        members.append(order[shared].astype(np.int32))
        buckets.append((count - 1 + np.cumsum(begins)).astype(np.int32))
        count += int(begins.sum())
    all_members, all_buckets = np.concatenate(members), np.concatenate(buckets)
    by_text = np.argsort(all_members, kind="stable")
    starts = np.searchsorted(all_buckets, np.arange(count))
    return _Buckets(starts, all_members, all_members[by_text], all_buckets[by_text])


def _representatives(
    spool: TextSpool, marks: NDArray[np.uint8], buckets: _Buckets, threshold: float
) -> NDArray[np.int64]:
    """Goes through the texts in order. The beginning of each bucket becomes the list of those of its texts that stand
    for themselves; they are never more than the members gone through."""
    found = np.arange(len(marks))
    filled = np.zeros(len(buckets.starts), np.int32)
    hashes = marks.shape[1]
    least = threshold - SURELY * math.sqrt(threshold * (1 - threshold) / hashes)
    places, firsts = np.unique(buckets.texts, return_index=True)
    bounds = itertools.pairwise([*firsts.tolist(), len(buckets.texts)])
    for text, (first, last) in zip(places.tolist(), bounds, strict=True):
        its = buckets.buckets[first:last]
        earlier = [
            buckets.members[start : start + length]
            for start, length in zip(buckets.starts[its], filled[its], strict=True)
            if length
        ]
        for other in _likely(marks, text, earlier, least):
            if spool.similar(text, other, threshold):
                found[text] = other
                break
        else:
            open_ = its[filled[its] < MOST_MET]
            buckets.members[buckets.starts[open_] + filled[open_]] = text
            filled[open_] += 1
    return found


def _likely(marks: NDArray[np.uint8], text: int, earlier: Sequence[NDArray[Any]], least: float) -> list[int]:
    """Those of the earlier texts, ascending, whose signatures do not rule them out.

    Rows made from one template may all be a little less similar than the threshold; comparing each with all the others
    would take for ever.
    """
    if not earlier:
        return []
    others = np.unique(np.concatenate(earlier))
    agreeing = (marks[others] == marks[text]).mean(axis=1)
    likely = np.flatnonzero(agreeing >= least)
    if len(likely) > MOST_COMPARED:
        likely = np.sort(likely[np.argsort(-agreeing[likely], kind="stable")[:MOST_COMPARED]])
    places: list[int] = others[likely].tolist()
    return places
