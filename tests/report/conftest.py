"""A run's results as plain data, made up but of the design's schema."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from mlxdistill.report.data import FunnelStep, Mistake, ModelFile, ReportData, TrainPoint

SYSTEMS = {"teacher": 0.92, "student": 0.9, "student_base": 0.62, "majority": 0.5, "tfidf_logreg": 0.83}
SPEEDS = {"teacher": 3.1, "student": 41.7, "student_base": 42.0, "tfidf_logreg": 12800.0}
PEAKS = {"teacher": 9_400_000_000, "student": 1_800_000_000}
RETAINED = {
    "metric": "accuracy",
    "value": 0.98,
    "ci": [0.95, 1.01],
    "above_chance": 0.96,
    "above_chance_ci": [0.9, 1.02],
}
COMPARISON = {
    "a": "student",
    "b": "teacher",
    "set": "test_balanced",
    "metric": "accuracy",
    "n": 400,
    "difference": -0.012,
    "ci": [-0.03, 0.006],
    "test": "mcnemar",
    "p_value": 0.31,
    "verdict": "no significant difference",
}
STAGE = {"started": "2026-11-22T15:49:05+00:00", "finished": "2026-11-22T15:53:05+00:00", "inputs": {"seed": 7}}

TRAINED = {"rows_in": 8120, "rows_out": 8120, "peak_memory_bytes": 3_400_000_000}
CONFIG = {
    "teacher": {"name": None, "model": "/Users/someone/models/Qwen3-14B-Q4_K_M.gguf", "log": None, "threads": None},
    "filter": {"min_confidence": 0.8, "min_characters": 1, "max_characters": None, "exact_duplicates": True},
    "student": {
        "model": "mlx-community/Qwen3-0.6B-4bit",
        "quantize": None,
        "lora": {"rank": 8, "scale": 20.0, "dropout": 0.0, "layers": 16, "keys": None},
    },
    "train": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-4, "seed": 7},
}


def share(value: float, half: float = 0.03) -> dict[str, Any]:
    bounds = [round(max(0.0, value - half), 4), round(min(1.0, value + half), 4)]
    return {"value": value, "ci": bounds, "method": "wilson"}


def make_predictions(labels: Sequence[str], sizes: dict[str, int]) -> list[dict[str, Any]]:
    """Every system's answer to every row; test_indist is mostly of the first label."""
    draw = random.Random(0)
    records = []
    for test_set, size in sizes.items():
        for number in range(size):
            common = test_set == "test_indist" and number % 11 > 0
            gold = labels[0] if common else labels[number % len(labels)]
            for system, accuracy in SYSTEMS.items():
                answer = gold if draw.random() < accuracy else draw.choice(labels)
                if system == "teacher" and number % 97 == 96:
                    answer = None
                top = min(0.9999, draw.betavariate(8, 1.4) * (1 - 1 / len(labels)) + 1 / len(labels))
                rest = (1 - top) / (len(labels) - 1)
                scored = answer is not None and system != "majority"
                records.append(
                    {
                        "id": f"{test_set}-{number:05d}",
                        "set": test_set,
                        "system": system,
                        "prediction": answer,
                        "probabilities": [top if label == answer else rest for label in labels] if scored else None,
                        "gold": gold,
                        "correct": answer == gold,
                    }
                )
    return records


def make_scores(records: Sequence[dict[str, Any]], labels: Sequence[str]) -> dict[str, Any]:
    accuracy = round(sum(record["correct"] for record in records) / len(records), 4)
    index = {label: position for position, label in enumerate(labels)}
    confusion = [[0] * (len(labels) + 1) for _ in labels]
    for record in records:
        answer = record["prediction"]
        confusion[index[record["gold"]]][len(labels) if answer is None else index[answer]] += 1
    scored = any(record["probabilities"] for record in records)
    return {
        "answered": len(records),
        "unparsable": sum(row[-1] for row in confusion),
        "accuracy": share(accuracy),
        "balanced_accuracy": share(accuracy - 0.01),
        "macro_f1": share(accuracy - 0.02),
        "auroc": share(0.95) if scored else None,
        "ece": {"value": 0.041, "ci": None, "method": "15 equal-width bins"} if scored else None,
        "per_class": {
            label: {"precision": share(0.9), "recall": 0.88, "f1": None, "support": sum(confusion[index[label]])}
            for label in labels
        },
        "confusion": confusion,
    }


def make_metrics(records: Sequence[dict[str, Any]], labels: Sequence[str], sizes: dict[str, int]) -> dict[str, Any]:
    own: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        own.setdefault((record["system"], record["set"]), []).append(record)
    systems = {
        system: {
            "sets": {test_set: make_scores(own[system, test_set], labels) for test_set in sizes},
            "rows_per_second": SPEEDS.get(system),
            "peak_memory_bytes": PEAKS.get(system),
        }
        for system in SYSTEMS
    }
    counts = {
        test_set: dict(zip(labels, map(sum, systems["teacher"]["sets"][test_set]["confusion"]), strict=True))
        for test_set in sizes
    }
    won = {"b": "tfidf_logreg", "difference": 0.07, "ci": [0.03, 0.11], "p_value": 2e-4, "verdict": "student is better"}
    nulls = dict.fromkeys(("difference", "ci", "test", "p_value", "verdict"))
    missing = {**nulls, "set": "test_indist", "n": 0, "reason": "student and teacher have no scored row in common"}
    return {
        "schema": 1,
        "task": "classification",
        "labels": list(labels),
        "reference": "gold",
        "sets": {test_set: {"n": size, "class_counts": counts[test_set]} for test_set, size in sizes.items()},
        "systems": systems,
        "comparisons": [COMPARISON, COMPARISON | won, COMPARISON | missing],
        "retention": {
            "test_balanced": RETAINED,
            "test_indist": {
                **RETAINED,
                "above_chance": None,
                "above_chance_ci": None,
                "reason": "the teacher is not above chance",
            },
        },
        "replacement": {
            "verdict": "undecided",
            "set": "test_balanced",
            "metric": "accuracy",
            "difference": -0.012,
            "margin": 0.02,
            "ci": [-0.03, 0.006],
            "rows_needed": 900,
        },
    }


def make_training(steps: int) -> tuple[TrainPoint, ...]:
    """Validation every 50 steps is best at step 200, then rises."""
    return tuple(
        TrainPoint(
            step,
            loss=0.15 + 0.9 * 0.985**step + 0.02 * ((step * 7) % 5 - 2),
            valid_loss=0.2 + 0.8 * 0.98**step + step * 4e-4 if step % 50 == 0 else None,
        )
        for step in range(1, steps + 1)
    )


def make_funnel(labels: Sequence[str]) -> tuple[FunnelStep, ...]:
    """The last class has a tenth of the rows, and loses most."""
    rest, rare = labels[:-1], labels[-1]

    def classes(others: tuple[int, int], few: tuple[int, int]) -> dict[str, tuple[int, int]]:
        return {**{label: (others[0] // len(rest), others[1] // len(rest)) for label in rest}, rare: few}

    return (
        FunnelStep("answered", 9990, 10, {"the answer names no label": 10}, {"the answer names no label": ["row-7"]}),
        FunnelStep(
            "exact_duplicates",
            9600,
            390,
            {"the same text as another row": 390},
            {"the same text as another row": ["row-17", "row-90"]},
            classes((8960, 30), (640, 360)),
        ),
        FunnelStep(
            "noise", 9580, 20, {"likely wrong": 20}, {}, classes((8960, 0), (620, 20)), {"weighed": 31, "flipped": 4}
        ),
        FunnelStep(
            "min_confidence",
            8120,
            1460,
            {"confidence under 0.8": 1460},
            {"confidence under 0.8": ["row-3"]},
            classes((8100, 860), (20, 600)),
        ),
    )


def make_report(labels: Sequence[str] = ("ok", "toxic"), indist: int = 220, balanced: int = 400) -> ReportData:
    sizes = {"test_indist": indist, "test_balanced": balanced}
    records = make_predictions(labels, sizes)
    wrong = [record for record in records if record["system"] == "student" and not record["correct"]]
    return ReportData(
        name="toxic-comments",
        metrics=make_metrics(records, labels, sizes),
        verdict_sentence=(
            "Undecided whether the student may replace the teacher: on test_balanced its accuracy differs by -1.2 "
            "points (95 % interval -3.0 to +0.6), and the margin is 2 points; about 900 rows would decide."
        ),
        predictions=tuple(records),
        manifest={
            "schema": 1,
            "stages": {
                "ingest": {**STAGE, "seconds": 1.2, "figures": {"rows_in": 12000, "rows_out": 11020}},
                "label": {
                    **STAGE,
                    "seconds": 3901.0,
                    "threads": 6,
                    "figures": {
                        "rows_in": 10000,
                        "rows_out": 9990,
                        "notes": ["3 rows were cut to fit the context"],
                    },
                },
                "train": {**STAGE, "seconds": 241.3, "threads": 8, "figures": TRAINED},
            },
        },
        funnel=make_funnel(labels),
        filter_notes=("filter.min_confidence takes 600 of the 1,000 rows labelled toxic",),
        training=make_training(400),
        mistakes=tuple(
            Mistake(record["id"], record["set"], record["gold"], record["prediction"], "ok", 0.83)
            for record in wrong[:40]
        ),
        versions={"mlxdistill": "0.1.0", "mlx": "0.32.0", "mlx-lm": "0.32.2", "llama-cpp-python": "0.3.36"},
        config=CONFIG,
        teacher_files={"teacher": ModelFile("Qwen3-14B-Q4_K_M.gguf", 9_001_752_960)},
    )


@pytest.fixture(scope="session")
def report() -> ReportData:
    """A finished run with two labels and gold."""
    return make_report()


@pytest.fixture(scope="session")
def report_with() -> Callable[..., ReportData]:
    """Builds a run with other labels and sizes: `report_with(labels, indist, balanced)`."""
    return make_report


@pytest.fixture(scope="session")
def report_without_gold(report: ReportData) -> ReportData:
    """The same run, judged against the teacher."""
    systems = {}
    for system, facts in report.metrics["systems"].items():
        sets = {test_set: {"answered": scores["answered"]} for test_set, scores in facts["sets"].items()}
        if system != "teacher":
            for test_set, scores in facts["sets"].items():
                sets[test_set]["agreement"] = scores["accuracy"]
        systems[system] = {**facts, "sets": sets}
    changed = {"reference": "teacher", "systems": systems, "comparisons": [], "retention": {}, "replacement": None}
    return replace(
        report,
        metrics={**report.metrics, **changed},
        verdict_sentence="Undecided whether the student may replace the teacher: the test rows have no gold.",
        predictions=tuple({**record, "gold": None, "correct": None} for record in report.predictions),
        mistakes=tuple(replace(mistake, gold=None) for mistake in report.mistakes),
    )
