"""What was found out about a model on this machine: the settings that run it fastest, and how fast that was.

Kept in the user's cache, apart from any run. Where it cannot be read or written, it is found out again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlxdistill.platform.blas import cache_folder
from mlxdistill.platform.cores import usable_cores
from mlxdistill.rundir.files import write_json
from mlxdistill.tasks.rows import canonical_json, content_hash

TUNED = {"n_batch": int, "n_seq": int, "kv": str}


def machine_key(model_sha256: Sequence[str]) -> str:
    """Stands for the model's bytes, the engine and the machine."""
    return content_hash(canonical_json([list(model_sha256), usable_cores(), version("llama-cpp-python")]))


def remembered(key: str) -> dict[str, Any]:
    """What is known: `tokens_per_second` of the last labelling; `n_batch`, `n_seq` and `kv` where they were tuned.

    Args:
        key: of `machine_key`.
    """
    record = _read().get(key)
    known = record if isinstance(record, dict) else {}
    speed = {"tokens_per_second": known["tokens_per_second"]} if _is_speed(known.get("tokens_per_second")) else {}
    whole = all(type(known.get(name)) is kind for name, kind in TUNED.items())
    return {**speed, **({name: known[name] for name in TUNED} if whole else {})}


def remember(key: str, tokens_per_second: float, tuned: Mapping[str, Any] | None) -> None:
    """Keeps a speed, and settings that were found to be the fastest; None leaves those that are known."""
    found = {name: tuned[name] for name in TUNED} if tuned is not None else {}
    records = {**_read(), key: {**remembered(key), **found, "tokens_per_second": float(tokens_per_second)}}
    with contextlib.suppress(OSError):
        write_json(_path(), records)


def _is_speed(value: Any) -> bool:
    return isinstance(value, float) and value > 0


def _path() -> Path:
    return cache_folder() / "teachers.json"


def _read() -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        records = json.loads(_path().read_text("utf-8"))
        if isinstance(records, dict):
            return records
    return {}
