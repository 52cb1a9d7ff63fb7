"""Why the student says what it says, for students that have learned the teacher's rationales.

A rationale is asked for in a turn of its own, with the prompt that it was learned with, so that labels cost no more
where nobody wants one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlxdistill.config.models import Config
from mlxdistill.errors import DataError
from mlxdistill.pipeline.train import student_prompt
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.student.predictor import StudentPredictor
from mlxdistill.tasks.classification import rationale_prompt
from mlxdistill.tasks.forms import THOUGHT_END, rationale_in
from mlxdistill.tasks.rows import Row


class Explainer:
    """Asks a run's student for rationales.

    Attributes:
        max_tokens: of one rationale: no teacher's could be longer.

    Raises DataError where the student has learned none.
    """

    def __init__(self, config: Config, run: RunDir) -> None:
        trained = Manifest(run).stages.get("train", {}).get("inputs", {}).get("train", {})
        if not trained.get("rationale_weight"):
            message = "this student has learned no rationales"
            hint = "train one with train.rationale_weight above 0, from a teacher with teacher.rationale: true"
            raise DataError(message, where=str(run.path), hint=hint)
        self.max_tokens = max(teacher.max_tokens for teacher in config.teachers.values())
        self._prompt = rationale_prompt(student_prompt(config))

    def explain(self, student: StudentPredictor, rows: Sequence[Row]) -> Iterator[str]:
        """A rationale for each row, in the order of the rows. Raises as `StudentPredictor.predict` does."""
        for answers in student.generate(rows, self._prompt, self.max_tokens):
            for answer in answers:
                assert answer.text is not None
                # Where the teacher's tokens were learned, the student writes whole answers, as the teacher did.
                yield rationale_in(answer.text) or answer.text.rpartition(THOUGHT_END)[2].strip()
