"""Which system did how well: its scores on both test sets, with the baselines beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlxdistill.report.blocks import Cell, Column, Figure, Notes, Section, Table
from mlxdistill.report.numbers import (
    MISSING,
    NO_BREAK_SPACE,
    Estimate,
    finite,
    rate,
    read_estimate,
    size,
    whole,
)
from mlxdistill.report.svg import Dot, interval_chart

NAMES = {
    "teacher": "Teacher",
    "student": "Student",
    "student_base": "Student before training",
    "student_few_shot": "Student before training, few-shot",
    "majority": "Majority class",
    "tfidf_logreg": "TF-IDF + logistic regression",
    "tfidf_logreg_gold": "TF-IDF + logistic regression on gold",
}
SCORES = {
    "accuracy": "Accuracy",
    "agreement": "Agreement",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro-F1",
    "auroc": "AUROC",
    "ece": "ECE",
}
SETS = {
    "test_indist": "the traffic’s own class balance",
    "test_balanced": "the same number of rows per class",
}
MOST_CLASSES_COUNTED = 6
WHY_MISSING = {
    "auroc": "needs class probabilities and rows of two labels",
    "ece": "needs class probabilities",
}
WHY_NO_INTERVAL = {"ece": "ECE has no interval: it is biased upwards by about as much as it varies"}


def system_name(system: str) -> str:
    """The name a reader sees: `teacher:qwen` is `Teacher qwen`."""
    kind, _, own = system.partition(":")
    return f"{NAMES.get(kind, kind)} {own}" if own else NAMES.get(system, system)


def is_naive(system: str) -> bool:
    return system == "majority" or system.startswith("tfidf")


def is_baseline(system: str) -> bool:
    return is_naive(system) or system in ("student_base", "student_few_shot")


def ordered_systems(metrics: Mapping[str, Any]) -> list[str]:
    """Student, teachers, then the baselines, each in the file's order."""

    def rank(system: str) -> int:
        return (
            0
            if system == "student"
            else 1
            if system.partition(":")[0] == "teacher"
            else 3
            if is_baseline(system)
            else 2
        )

    return sorted(metrics.get("systems") or {}, key=rank)


def without_gold(metrics: Mapping[str, Any]) -> bool:
    return metrics.get("reference") == "teacher"


def set_scores(metrics: Mapping[str, Any], system: str, test_set: str) -> Mapping[str, Any]:
    """What metrics.json says of a system on a set; empty where it says nothing."""
    entry = ((metrics.get("systems") or {}).get(system) or {}).get("sets") or {}
    scores = entry.get(test_set)
    return scores if isinstance(scores, Mapping) else {}


def score(scores: Mapping[str, Any], name: str) -> Estimate:
    """One score; where the file gives no reason for a gap, the usual one."""
    usual = scores.get("reason") or WHY_MISSING.get(name, "no row was answered")
    estimate = read_estimate(scores.get(name), reason=usual)
    if estimate.value is not None and estimate.interval is None and estimate.reason is None:
        return replace(estimate, reason=WHY_NO_INTERVAL.get(name))
    return estimate


def shown_scores(metrics: Mapping[str, Any]) -> list[str]:
    """The columns: against a teacher only agreement means anything."""
    if not without_gold(metrics):
        return [name for name in SCORES if name != "agreement"]
    some = any(
        "agreement" in set_scores(metrics, system, each)
        for system in ordered_systems(metrics)
        for each in metrics.get("sets") or {}
    )
    return ["agreement"] if some else ["accuracy"]


def score_heading(metrics: Mapping[str, Any], name: str) -> str:
    return "Agreement with the teacher" if without_gold(metrics) else SCORES[name]


def set_description(metrics: Mapping[str, Any], test_set: str) -> str:
    facts = (metrics.get("sets") or {}).get(test_set) or {}
    text = f"{whole(facts.get('n'))} rows"
    left_out = finite(facts.get("without_gold") or facts.get("without_teacher"))
    if left_out:
        text += f" ({whole(left_out)} more without {'a teacher’s answer' if without_gold(metrics) else 'gold'})"
    by_people = finite(facts.get("gold_by_people"))
    if by_people:
        text += f" ({whole(by_people)} with gold by a person)"
    disputed = finite(facts.get("disputed_gold"))
    if disputed:
        text += f" ({whole(disputed)} whose gold a person disagrees with)"
    unanswered = finite(facts.get("unanswered"))
    if unanswered:
        text += f" ({whole(unanswered)} more that no system answered)"
    if test_set in SETS:
        text += f", {SETS[test_set]}"
    counts = class_counts(facts)
    return f"{text}: {counts}" if counts else text


def class_counts(facts: Mapping[str, Any]) -> str:
    """`ok 200, toxic 20`; nothing where they were not counted, or are too many to read."""
    counts = facts.get("class_counts") or {}
    if len(counts) > MOST_CLASSES_COUNTED:
        return ""
    return ", ".join(f"{label}{NO_BREAK_SPACE}{whole(count)}" for label, count in counts.items())


def scores_section(metrics: Mapping[str, Any]) -> Section:
    sets = list(metrics.get("sets") or {})
    main = shown_scores(metrics)[0]
    paragraphs = ["Brackets hold 95 % intervals. Naive baselines show what can be had without any language model."]
    if without_gold(metrics):
        paragraphs = [
            "There is no accuracy without gold: no label is known to be right, "
            "so only agreement with the teacher is shown."
        ]
    figures = _score_figures(metrics, main)
    tables = tuple(_score_table(metrics, each, f"scores-{index}") for index, each in enumerate(sets))
    if not tables:
        paragraphs = ["No test set has been evaluated."]
    return Section("scores", "Scores", tuple(paragraphs), figures, tables)


def _score_figures(metrics: Mapping[str, Any], main: str) -> tuple[Figure, ...]:
    """A chart for each set, all on one scale so that they can be compared."""
    dots = {
        each: [
            Dot(system_name(system), estimate, is_baseline(system))
            for system in ordered_systems(metrics)
            if (estimate := score(set_scores(metrics, system, each), main)).value is not None
        ]
        for each in metrics.get("sets") or {}
    }
    ends = [end for drawn in dots.values() for dot in drawn for end in dot.ends]
    figures = []
    for index, (each, drawn) in enumerate(dots.items()):
        title = f"{score_heading(metrics, main)} on {each}"
        if drawn:
            chart = interval_chart(f"dots-{index}", title, drawn, (min(ends), max(ends)))
            figures.append(Figure(chart, title, "With 95 % intervals. Hollow: baselines."))
    return tuple(figures)


def _score_table(metrics: Mapping[str, Any], test_set: str, key: str) -> Table:
    notes, names, systems = Notes(), shown_scores(metrics), ordered_systems(metrics)
    total = _asked(metrics, test_set)
    rows = []
    for system in systems:
        scores, facts = set_scores(metrics, system, test_set), metrics["systems"][system] or {}
        tag = "naive baseline" if is_naive(system) else "baseline" if is_baseline(system) else ""
        speed, memory = read_estimate(facts.get("rows_per_second")), read_estimate(facts.get("peak_memory_bytes"))
        rows.append(
            (
                Cell(system_name(system), tag=tag),
                *(
                    Cell("reference")
                    if system == "teacher" and name == "agreement"
                    else notes.share(score(scores, name))
                    for name in names
                ),
                _answered(scores, total, notes),
                notes.shown(rate(speed.value), speed.reason),
                notes.shown(size(memory.value), memory.reason),
            )
        )
    columns = ("System", *(score_heading(metrics, name) for name in names), "Answered", "Rows/s", "Peak memory")
    strong = frozenset(index for index, system in enumerate(systems) if system == "student")
    caption = f"{test_set} — {set_description(metrics, test_set)}"
    return Table(key, caption, _columns(columns), tuple(rows), tuple(notes.reasons), strong)


def _asked(metrics: Mapping[str, Any], test_set: str) -> float | None:
    """How many rows a system could answer: without gold also those that only the teacher left out."""
    facts = (metrics.get("sets") or {}).get(test_set) or {}
    size_of_set = finite(facts.get("n"))
    return None if size_of_set is None else size_of_set + (finite(facts.get("without_teacher")) or 0)


def _answered(scores: Mapping[str, Any], total: float | None, notes: Notes) -> Cell:
    answered, unparsable = finite(scores.get("answered")), finite(scores.get("unparsable"))
    if answered is None:
        return notes.shown(MISSING, scores.get("reason"))
    return Cell(f"{whole(answered)}/{whole(total)}", f"{whole(unparsable)} unparsable" if unparsable else "")


def _columns(names: Sequence[str]) -> tuple[Column, ...]:
    return tuple(Column(name, numeric=index > 0) for index, name in enumerate(names))
