"""What the teachers wrote besides labels, for a student that learns it too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlxdistill.config.models import Config
from mlxdistill.errors import ConfigError, Problem
from mlxdistill.pipeline.stage import Context
from mlxdistill.store import LabelStore
from mlxdistill.student.dataset import Rationales
from mlxdistill.student.rationale import Rationale
from mlxdistill.tasks.forms import THOUGHT_END, rationale_in
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, content_hash
from mlxdistill.tasks.token_logprobs import TokenLogprobs


def check_rationales(config: Config) -> None:
    """Raises ConfigError where the student is to learn rationales and no teacher writes any. A log may hold some."""
    if config.train.rationale_weight and not any(
        teacher.log is not None or teacher.rationale for teacher in config.teachers.values()
    ):
        message = "train.rationale_weight is set, but no teacher writes rationales"
        hint = "set `answer: generate` and `rationale: true` of the teacher, or leave train.rationale_weight out"
        raise ConfigError([Problem("train.rationale_weight", message, hint)])


def rationales(context: Context, store: LabelStore, rows: Sequence[Row]) -> Rationales | None:
    """The rationales in the answers to these rows; None where none are to be learned."""
    weight = context.config.train.rationale_weight
    keeping = [name for name, teacher in context.config.teachers.items() if teacher.keep_logprobs]
    if not weight:
        if keeping:
            context.reporter.note("log-probabilities are kept, but not learned: set train.rationale_weight")
        return None
    hashes = {row.id: content_hash(row.text) for row in rows}
    labellers = [number for name in keeping for number in _models(store, _labeller(context, name))]

    def of(answer: Answer) -> Rationale | None:
        rationale = None if answer.text is None else rationale_in(answer.text)
        if rationale is None or answer.text is None:
            return None
        for number in labellers:
            if logprobs := _logprobs(store, number, answer, hashes[answer.row_id]):
                return Rationale(answer.text.rpartition(THOUGHT_END)[2].strip(), logprobs)
        return Rationale(rationale)

    return Rationales(of, weight)


def _labeller(context: Context, name: str) -> int:
    """The number of a teacher's own opinions."""
    figures = context.manifest.figures("label")
    return int(figures.get("teachers", {}).get(name, figures)["labeller"])


def _models(store: LabelStore, number: int) -> Iterator[int]:
    """The labellers whose answers a model gave, of which this one's were made."""
    members = store.made_of(number)
    if not members:
        yield number
    for member in members:
        yield from _models(store, member)


def _logprobs(store: LabelStore, number: int, answer: Answer, digest: str) -> TokenLogprobs | None:
    """Of that of a model's answers to the row which has this text."""
    given = store.answers_with_hashes(number, {answer.row_id: digest}, logprobs=True)
    return next((each.logprobs for each, _ in given if each.logprobs and each.text == answer.text), None)
