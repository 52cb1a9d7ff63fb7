"""Does `label --budget` choose better rows than chance does?

    python scripts/bench_budget.py --data ../shared/data [--out budget.json] [--choose]

Three pools whose teacher is known: Jigsaw comments with GPT-4's logged answers (a tenth toxic), banking77 with its gold
as the teacher, and clinc150 with its gold, thinned so that classes are as unequal as traffic makes them. For each
budget (250, 500, 1,000) and seed: the rows chosen, how many of them are of the rare classes (the rarest quarter), and
the accuracy of TF-IDF and logistic regression taught by them, minus that of rows drawn by chance with the same seed;
the interval is Student's over the seeds.

`--choose` tries other ways of choosing on validation rows held out of the pool: that is how the one built was chosen.
Without it that one is measured on the test rows: those of the data sets (balanced), and rows held out of the pool
(in distribution; Jigsaw has its own).
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import normalize

from mlxdistill.evaluation.baselines import tfidf_logreg
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.rows import normalised
from mlxdistill.teacher.budget import Chooser, draw_pilot, round_rows

BUDGETS = (250, 500, 1000)
SEEDS = range(5)
HELD_OUT = 1000
WAYS = ("as built", "one round", "uncertain", "half uncertain", "diverse")


@dataclass(frozen=True)
class Set:
    """Texts with the labels that count as right."""

    texts: list[str]
    labels: list[str]


@dataclass(frozen=True)
class Pool:
    """A pool with its teacher's labels, and the rows to measure on."""

    name: str
    pool: Set
    sets: dict[str, Set]


def jigsaw(folder: Path, *, test: bool) -> Pool:
    task = ClassificationTask("", (Label("ok", "", "ok"), Label("toxic", "", "toxic")))
    texts, labels, gold = [], [], []
    for line in (folder / "jigsaw" / "train.5k.gpt4_log.jsonl").read_text("utf-8").splitlines():
        record = json.loads(line)
        label = task.parse(
            record["response"]["choices"][0]["message"]["content"], key="is_bad", values={"0": "ok", "1": "toxic"}
        )
        if label is not None:
            texts.append(record["text"])
            labels.append(label)
            gold.append("toxic" if record["gold"] else "ok")
    if not test:
        return held_out("jigsaw", texts, labels, gold)
    sets = {}
    for name, files in {
        "balanced": ("test.pool_a", "test.pool_b"),
        "in distribution": ("test.indist.1", "test.indist.2"),
    }.items():
        records = [
            json.loads(line)
            for file in files
            for line in (folder / "jigsaw" / f"{file}.jsonl").read_text("utf-8").splitlines()
        ]
        sets[name] = Set([record["text"] for record in records], ["toxic" if r["is_bad"] else "ok" for r in records])
    return Pool("jigsaw", *without_held_out(texts, labels, gold, sets, keep=()))


def banking77(folder: Path, *, test: bool) -> Pool:
    parts = {}
    for name in ("train", "test"):
        with (folder / "banking77" / f"{name}.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        parts[name] = Set([row["text"] for row in rows], [row["category"] for row in rows])
    return of_gold("banking77", parts["train"], parts["test"], test=test)


def clinc150(folder: Path, *, test: bool) -> Pool:
    data = json.loads((folder / "clinc150" / "data_full.json").read_text("utf-8"))
    train = [tuple(pair) for pair in data["train"] + data["val"]]
    names = sorted({label for _, label in train})
    order = np.random.default_rng(0).permutation(len(names))
    seen: Counter[str] = Counter()
    kept = []
    for text, label in train:
        seen[label] += 1
        if seen[label] <= max(8, round(120 * 0.97 ** order[names.index(label)])):
            kept.append((text, label))
    train_set = Set([text for text, _ in kept], [label for _, label in kept])
    test_set = Set([text for text, _ in data["test"]], [label for _, label in data["test"]])
    return of_gold("clinc150", train_set, test_set, test=test)


def of_gold(name: str, train: Set, balanced: Set, *, test: bool) -> Pool:
    if not test:
        return held_out(name, train.texts, train.labels, train.labels)
    return Pool(name, *without_held_out(train.texts, train.labels, train.labels, {"balanced": balanced}, keep=(1,)))


def held_out(name: str, texts: Sequence[str], labels: Sequence[str], gold: Sequence[str]) -> Pool:
    """Validation: the first rows held out, which no test figure reads."""
    return Pool(name, *without_held_out(texts, labels, gold, {}, keep=(0,)))


def without_held_out(
    texts: Sequence[str], labels: Sequence[str], gold: Sequence[str], sets: dict[str, Set], keep: tuple[int, ...]
) -> tuple[Set, dict[str, Set]]:
    """The pool without validation (part 0) and in-distribution test rows (part 1); those of `keep` become sets."""
    order = np.random.default_rng(1).permutation(len(texts))
    sets = dict(sets)
    for part in keep:
        places = order[part * HELD_OUT : (part + 1) * HELD_OUT]
        sets["in distribution"] = Set([texts[p] for p in places], [gold[p] for p in places])
    elsewhere = {normalised(text) for part in sets.values() for text in part.texts}
    rest = [p for p in order[2 * HELD_OUT :] if normalised(texts[p]) not in elsewhere]
    return Set([texts[p] for p in rest], [labels[p] for p in rest]), sets


class Uncertain(Chooser):
    """Rows whose two likeliest labels are closest."""

    def pick(self, likely: NDArray[np.float64], quotas: Sequence[int]) -> list[int]:
        ranked = np.sort(likely, axis=1)
        return np.argsort(ranked[:, -1] - ranked[:, -2], kind="stable")[: sum(quotas)].tolist()


class Mixed(Uncertain):
    """Half and half."""

    def pick(self, likely: NDArray[np.float64], quotas: Sequence[int]) -> list[int]:
        first = Chooser.pick(self, likely, [(quota + 1) // 2 for quota in quotas])
        rest = [row for row in super().pick(likely, [len(likely)]) if row not in set(first)]
        return first + rest[: sum(quotas) - len(first)]


class Diverse(Chooser):
    """Of four times as many likely rows, those far from each other (Gonzalez 1985)."""

    def __init__(self, texts: Sequence[str], seed: int) -> None:
        super().__init__(texts, seed)
        self.points = normalize(TruncatedSVD(64, random_state=seed).fit_transform(self._features))

    def next(self, labels: Mapping[int, str | None], count: int) -> list[int]:
        likely = super().next(labels, min(4 * count, len(self.points) - len(labels)))
        points, taken = self.points[likely], [0]
        distances = np.full(len(likely), np.inf)
        while len(taken) < count:
            distances = np.minimum(distances, 1 - points @ points[taken[-1]])
            distances[taken] = -1
            taken.append(int(distances.argmax()))
        return [likely[place] for place in taken]


def chosen(pool: Set, budget: int, seed: int, way: str) -> list[int]:
    if way == "chance":
        return np.random.default_rng([seed, 9]).permutation(len(pool.texts))[:budget].tolist()
    places = draw_pilot(len(pool.texts), budget, seed)
    chooser = {"uncertain": Uncertain, "half uncertain": Mixed, "diverse": Diverse}.get(way, Chooser)(pool.texts, seed)
    while len(places) < budget:
        count = budget - len(places) if way == "one round" else round_rows(len(places), budget)
        places += chooser.next({place: pool.labels[place] for place in places}, count)
    return places


def measured(data: Pool, places: Sequence[int]) -> dict[str, float]:
    labels = sorted(set(data.pool.labels) | {label for part in data.sets.values() for label in part.labels})
    taught = [data.pool.labels[place] for place in places]
    counts = Counter(data.pool.labels)
    rare = set(sorted(counts, key=lambda label: counts[label])[: max(1, len(counts) // 4)])
    model = tfidf_logreg([data.pool.texts[place] for place in places], taught, labels)
    figures = {"rare rows": float(sum(label in rare for label in taught)), "classes": float(len(set(taught)))}
    for name, part in data.sets.items():
        said = [labels[place] for place in model(part.texts).argmax(axis=1)]
        figures[f"accuracy, {name}"] = float(np.mean([a == b for a, b in zip(said, part.labels, strict=True)]))
        figures[f"balanced accuracy, {name}"] = float(balanced_accuracy_score(part.labels, said))
    return figures


def interval(differences: Sequence[float]) -> dict[str, Any]:
    values = np.array(differences)
    mean = float(values.mean())
    half = float(student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return {"value": mean, "ci": [mean - half, mean + half], "method": f"paired t over {len(values)} seeds"}


def compare(data: Pool, ways: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for budget in BUDGETS:
        chance = [measured(data, chosen(data.pool, budget, seed, "chance")) for seed in SEEDS]
        for name in ways:
            ours = [measured(data, chosen(data.pool, budget, seed, name)) for seed in SEEDS]
            for figure in ours[0]:
                before, after = [row[figure] for row in chance], [row[figure] for row in ours]
                gain = interval([b - a for a, b in zip(before, after, strict=True)])
                row = {"data": data.name, "budget": budget, "way": name, "figure": figure}
                rows.append(
                    {**row, "chance": float(np.mean(before)), "chosen": float(np.mean(after)), "difference": gain}
                )
                low, high = gain["ci"]
                print(
                    f"{data.name:10} {budget:5} {name:30} {figure:36} {np.mean(before):8.3f} {np.mean(after):8.3f}"
                    f" {gain['value']:+8.3f} [{low:+.3f}, {high:+.3f}]",
                    flush=True,
                )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with jigsaw/, banking77/, clinc150/")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--choose", action="store_true", help="compare ways on validation rows")
    parser.add_argument("--only", choices=("jigsaw", "banking77", "clinc150"), help="one data set alone")
    arguments = parser.parse_args()
    ways = WAYS if arguments.choose else WAYS[:1]
    rows = []
    for load in (jigsaw, banking77, clinc150):
        if arguments.only in (None, load.__name__):
            rows += compare(load(arguments.data, test=not arguments.choose), ways)
    if arguments.out:
        content = {"data": str(arguments.data), "on": "validation" if arguments.choose else "test", "rows": rows}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
