#!/usr/bin/env python3
"""What ingest costs at ten thousand, a hundred thousand and a million rows, and how many near duplicates it finds.

    python scripts/bench_data.py [--rows 10000 100000 1000000] [--recall-rows 20000] [--folder DIR] [--json]

The rows are generated: comments of about 400 characters from a vocabulary with the word frequencies of a language, a
tenth of them edits of an earlier one (words changed, a sentence moved, a name changed), some of them exact copies, some
of customers with several rows, and a thousand made from one template. Each size is ingested in a process of its own:
read, stripped of exact duplicates, compared for near duplicates, split, written. Printed are its seconds and most
memory (VmHWM), and its rows a second as a share of those of plain `json.loads` over the same file, before and after in
the same run, since machines differ. Then the recall of planted pairs with an exact Jaccard similarity of 0.8 or more,
how many pairs were joined without being one (each component is one pair here), and how many of the pairs that ingest
was given lie on two sides of its splits.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mlxdistill.config.data import DataConfig
from mlxdistill.data.ingest import ingest
from mlxdistill.platform.memory import peak_memory_bytes
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.rows import iter_rows, normalised
from mlxdistill.text.near_duplicates import duplicate_components
from mlxdistill.text.shingles import shingles

TASK = ClassificationTask("Decide.", (Label("ok", "", "ok"), Label("toxic", "", "toxic")))
THRESHOLD = 0.8
VOCABULARY = 20_000
NAMES = ("anna", "bartholomew", "chidi", "dorothea", "emre", "fatima", "giulia", "hamza")
TEMPLATE_ROWS = 1000
READ_ROUNDS = 2


class Quiet:
    def advance(self, done: int, total: int, **figures: float) -> None:
        pass

    def note(self, message: str) -> None:
        print(f"  {message}", file=sys.stderr)


class Writer:
    """Sentences, as random as its seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        letters = random.Random(0)
        self._words = [
            "".join(letters.choices("etaoinshrdlcumwfgypbvkjxqz", range(26, 0, -1), k=letters.randint(2, 9)))
            for _ in range(VOCABULARY)
        ]
        self._odds = list(np.cumsum(1 / np.arange(10, VOCABULARY + 10)))

    def words(self, count: int) -> list[str]:
        return self.chance.choices(self._words, cum_weights=self._odds, k=count)

    def sentences(self) -> list[str]:
        body = [" ".join(self.words(self.chance.randint(5, 20))) + "." for _ in range(self.chance.randint(3, 9))]
        return [f"dear {self.chance.choice(NAMES)},", *body]

    def edited(self, sentences: list[str]) -> list[str]:
        place = self.chance.randrange(1, len(sentences))
        kind = self.chance.randrange(3)
        if kind == 0:
            words = sentences[place].split()
            words[self.chance.randrange(len(words))] = self.words(1)[0]
            return [*sentences[:place], " ".join(words), *sentences[place + 1 :]]
        if kind == 1:
            rest = [*sentences[:place], *sentences[place + 1 :]]
            rest.insert(self.chance.randrange(1, len(rest) + 1), sentences[place])
            return rest
        return [f"dear {self.chance.choice(NAMES)},", *sentences[1:]]


def jaccard(first: str, second: str) -> float:
    ours, theirs = shingles(normalised(first)), shingles(normalised(second))
    return len(ours & theirs) / len(ours | theirs)


def generated(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rows; `of` is the id of the one that a row is an edit of."""
    writer = Writer(seed)
    recent: list[tuple[str, list[str]]] = []
    template = " ".join(writer.words(60))
    for number in range(count):
        row_id, of = f"row-{number}", None
        draw = writer.chance.random()
        if recent and draw < 0.1:
            of, original = writer.chance.choice(recent)
            sentences = writer.edited(original)
        elif recent and draw < 0.11:
            sentences = writer.chance.choice(recent)[1]
        elif number % max(1, count // TEMPLATE_ROWS) == 0:
            sentences = [f"ticket {number} of {writer.chance.choice(NAMES)}:", template, *writer.words(3)]
        else:
            sentences = writer.sentences()
            if len(recent) < 5000:
                recent.append((row_id, sentences))
            else:
                recent[writer.chance.randrange(5000)] = (row_id, sentences)
        group = f"customer-{writer.chance.randrange(count)}" if writer.chance.random() < 0.3 else None
        gold = "toxic" if writer.chance.random() < 0.1 else "ok"
        yield {"id": row_id, "text": " ".join(sentences), "gold": gold, "who": group, "of": of}


def plain_reading(path: Path) -> float:
    """Seconds to decode every line."""
    started = time.perf_counter()
    with path.open("rb") as file:
        for line in file:
            json.loads(line)
    return time.perf_counter() - started


def measure(path: Path, folder: Path, results: Any) -> None:
    """Ingests in this process, and tells what it took."""
    config = DataConfig(
        source=str(path),
        fields={"text": "text", "gold": "gold", "id": "id"},
        group="who",
        near_duplicates=THRESHOLD,
    )
    before = peak_memory_bytes()
    started, busy = time.perf_counter(), time.process_time()
    summary = ingest(config, TASK, RunDir(folder), Quiet())
    seconds = time.perf_counter() - started
    results.put(
        {
            "seconds": seconds,
            "processor_seconds": time.process_time() - busy,
            "peak_bytes": peak_memory_bytes(),
            "peak_bytes_before": before,
            "near_duplicates": summary.near_duplicates,
            "near_duplicate_sets": summary.near_duplicate_sets,
            "exact_duplicates": summary.duplicates,
            "left_out": summary.left_out,
            "sets": {name: size.n for name, size in summary.sets.items()},
        }
    )


def bench(rows: int, folder: Path) -> dict[str, Any]:
    path, run = folder / "rows.jsonl", folder / "run"
    edits: list[tuple[str, str]] = []
    with path.open("w", encoding="utf-8") as file:
        for row in generated(rows, seed=rows):
            of = row.pop("of")
            if of is not None:
                edits.append((row["id"], of))
            file.write(json.dumps(row) + "\n")
    reading = [plain_reading(path) for _ in range(READ_ROUNDS)]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=measure, args=(path, run, results))
    process.start()
    found = results.get()
    process.join()
    reading += [plain_reading(path) for _ in range(READ_ROUNDS)]
    plain = statistics.median(reading)
    side = {row.id: name for name in found["sets"] for row in iter_rows(run / "rows" / f"{name}.jsonl")}
    apart = [(a, b) for a, b in edits if a in side and b in side and side[a] != side[b]]
    texts = dict.fromkeys(name for pair in apart for name in pair)
    with path.open(encoding="utf-8") as file:
        for line in file if apart else ():
            row = json.loads(line)
            if row["id"] in texts:
                texts[row["id"]] = row["text"]
    return {
        "rows": rows,
        "file_bytes": path.stat().st_size,
        **found,
        "rows_per_second": rows / found["seconds"],
        "plain_json_rows_per_second": rows / plain,
        "share_of_plain_json": plain / found["seconds"],
        "edited_pairs": len(edits),
        "pairs_across_splits": sum(jaccard(texts[a], texts[b]) >= THRESHOLD for a, b in apart),
    }


def recall(rows: int) -> dict[str, Any]:
    """Of pairs planted among unrelated texts: a row of each is an edit of the other."""
    writer = Writer(1)
    texts: list[str] = []
    while len(texts) < rows:
        original = writer.sentences()
        texts += [" ".join(original), " ".join(writer.edited(original))]
    similarity = [jaccard(texts[place], texts[place + 1]) for place in range(0, rows, 2)]
    started = time.perf_counter()
    component = duplicate_components(map(normalised, texts), THRESHOLD)
    seconds = time.perf_counter() - started
    joined = component[0::2] == component[1::2]
    planted = np.array(similarity) >= THRESHOLD
    sizes = np.bincount(component)
    return {
        "rows": rows,
        "planted_pairs": int(planted.sum()),
        "recall": float(joined[planted].mean()),
        "joined_below_the_threshold": int(joined[~planted].sum()),
        "components_of_more_than_two": int((sizes > 2).sum()),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--recall-rows", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the system's for temporary files")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout instead of a table")
    arguments = parser.parse_args()
    found = recall(arguments.recall_rows)
    sizes = []
    for rows in arguments.rows:
        print(f"{rows:,} rows", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            sizes.append(bench(rows, Path(folder)))
    if arguments.json:
        print(json.dumps({"sizes": sizes, "recall": found}, indent=2))
        return
    print(f"{'rows':>10} {'seconds':>8} {'peak MB':>8} {'rows/s':>8} {'of plain JSON':>14} {'across splits':>14}")
    for size in sizes:
        print(
            f"{size['rows']:>10,} {size['seconds']:>8.1f} {size['peak_bytes'] / 2**20:>8,.0f} "
            f"{size['rows_per_second']:>8,.0f} {size['share_of_plain_json']:>14.3f} {size['pairs_across_splits']:>14,}"
        )
    print(
        f"of {found['planted_pairs']:,} planted pairs among {found['rows']:,} rows found: {found['recall']:.4f}; "
        f"joined below the threshold: {found['joined_below_the_threshold']:,}"
    )


if __name__ == "__main__":
    main()
