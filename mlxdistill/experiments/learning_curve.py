"""`mlxdistill learning-curve`: what more labels would bring, and whether to stop labelling.

The student is trained on parts of the labels that are there, with several seeds; each seed draws its own rows. A power
law through the errors says what twice the labels would bring. Its doubt comes from the test rows and the seeds, drawn
anew together: each resample of the rows is one of all students at once, because they were tested on the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mlxdistill.config.load import LoadedConfig
from mlxdistill.errors import UsageError
from mlxdistill.evaluation.verdict import REPLACEMENT_SET
from mlxdistill.experiments.derived import Derivation, Scored, derive, prepare, scored
from mlxdistill.pipeline import Reporter
from mlxdistill.rundir.files import write_json
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.lock import locked
from mlxdistill.statistics.intervals import percentile_ends, percentile_levels
from mlxdistill.statistics.power_law import fit_power_law
from mlxdistill.statistics.resampling import Floats, cluster_places, cluster_sums, generator, sums_by_cluster
from mlxdistill.statistics.written import decimal

SCHEMA = 1
SHARES = (5, 10, 25, 50, 75, 100)
SYSTEMS = ("student", "tfidf_logreg")
FEWEST_POINTS = 3  # numbers of rows, for a curve with three parameters
FEWEST_SEEDS = 2  # one says nothing about the noise of training
METHOD = "bootstrap of test rows and seeds"


class Trained(NamedTuple):
    """A student of a share of the labels, in percent."""

    share: int
    seed: int
    scored: Scored


def learning_curve(
    loaded: LoadedConfig, settings: Sequence[str], run: RunDir, shares: Sequence[int], seeds: int, reporter: Reporter
) -> dict[str, Any]:
    """Trains what is missing and writes `evaluation/learning_curve.json`, whose content is returned.

    Args:
        settings: what `--set` says.
        shares: percentages of the labels, above 0; 100 is always among them.
        seeds: how often each is trained; `train.seed` and those after it.

    Raises UsageError for shares that cannot be, and what the stages raise. A stop loses nothing that was trained: the
    same call goes on.
    """
    percentages = sorted({*shares, 100})
    if percentages[0] < 1 or percentages[-1] > 100:
        raise UsageError("shares are percentages from 1 to 100", where="--shares", hint="for example 10,25,50,100")
    prepare(loaded, run, reporter)
    first = loaded.config.train.seed
    with locked(run):
        trained = [
            _trained(loaded, settings, run, share, seed, reporter)
            for share in percentages
            for seed in range(first, first + seeds)
        ]
        outcome = _outcome(trained, loaded.config.evaluate.margin, loaded.config.evaluate.bootstrap)
        write_json(run.learning_curve, outcome)
    return outcome


def _trained(
    loaded: LoadedConfig, settings: Sequence[str], run: RunDir, share: int, seed: int, reporter: Reporter
) -> Trained:
    title = f"{share} %, seed {seed}"
    changes = (f"train.share={share / 100}", f"train.seed={seed}", "evaluate.baselines=[tfidf_logreg]")
    child = derive(loaded.path, settings, run, Derivation(f"curve-{share}-{seed}", title, changes), reporter)
    found = scored(child, SYSTEMS)
    scores = ", ".join(f"{decimal(100 * right)} % on {name}" for name, right in found.shares_right("student").items())
    reporter.end(title, f"{found.rows:,} rows: {scores}")
    return Trained(share, seed, found)


def _outcome(trained: Sequence[Trained], margin: float, resamples: int) -> dict[str, Any]:
    """The content of `evaluation/learning_curve.json`."""
    first = trained[0].scored
    sets = {name: _curve(trained, name, resamples) for name in first.wrong["student"]}
    decided_by = REPLACEMENT_SET if REPLACEMENT_SET in sets else next(iter(sets))
    seeds = len({each.seed for each in trained})
    majority = first.majority[decided_by]
    decision = _decision(sets[decided_by], majority, seeds, margin)
    return {
        "schema": SCHEMA,
        "metric": first.metric,
        "margin": margin,
        "runs": [
            {"share": each.share, "seed": each.seed, "rows": each.scored.rows, "folder": each.scored.folder}
            for each in trained
        ],
        "sets": sets,
        "advice": {"set": decided_by, "decision": decision},
        "sentence": _sentence(decided_by, sets[decided_by], majority, decision, margin),
    }


def _curve(trained: Sequence[Trained], name: str, resamples: int) -> dict[str, Any]:
    shares = sorted({each.share for each in trained})
    rows = [float(np.mean([each.scored.rows for each in trained if each.share == share])) for share in shares]
    drawn, seen = {}, {}
    for system in SYSTEMS:
        drawn[system], seen[system] = _errors(trained, shares, system, name, resamples)
    points = [
        {
            "share": share,
            "rows": round(rows[place]),
            **{system: _accuracy(seen[system][place], drawn[system][:, place]) for system in SYSTEMS},
        }
        for place, share in enumerate(shares)
    ]
    return {
        "n": len(trained[0].scored.wrong["student"][name]),
        "points": points,
        **_doubled(np.array(rows), seen["student"], drawn["student"]),
    }


def _errors(
    trained: Sequence[Trained], shares: Sequence[int], system: str, name: str, resamples: int
) -> tuple[Floats, Floats]:
    """The mean error at each share: (resamples, K) of the bootstrap, and (K,) as seen."""
    ids = sorted(trained[0].scored.wrong[system][name])
    wrong = np.array(
        [[each.scored.wrong[system][name][row_id] for row_id in ids] for each in trained], dtype=np.float64
    )
    clusters = cluster_places([(row_id, trained[0].scored.groups[name][row_id]) for row_id in ids])
    values = np.column_stack([wrong.T, np.ones(len(ids))])
    rng = generator(0)
    sums = cluster_sums(values if clusters is None else sums_by_cluster(values, clusters), resamples, rng)
    errors = sums[:, :-1] / sums[:, -1:]
    drawn, seen = np.empty((resamples, len(shares))), np.empty(len(shares))
    for place, share in enumerate(shares):
        of_share = [number for number, each in enumerate(trained) if each.share == share]
        chosen = rng.choice(of_share, size=(resamples, len(of_share)))
        drawn[:, place] = np.take_along_axis(errors, chosen, axis=1).mean(axis=1)
        seen[place] = wrong[of_share].mean()
    return drawn, seen


def _accuracy(error: float, drawn: Floats) -> dict[str, Any]:
    ends = percentile_ends(1 - drawn, percentile_levels())
    return {"value": 1 - float(error), "ci": list(ends) if ends else None, "method": METHOD}


def _doubled(rows: Floats, seen: Floats, drawn: Floats) -> dict[str, Any]:
    """What the power law says of twice the labels; None where there are too few points for one."""
    if len(set(rows)) < FEWEST_POINTS:
        return {"fit": None, "doubled": None}
    weights = 1 / (drawn.var(axis=0) + 1e-6)
    fit = fit_power_law(rows, seen[None], weights)
    many = fit_power_law(rows, drawn, weights)
    most = float(rows[-1])
    ends = percentile_ends(many.at(most) - many.at(2 * most), percentile_levels())
    gain = float((fit.at(most) - fit.at(2 * most))[0])
    return {
        "fit": {
            "floor": float(fit.floor[0]),
            "scale": float(fit.scale[0]),
            "exponent": float(fit.exponent[0]),
            "unit": fit.unit,
        },
        "doubled": {"rows": round(2 * most), "gain": {"value": gain, "ci": list(ends or ()), "method": METHOD}},
    }


def _decision(curve: Mapping[str, Any], majority: float, seeds: int, margin: float) -> str:
    """Whether to stop labelling; `unknown` where a curve through these points would say nothing."""
    if curve["doubled"] is None or not _has_learned(curve, majority):
        return "unknown"
    low, high = curve["doubled"]["gain"]["ci"]
    if seeds < FEWEST_SEEDS or low == high:
        return "undecided"
    return "stop" if high < margin else "go on" if low >= margin else "undecided"


def _has_learned(curve: Mapping[str, Any], majority: float) -> bool:
    low, _ = curve["points"][-1]["student"]["ci"] or (0.0, 0.0)
    return bool(low > majority)


def _sentence(name: str, curve: Mapping[str, Any], majority: float, decision: str, margin: float) -> str:
    """What twice the labels would bring, and whether to stop labelling."""
    if curve["doubled"] is None:
        return f"Fewer than {FEWEST_POINTS} numbers of rows say nothing about more labels."
    if not _has_learned(curve, majority):
        best = decimal(100 * curve["points"][-1]["student"]["value"])
        return (
            f"With all labels the student has {best} % of {name} right, and always giving the most frequent label has "
            f"{decimal(100 * majority)} %: it has not begun to learn, and its curve says nothing about more labels. "
            "Look at the settings of its training first."
        )
    gain, rows = curve["doubled"]["gain"], curve["doubled"]["rows"]
    low, high = gain["ci"]
    said = (
        f"Twice the labels ({rows:,} rows) would bring about {decimal(100 * gain['value'])} points on {name} "
        f"(95 % interval {decimal(100 * low)} to {decimal(100 * high)})"
    )
    advice = {
        "stop": f"stop labelling: that is less than the margin of {decimal(100 * margin)} points",
        "go on": f"go on labelling: that is more than the margin of {decimal(100 * margin)} points",
        "undecided": f"these runs do not tell whether it is more than the margin of {decimal(100 * margin)} points",
    }
    return f"{said}; {advice[decision]}."
