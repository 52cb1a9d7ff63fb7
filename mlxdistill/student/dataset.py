"""The student's training files: what the teacher answered, in mlx-lm's own chat format.

`mlx_lm.lora --data` reads them as they are; the row's id, label and class probabilities stand beside the messages,
where mlx-lm does not look and our trainer does (see `encoding`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mlxdistill.errors import DataError
from mlxdistill.rundir.files import write_jsonl
from mlxdistill.student.rationale import KIND, Rationale, logprobs_record
from mlxdistill.tasks.classification import ClassificationTask, Prompt, rationale_prompt
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row


@dataclass(frozen=True, slots=True)
class Rationales:
    """Rationales to learn: `of` an answer, None where it has none; and how much one counts beside a label."""

    of: Callable[[Answer], Rationale | None]
    weight: float


class Counts(NamedTuple):
    """How many rows are in the files, and how many rationales beside them."""

    training: int
    validation: int
    rationales: int


def write_training_files(
    folder: Path,
    task: ClassificationTask,
    prompt: Prompt,
    rows: Sequence[Row],
    valid: Sequence[Row],
    answers: Mapping[str, Answer],
    rationales: Rationales | None = None,
    weights: Mapping[str, float] | None = None,
) -> Counts:
    """Writes `train.jsonl` and `valid.jsonl`.

    Training rows carry the teacher's label and probabilities. Validation rows, which choose the adapter, carry them
    too: among a few hundred rows only a handful are of a rare class, and how well the student follows the teacher's
    opinion is a quieter measure than that handful of gold labels. Gold stands in for a teacher that gave a label alone,
    or none.

    Args:
        rationales: those to learn beside the labels. A row's follows it at once; validation rows, by which the best
            adapter is chosen for its labels, have none.
        weights: row id -> how much its label counts, where that is not as much as any other's.

    Raises DataError where a file would be empty, or no row has a rationale to learn.
    """
    validation = list(_validation_examples(task, prompt, valid, answers))
    if not rows:
        hint = "loosen `filter`, or give more rows"
        raise DataError("no row is left to learn from", where=str(folder / "train.jsonl"), hint=hint)
    if not validation:
        hint = "give more rows, or rows with gold as data.valid: filters do not touch these"
        raise DataError("no validation row has a label", where=str(folder / "valid.jsonl"), hint=hint)
    training = _Counted(_training_examples(task, prompt, rows, answers, rationales, weights or {}))
    write_jsonl(folder / "train.jsonl", training)
    write_jsonl(folder / "valid.jsonl", validation)
    found = training.count - len(rows)
    if rationales is not None and not found:
        raise DataError(
            "train.rationale_weight is set, and no answer of the rows to learn from has a rationale",
            where=str(folder / "train.jsonl"),
            hint="set `answer: generate` and `rationale: true` of the teacher, or leave train.rationale_weight out",
        )
    return Counts(len(rows), len(validation), found)


class _Counted:
    """Examples on their way into a file: with log-probabilities they are too large to be held all at once."""

    def __init__(self, examples: Iterable[dict[str, Any]]) -> None:
        self._examples = examples
        self.count = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for example in self._examples:
            self.count += 1
            yield example


def _training_examples(
    task: ClassificationTask,
    prompt: Prompt,
    rows: Sequence[Row],
    answers: Mapping[str, Answer],
    rationales: Rationales | None,
    weights: Mapping[str, float],
) -> Iterator[dict[str, Any]]:
    asking = rationale_prompt(prompt)
    for row in rows:
        weight = {"weight": weights[row.id]} if row.id in weights else {}
        yield {**_example(task, prompt, row, answers[row.id]), **weight}
        found = rationales.of(answers[row.id]) if rationales is not None else None
        if rationales is not None and found is not None:
            logprobs = {} if found.logprobs is None else {"logprobs": logprobs_record(found.logprobs)}
            yield {
                **_chat(asking.content(row.text), found.text),
                "id": row.id,
                "kind": KIND,
                "weight": rationales.weight,
                **logprobs,
            }


def _validation_examples(
    task: ClassificationTask, prompt: Prompt, rows: Sequence[Row], answers: Mapping[str, Answer]
) -> Iterator[dict[str, Any]]:
    for row in rows:
        answer = answers.get(row.id)
        if row.gold is not None and (answer is None or answer.probabilities is None):
            yield _example(task, prompt, row, Answer(row.id, row.gold))
        elif answer is not None and answer.label is not None:
            yield _example(task, prompt, row, answer)


def _example(task: ClassificationTask, prompt: Prompt, row: Row, answer: Answer) -> dict[str, Any]:
    assert answer.label is not None
    return {
        **_chat(prompt.content(row.text), task.verbalizer(answer.label)),
        "id": row.id,
        "label": answer.label,
        "probabilities": answer.probabilities,
    }


def _chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
