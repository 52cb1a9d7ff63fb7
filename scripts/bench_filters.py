"""Which errors of a teacher do the filters find without gold, and do students learn more after them?

    python scripts/bench_filters.py --data ../shared/data --cache DIR [--only tfidf | student] [--seeds 5] [--out FILE]
    python scripts/bench_filters.py --run RUN --cache DIR …     # a labelled run folder whose rows have gold

Jigsaw: 5,000 comments as GPT-4 answered them, 6.1 % wrongly (240 false alarms, 65 misses). Filters and students see its
answers alone; gold says afterwards how many of the named rows were errors (precision, recall; chance is the share of
errors among all rows), and what the students are worth. Beside no filter stand `oracle`, which drops every true error,
and `gold`, which corrects them: no filter can be expected to do better.

A seed stands for the fifth of the rows that is held out for validation (each row once over five seeds), the folds of
the filter and the student's own draws. Differences to no filter are paired, row by row and seed by seed; intervals of
95 % and p values come from a bootstrap that draws rows within each class, and seeds, one fewer than there are; p values
are corrected for the number of arms (Holm).

The default is chosen on the validation rows alone: an arm qualifies that gains on the mean of the two views of them (as
they are, and with both classes counting the same) beyond chance (corrected p < 0.05), and loses on neither beyond
chance. The test sets only report. AUROC says how well a student tells the classes apart wherever the line between them
is drawn: labels of a rare class that go move that line, whether they were wrong or not.

In `tfidf` both classes count the same, as in the students' training (`train.class_balance`): without that it answers
`ok` to nearly everything. `student` trains the product's student with MLX for every arm and seed, minutes each: --arms
chooses some of them, --max-tokens cuts all texts alike. The signal `dynamics` trains a first student of three epochs a
seed. What is in --cache is not computed again; several can fill one cache, each with other --arms.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filter_arms import ACTIONS, SIGNALS, Arm, Opinions, arms, decide, detection, teach
from filter_students import Answers, MlxStudent, TfidfStudent, states_of
from filter_studies import Fold, Study, jigsaw, run_folder

from mlxdistill.platform.blas import load_blas
from mlxdistill.statistics.intervals import percentile_ends, percentile_levels
from mlxdistill.statistics.multiple import holm
from mlxdistill.statistics.resampling import Floats, Integers, generator

RESAMPLES = 4000
STUDENTS = ("tfidf", "student")
VIEWS = ("as it is", "balanced")
AUROC = "AUROC"
STUDENT_ARMS = ("none", "oracle", "gold", *(f"tfidf 5% {action}" for action in ACTIONS))


@dataclass(frozen=True)
class Scored:
    """Of one arm's students on one set, per seed.

    Attributes:
        right: [rows], 1 where the answer is gold's.
        wins: [rows of the second label, rows of the first], 1 where the former's share of the second label is larger,
            0.5 where it is the same: their mean is the area under the ROC curve. Empty where there are more labels.
    """

    right: list[Floats]
    wins: list[Floats]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder that holds jigsaw/")
    parser.add_argument("--run", type=Path, help="a labelled run folder, in the place of Jigsaw")
    parser.add_argument("--cache", type=Path, required=True, help="what is there is gone on with")
    parser.add_argument("--only", choices=STUDENTS)
    parser.add_argument("--seeds", type=int, default=5, choices=range(1, 6))
    parser.add_argument("--rows", type=int, help="so many of the rows, to try it")
    parser.add_argument(
        "--signals",
        nargs="+",
        choices=SIGNALS,
        default=["tfidf", "tfidf joint", "student"],
        help="dynamics trains more",
    )
    parser.add_argument(
        "--arms",
        nargs="+",
        help=f"of the students trained with MLX; default: {', '.join(STUDENT_ARMS)}".replace("%", "%%"),
    )
    parser.add_argument("--max-tokens", type=int, help="of a text, for the students trained with MLX")
    parser.add_argument("--soft-weight", type=float, default=0.5, help="for the students trained with MLX")
    parser.add_argument("--out", type=Path, help="a JSON file for all figures")
    arguments = parser.parse_args()
    load_blas()
    study = (
        jigsaw(arguments.data.resolve(), arguments.rows)
        if arguments.run is None
        else run_folder(arguments.run, arguments.rows)
    )
    arguments.cache.mkdir(parents=True, exist_ok=True)
    result = measured(study, arguments)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print_result(result)


def measured(study: Study, arguments: argparse.Namespace) -> dict[str, Any]:
    states: dict[str, Any] = {}
    if any(SIGNALS[signal][0] == "student" for signal in arguments.signals):
        states = states_of(study, arguments.cache)

    def record(fold: Fold, path: Path) -> None:
        _mlx_student(study, fold, arguments).record(path)

    given = Opinions(arguments.cache, study.labels, lambda texts: np.array([states[text] for text in texts]), record)
    folds = [study.fold(seed) for seed in range(arguments.seeds)]
    wanted = list(arms(arguments.signals))
    result: dict[str, Any] = {
        "study": study.name,
        "rows": len(study.candidates),
        "seeds": len(folds),
        "found": {arm.name: _found(study, folds, arm, given) for arm in wanted if arm.share},
        "students": {},
    }
    for student in STUDENTS:
        if arguments.only in (None, student):
            chosen = wanted
            if student == "student":
                chosen = [arm for arm in wanted if arm.name in (arguments.arms or STUDENT_ARMS)]
            result["students"][student] = _compared(study, folds, chosen, given, student, arguments)
    return result


def _found(study: Study, folds: Sequence[Fold], arm: Arm, given: Opinions) -> dict[str, Any]:
    """Means over the seeds."""
    parts = [detection(fold, decide(fold, arm, study.labels, given), study.labels) for fold in folds]
    by_label = [part.pop("named by label") for part in parts]
    means = {
        name: float(np.mean([part[name] for part in parts if part[name] is not None] or [np.nan])) for name in parts[0]
    }
    return {
        **means,
        "named by label": {name: float(np.mean([part[name] for part in by_label])) for name in by_label[0]},
    }


def _compared(
    study: Study,
    folds: Sequence[Fold],
    wanted: Sequence[Arm],
    given: Opinions,
    student: str,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    answers: dict[str, list[Answers]] = {arm.name: [] for arm in wanted}
    for fold in folds:
        taught = None
        for arm in wanted:
            path = arguments.cache / f"{student}-{arm.name.replace(' ', '-')}-{fold.seed}.npz"
            if not path.exists():
                taught = taught or _student(study, fold, student, arguments)
                print(f"{student}, seed {fold.seed}: {arm.name}", file=sys.stderr, flush=True)
                found = taught(teach(fold, decide(fold, arm, study.labels, given), study.labels), path.stem)
                np.savez(path.with_suffix(".tmp.npz"), **found)
                path.with_suffix(".tmp.npz").rename(path)
            answers[arm.name].append(dict(np.load(path)))
    golds = {
        "validation": [fold.validation.gold for fold in folds],
        **{name: [rows.gold] * len(folds) for name, rows in study.tests.items()},
    }
    scored = {
        name: {of: _scored([found[of] for found in by_seed], gold) for of, gold in golds.items()}
        for name, by_seed in answers.items()
    }
    compared = {of: Measure(gold, shared=of != "validation") for of, gold in golds.items()}
    return {
        **_table(scored, compared),
        "chosen": _chosen({name: sets["validation"] for name, sets in scored.items()}, compared["validation"]),
    }


def _student(study: Study, fold: Fold, student: str, arguments: argparse.Namespace) -> Any:
    if student == "tfidf":
        return TfidfStudent(study, fold)
    return _mlx_student(study, fold, arguments)


def _mlx_student(study: Study, fold: Fold, arguments: argparse.Namespace) -> MlxStudent:
    settings: dict[str, Any] = {"train": {"soft_weight": arguments.soft_weight}}
    if arguments.max_tokens:
        settings["student"] = {"max_tokens": arguments.max_tokens}
    return MlxStudent(study, fold, arguments.cache / "training", settings)


def _scored(shares: Sequence[Floats], golds: Sequence[Integers]) -> Scored:
    right = [(found.argmax(axis=1) == gold).astype(np.float64) for found, gold in zip(shares, golds, strict=True)]
    wins = [_wins(found[:, 1], gold) for found, gold in zip(shares, golds, strict=True) if found.shape[1] == 2]
    return Scored(right, wins)


def _wins(share: Floats, gold: Integers) -> Floats:
    second, first = share[gold == 1][:, None], share[gold == 0][None]
    return ((second > first) + 0.5 * (second == first)).astype(np.float32)  # type: ignore[no-any-return]


class Measure:
    """Means and differences on one set, with every arm's resamples drawn alike.

    Args:
        golds: of each seed's rows; `shared`: all seeds are measured on the same ones.
    """

    def __init__(self, golds: Sequence[Integers], *, shared: bool) -> None:
        random = generator(0)
        self.golds = golds
        first = _draws(golds[0], random)
        self._drawn = [first if shared or not seed else _draws(gold, random) for seed, gold in enumerate(golds)]
        seeds = len(golds)
        self._taken = random.multinomial(max(1, seeds - 1), np.full(seeds, 1 / seeds), size=RESAMPLES)

    def mean(self, score: Scored, view: str) -> float:
        if view == AUROC:
            return float(np.mean([wins.mean() for wins in score.wins]))
        values = zip(score.right, self.golds, strict=True)
        return float(np.mean([right @ _weights(gold, view) for right, gold in values]))

    def difference(self, arm: Scored, none: Scored, views: Sequence[str]) -> dict[str, Any]:
        """In the mean of the views, or in the area under the ROC curve: its value, interval and p value."""
        by_seed = np.empty((len(self.golds), RESAMPLES))
        values = []
        for seed, gold in enumerate(self.golds):
            if views == (AUROC,):
                lost = arm.wins[seed] - none.wins[seed]
                drawn = self._drawn[seed]
                by_seed[seed] = ((drawn[:, gold == 1] @ lost) * drawn[:, gold == 0]).sum(axis=1) / lost.size
                values.append(float(lost.mean()))
                continue
            weights = np.mean([_weights(gold, view) for view in views], axis=0)
            parts = (arm.right[seed] - none.right[seed]) * weights
            by_seed[seed] = self._drawn[seed] @ parts
            values.append(float(parts.sum()))
        means = (self._taken.T * by_seed).sum(axis=0) / self._taken.sum(axis=1)
        below = (np.count_nonzero(means <= 0) + 1) / (RESAMPLES + 1)
        above = (np.count_nonzero(means >= 0) + 1) / (RESAMPLES + 1)
        return {
            "difference": float(np.mean(values)),
            "ci": list(percentile_ends(means, percentile_levels()) or ()),
            "p": min(1.0, 2 * min(below, above)),
        }


def _table(scored: Mapping[str, Mapping[str, Scored]], compared: Mapping[str, Measure]) -> dict[str, Any]:
    """Every arm on every set: accuracy, area under the ROC curve, and differences to no filter."""
    result: dict[str, Any] = {"value": {name: {} for name in scored}, "difference": {}}
    others = [name for name in scored if name != "none"]
    for of, view in [(name, view) for name in compared for view in _views(name, scored["none"][name])]:
        key = of if view == VIEWS[0] and of != "validation" else f"{of}, {view}"
        for name, sets in scored.items():
            result["value"][name][key] = compared[of].mean(sets[of], view)
        drawn = [compared[of].difference(scored[name][of], scored["none"][of], (view,)) for name in others]
        corrected = holm([each["p"] for each in drawn])
        result["difference"][key] = {
            name: {**each, "corrected p": p} for name, each, p in zip(others, drawn, corrected, strict=True)
        }
    return result


def _views(of: str, score: Scored) -> tuple[str, ...]:
    """The test sets are one as it is and one balanced by themselves."""
    return (*(VIEWS if of == "validation" else VIEWS[:1]), *([AUROC] if score.wins else []))


def _chosen(scored: Mapping[str, Scored], validation: Measure) -> dict[str, Any]:
    """By the rule at the top of this file; arms that know gold are no candidates."""
    others = [name for name in scored if name not in ("none", "oracle", "gold")]
    none = scored["none"]
    gains = {name: validation.difference(scored[name], none, VIEWS) for name in others}
    corrected = dict(zip(others, holm([gain["p"] for gain in gains.values()]), strict=True))
    losing = {
        name: any(validation.difference(scored[name], none, (view,))["ci"][1] < 0 for view in VIEWS) for name in others
    }
    order = sorted(others, key=lambda name: -gains[name]["difference"])
    qualified = [
        name for name in order if gains[name]["difference"] > 0 and corrected[name] < 0.05 and not losing[name]
    ]
    return {
        "arm": qualified[0] if qualified else None,
        "best": [{"arm": name, **gains[name], "corrected p": corrected[name], "loses": losing[name]} for name in order],
    }


def _weights(gold: Integers, view: str) -> Floats:
    """Of each row in a mean over rows, or over classes."""
    counts = np.bincount(gold)
    weights = 1 / counts[gold] if view == "balanced" else np.ones(len(gold))
    return np.asarray(weights / weights.sum())


def _draws(gold: Integers, random: np.random.Generator) -> Floats:
    """How often each row is drawn, each class as often as it is there: [RESAMPLES, rows]."""
    drawn = np.zeros((RESAMPLES, len(gold)), np.float32)
    for label in np.unique(gold):
        places = np.flatnonzero(gold == label)
        drawn[:, places] = random.multinomial(len(places), np.full(len(places), 1 / len(places)), size=RESAMPLES)
    return drawn  # type: ignore[return-value]


def print_result(result: Mapping[str, Any]) -> None:
    """Tables in Markdown."""
    print(f"\n{result['study']}: {result['rows']:,} rows, {result['seeds']} seeds")
    print("\n| filter | named | precision | recall | chance |\n|---|---|---|---|---|")
    shown = [name for name in result["found"] if name.endswith((" drop", "drop_per_class"))]
    for name in shown:
        found = result["found"][name]
        by_label = ", ".join(f"{count:.0f} {label}" for label, count in found["named by label"].items())
        print(
            f"| {name} | {found['named']:.0f} ({by_label}) | {found['precision']:.2f} | {found['recall']:.2f}"
            f" | {found['chance']:.3f} |"
        )
    for student, table in result["students"].items():
        print_student(student, table)


def print_student(student: str, table: Mapping[str, Any]) -> None:
    keys = list(table["difference"])
    print(f"\n{student}: accuracy (and AUROC) in %, difference to no filter [95 % interval]; * corrected p < 0.05")
    print(f"\n| filter | {' | '.join(keys)} |")
    print("|---" * (len(keys) + 1) + "|")
    for name, values in table["value"].items():
        cells = []
        for key in keys:
            cell = f"{100 * values[key]:.1f}"
            if name != "none":
                difference = table["difference"][key][name]
                low, high = difference["ci"]
                star = "*" if difference["corrected p"] < 0.05 else ""
                cell += f" {100 * difference['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]{star}"
            cells.append(cell)
        print(f"| {name} | {' | '.join(cells)} |")
    chosen = table["chosen"]
    print(f"\nchosen on validation rows: {chosen['arm'] or 'none: no arm qualifies'}")
    for best in chosen["best"][:3]:
        low, high = best["ci"]
        print(
            f"- {best['arm']}: {100 * best['difference']:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}] in the mean of"
            f" both views, corrected p {best['corrected p']:.3f}{', loses on one' if best['loses'] else ''}"
        )


if __name__ == "__main__":
    main()
