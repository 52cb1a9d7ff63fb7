"""`mlxdistill sweep`: one change at a time from a base run, against the noise of the seed.

Every setting is trained with the same seeds and tested on the same rows as the base. A difference counts where it is
larger than both the rows and the seeds can make it, corrected for the number of settings tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlxdistill.config.load import LoadedConfig, load_config
from mlxdistill.errors import ConfigError, UsageError
from mlxdistill.experiments.derived import Derivation, Scored, derive, prepare, scored
from mlxdistill.experiments.runs import flat
from mlxdistill.pipeline import Reporter
from mlxdistill.rundir.files import write_json
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.lock import locked
from mlxdistill.statistics.crossed import crossed_difference
from mlxdistill.statistics.intervals import CONFIDENCE
from mlxdistill.statistics.multiple import holm
from mlxdistill.statistics.resampling import cluster_places
from mlxdistill.statistics.written import decimal
from mlxdistill.tasks.rows import canonical_json, content_hash

SCHEMA = 1
SECTIONS = ("student", "train")
FEWEST_SEEDS = 2
SYSTEM = "student"
NO_DIFFERENCE = "within the noise"


@dataclass(frozen=True, slots=True)
class Factor:
    """A key, and the values it is given one after the other."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What differs from the base (None: nothing), and what came of each seed."""

    key: str | None
    value: Any
    scored: tuple[Scored, ...]


def read_factor(text: str) -> Factor:
    """Reads `train.epochs=1,2,4`; commas in brackets belong to a value. Raises UsageError."""
    key, equals, values = text.partition("=")
    parts = tuple(part.strip() for part in _split(values))
    if not equals or not key.strip() or not all(parts):
        raise UsageError(f"{text!r} is no KEY=VALUE,VALUE,...", where="--vary", hint="for example train.epochs=1,2,4")
    return Factor(key.strip(), parts)


def _split(text: str) -> Iterator[str]:
    depth, begun = 0, 0
    for place, character in enumerate(text):
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            yield text[begun:place]
            begun = place + 1
    yield text[begun:]


def sweep(
    loaded: LoadedConfig,
    settings: Sequence[str],
    run: RunDir,
    factors: Sequence[Factor],
    seeds: int,
    reporter: Reporter,
) -> dict[str, Any]:
    """Trains what is missing and writes `evaluation/sweep.json`, whose content is returned.

    Args:
        settings: what `--set` says of the base.
        seeds: how often each setting is trained; `train.seed` and those after it.

    Raises UsageError for a factor that cannot be varied, ConfigError for a value that cannot be, and what the stages
    raise. A stop loses nothing that was trained: the same call goes on.
    """
    if seeds < FEWEST_SEEDS:
        raise UsageError(
            "one seed says nothing about the noise of training", where="--seeds", hint=f"give {FEWEST_SEEDS} at least"
        )
    changes = [(factor.key, f"{factor.key}={value}") for factor in factors for value in factor.values]
    values = [_value(loaded, settings, key, change) for key, change in changes]
    base_values = flat(loaded.config.model_dump(mode="json"))
    others = [
        (*change, value) for change, value in zip(changes, values, strict=True) if value != base_values[change[0]]
    ]
    if not others:
        raise UsageError("every value is the one of the base", where="--vary", hint="give other values")
    prepare(loaded, run, reporter)
    with locked(run):
        base = Setting(None, None, _train(loaded, settings, run, None, seeds, reporter))
        tried = [
            Setting(key, value, _train(loaded, settings, run, change, seeds, reporter)) for key, change, value in others
        ]
        outcome = _outcome(base, tried, base_values, seeds)
        write_json(run.sweep, outcome)
    return outcome


def _value(loaded: LoadedConfig, settings: Sequence[str], key: str, change: str) -> Any:
    """The value as configured, once nothing else is found to change with it."""
    section = key.partition(".")[0]
    if section not in SECTIONS:
        raise UsageError(
            f"{key} cannot be varied: a sweep changes how the student learns ({' or '.join(SECTIONS)})",
            where="--vary",
            hint="for other keys make another run, and `mlxdistill runs compare` the two",
        )
    if key in ("train.seed", "train.share"):
        hint = "--seeds says how many seeds" if key == "train.seed" else "mlxdistill learning-curve does that"
        raise UsageError(f"{key} is not varied here", where="--vary", hint=hint)
    before = flat(loaded.config.model_dump(mode="json"))
    try:
        changed = load_config(loaded.path, (*settings, change)).config
    except ConfigError as error:  # the base has none, so they are of this change
        raise ConfigError(
            [replace(problem, where=problem.where.replace("--set", "--vary")) for problem in error.problems]
        ) from None
    after = flat(changed.model_dump(mode="json"))
    differing = sorted({name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} - {key})
    if differing:
        raise UsageError(
            f"with {change} {', '.join(differing)} differs too", where="--vary", hint="vary one key at a time"
        )
    if key not in after:
        raise UsageError(f"{key} is no single value", where="--vary", hint=f"vary one key below {key}")
    return after[key]


def _train(
    loaded: LoadedConfig, settings: Sequence[str], run: RunDir, change: str | None, seeds: int, reporter: Reporter
) -> tuple[Scored, ...]:
    name = "base" if change is None else content_hash(canonical_json(change))[:8]
    found = []
    for seed in range(loaded.config.train.seed, loaded.config.train.seed + seeds):
        title = f"{change or 'base'}, seed {seed}"
        changes = (*((change,) if change else ()), f"train.seed={seed}", "evaluate.baselines=[]")
        child = derive(loaded.path, settings, run, Derivation(f"sweep-{name}-{seed}", title, changes), reporter)
        found.append(scored(child, (SYSTEM,)))
        shares = found[-1].shares_right(SYSTEM).items()
        reporter.end(title, ", ".join(f"{decimal(100 * right)} % on {of}" for of, right in shares))
    return tuple(found)


def _outcome(base: Setting, tried: Sequence[Setting], base_values: Mapping[str, Any], seeds: int) -> dict[str, Any]:
    """The content of `evaluation/sweep.json`."""
    sets = list(base.scored[0].wrong[SYSTEM])
    effects = {name: [_effect(setting, base, name) for setting in tried] for name in sets}
    for entries in effects.values():
        for entry, p_value in zip(entries, holm([entry["p_value"] for entry in entries]), strict=True):
            entry["p_holm"] = p_value
            entry["verdict"] = _verdict(entry)
    return {
        "schema": SCHEMA,
        "metric": base.scored[0].metric,
        "seeds": seeds,
        "base": {"folders": [each.folder for each in base.scored], "sets": {name: _noise(base, name) for name in sets}},
        "settings": [
            {
                "key": setting.key,
                "value": setting.value,
                "base_value": base_values[str(setting.key)],
                "folders": [each.folder for each in setting.scored],
                "sets": {name: {**_noise(setting, name), **effects[name][place]} for name in sets},
            }
            for place, setting in enumerate(tried)
        ],
    }


def _noise(setting: Setting, name: str) -> dict[str, Any]:
    """The mean score, and how far it moves from seed to seed."""
    shares = [each.shares_right(SYSTEM)[name] for each in setting.scored]
    return {"value": float(np.mean(shares)), "seed_sd": float(np.std(shares, ddof=1)), "seeds": shares}


def _effect(setting: Setting, base: Setting, name: str) -> dict[str, Any]:
    rows = sorted(base.scored[0].wrong[SYSTEM][name])
    wrong = [
        np.array([[each.wrong[SYSTEM][name][row_id] for row_id in rows] for each in of.scored], dtype=np.float64)
        for of in (setting, base)
    ]
    groups = base.scored[0].groups[name]
    interval, p_value = crossed_difference(wrong[1] - wrong[0], cluster_places([(row, groups[row]) for row in rows]))
    shown = interval.to_json()
    return {"n": len(rows), "difference": shown.pop("value"), **shown, "p_value": p_value}


def _verdict(entry: Mapping[str, Any]) -> str:
    if entry["ci"] is None or entry["p_holm"] >= 1 - CONFIDENCE:
        return NO_DIFFERENCE
    return "better" if entry["difference"] > 0 else "worse"
