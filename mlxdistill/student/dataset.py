"""The student's training files: what the teacher answered, in mlx-lm's own chat format.

`mlx_lm.lora --data` reads them as they are; the row's id, label and class probabilities stand beside the messages,
where mlx-lm does not look and our trainer does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlxdistill.errors import DataError
from mlxdistill.rundir.files import write_jsonl
from mlxdistill.tasks.classification import ClassificationTask, Prompt
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row


def write_training_files(
    folder: Path,
    task: ClassificationTask,
    prompt: Prompt,
    rows: Sequence[Row],
    valid: Sequence[Row],
    answers: Mapping[str, Answer],
) -> tuple[int, int]:
    """Writes `train.jsonl` and `valid.jsonl`; returns their numbers of rows.

    Training rows carry the teacher's label and probabilities. Validation rows, which choose the adapter, carry them
    too: among a few hundred rows only a handful are of a rare class, and how well the student follows the teacher's
    opinion is a quieter measure than that handful of gold labels. Gold stands in for a teacher that gave a label alone,
    or none.

    Raises DataError where a file would be empty.
    """
    training = [_example(task, prompt, row, answers[row.id]) for row in rows]
    validation = list(_validation_examples(task, prompt, valid, answers))
    for name, examples in (("train.jsonl", training), ("valid.jsonl", validation)):
        if not examples:
            raise DataError(
                "no row is left to learn from" if name == "train.jsonl" else "no validation row has a label",
                where=str(folder / name),
                hint="loosen `filter`, or give more rows",
            )
        write_jsonl(folder / name, examples)
    return len(training), len(validation)


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
        "messages": [
            {"role": "user", "content": prompt.content(row.text)},
            {"role": "assistant", "content": task.verbalizer(answer.label)},
        ],
        "id": row.id,
        "label": answer.label,
        "probabilities": answer.probabilities,
    }
