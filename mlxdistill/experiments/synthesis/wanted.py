"""How many rows of which class are wanted, and the job that is to write them.

A job is kept until it has ended, so that a call after a stop goes on with what is missing instead of beginning anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mlxdistill.config.synth import SynthConfig
from mlxdistill.errors import DataError
from mlxdistill.rundir.files import read_json, write_json
from mlxdistill.rundir.layout import RunDir

BALANCE = "balance"


@dataclass(frozen=True, slots=True)
class Job:
    """What one call is to do.

    Attributes:
        number: of the calls so far.
        request: the settings that say how many rows.
        wanted: of each class, those to be accepted.
        ended: whether it has: with all of them, or given up.
    """

    number: int
    request: Mapping[str, Any]
    wanted: Mapping[str, int]
    ended: bool = False


def begin_job(run: RunDir, synth: SynthConfig, counts: Mapping[str, int]) -> Job:
    """The job that was stopped, where the same rows are asked for; else a new one.

    Args:
        counts: rows of each class, synthetic ones among them.
    """
    request = {"rows": synth.rows, "classes": dict(synth.classes)}
    last = last_job(run)
    if last is not None and not last.ended and last.request == request and request["rows"] != BALANCE:
        return last
    job = Job(1 if last is None else last.number + 1, request, wanted_rows(synth, counts))
    write_json(run.synthesis, {"job": asdict(job)})
    return job


def end_job(run: RunDir, job: Job, outcome: Mapping[str, Any]) -> None:
    write_json(run.synthesis, {"job": asdict(replace(job, ended=True)), **outcome})


def last_job(run: RunDir) -> Job | None:
    if not run.synthesis.exists():
        return None
    match read_json(run.synthesis):
        case {"job": {"number": int(number), "request": dict(request), "wanted": dict(wanted), "ended": bool(ended)}}:
            return Job(number, request, wanted, ended)
    hint = "the file was edited; `mlxdistill synth CONFIG --clear` removes all that was written"
    raise DataError("not a job of synth", where=str(run.synthesis), hint=hint)


def wanted_rows(synth: SynthConfig, counts: Mapping[str, int]) -> dict[str, int]:
    """How many new rows of each class; classes of which none are wanted are left out."""
    if synth.classes:
        return dict(synth.classes)
    if synth.rows == BALANCE:
        largest = max(counts.values())
        return {label: largest - count for label, count in counts.items() if count < largest}
    wanted = dict.fromkeys(counts, 0)
    fewest = [(count, place, label) for place, (label, count) in enumerate(counts.items())]
    heapq.heapify(fewest)
    for _ in range(int(synth.rows)):
        count, place, label = fewest[0]
        wanted[label] += 1
        heapq.heapreplace(fewest, (count + 1, place, label))
    return {label: count for label, count in wanted.items() if count}
