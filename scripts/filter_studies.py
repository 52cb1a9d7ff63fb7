"""Teachers whose errors are known, for the benchmark of filters.

They are GPT-4, as it answered Jigsaw comments, and the teacher of any run folder whose pool has gold. What is handed to
filters and students has no gold on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlxdistill.config.load import load_config
from mlxdistill.config.models import Config
from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.noise import together
from mlxdistill.filters.out_of_fold import FOLDS, folds
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.statistics.resampling import Integers
from mlxdistill.store import LabelReader
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, read_rows

JIGSAW = Path(__file__).parents[1] / "configs" / "jigsaw-logged.yaml"
SELECTION_ROWS = 200  # of validation: with the teacher's labels they choose a checkpoint; nothing is measured on them


@dataclass(frozen=True)
class GoldSet:
    """Rows to measure on, and the place of each one's gold in the labels."""

    rows: list[Row]
    gold: Integers


@dataclass(frozen=True)
class Fold:
    """One seed's rows: `learned` are filtered and taught, `selection` and `validation` are of another fifth."""

    seed: int
    learned: list[Candidate]
    gold: Integers
    selection: list[Candidate]
    validation: GoldSet


@dataclass(frozen=True)
class Study:
    """Rows with a teacher's answers, their gold apart, and the test sets."""

    name: str
    config: Config
    labels: tuple[str, ...]
    candidates: list[Candidate]
    gold: Integers
    tests: dict[str, GoldSet]

    def fold(self, seed: int) -> Fold:
        """Which fifth is validation depends on the seed, so that over five seeds every row is validated on once."""
        fold_of = folds(self.gold, together(self.candidates), 0)
        held = np.flatnonzero(fold_of == seed % FOLDS)
        learned = np.flatnonzero(fold_of != seed % FOLDS)
        drawn = np.random.default_rng(seed).permutation(held)
        count = min(SELECTION_ROWS, len(held) // 4)
        chosen, rest = np.sort(drawn[:count]), np.sort(drawn[count:])
        return Fold(
            seed,
            [self.candidates[place] for place in learned],
            self.gold[learned],
            [self.candidates[place] for place in chosen],
            GoldSet([self.candidates[place].row for place in rest], self.gold[rest]),
        )


def jigsaw(data: Path, rows: int | None) -> Study:
    """GPT-4's 5,000 logged answers. Test sets: both pools of 200 + 200, and both samples in the traffic's balance."""
    folder = data / "jigsaw"
    os.environ["JIGSAW_DIR"] = str(folder)
    config = load_config(JIGSAW, [], {**os.environ}).config
    names = tuple(config.task.labels)
    records = [json.loads(line) for line in (folder / "train.5k.gpt4_log.jsonl").open(encoding="utf-8")][:rows]
    candidates = []
    for record in records:
        written = record["response"]["choices"][0]["message"]["content"]
        toxic = json.loads(written.strip("`").removeprefix("json"))["is_bad"]
        candidates.append(Candidate(Row(record["id"], record["text"]), Answer(record["id"], names[int(toxic)])))
    gold = np.array([int(record["gold"]) for record in records], np.int64)
    tests = {
        name: _joined([folder / f"{part}.jsonl" for part in parts])
        for name, parts in {
            "test_balanced": ("test.pool_a", "test.pool_b"),
            "test_indist": ("test.indist.1", "test.indist.2"),
        }.items()
    }
    return Study("jigsaw", config, names, candidates, gold, tests)


def _joined(paths: Sequence[Path]) -> GoldSet:
    records = [json.loads(line) for path in paths for line in path.open(encoding="utf-8")]
    rows = [Row(f"{place}-{record['id']}", record["text"]) for place, record in enumerate(records)]
    return GoldSet(rows, np.array([int(record["is_bad"]) for record in records], np.int64))


def run_folder(folder: Path, rows: int | None) -> Study:
    """A labelled run whose pool and test sets have gold."""
    run = RunDir(folder.absolute())
    config = load_config(run.config, [], {}).config
    names = tuple(config.task.labels)
    number = Manifest(run).figures("label")["labeller"]
    with LabelReader(run.labels) as reader:
        labeller = next(each for each in reader.labellers() if each.number == number)
        answers = {answer.row_id: answer for answer in reader.answers(labeller)}
    known = [
        row for row in read_rows(run.pool) if row.gold is not None and row.id in answers and answers[row.id].label
    ][:rows]
    return Study(
        config.name,
        config,
        names,
        [Candidate(replace(row, gold=None), answers[row.id]) for row in known],
        _gold(known, names),
        {name: GoldSet(rows := read_rows(path), _gold(rows, names)) for name, path in run.test_sets.items()},
    )


def _gold(rows: Sequence[Row], names: Sequence[str]) -> Integers:
    return np.array([names.index(row.gold or "") for row in rows], np.int64)
