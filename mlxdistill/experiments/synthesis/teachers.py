"""The configured teachers at work for `synth`: one writes, all of them that are models say what they make of it.

One process at a time: the writer has left the memory before the first of those that judge is opened. What they answer
about drafts is kept apart from what they answered about rows, until a draft becomes a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mlxdistill.config.models import Config, TeacherConfig
from mlxdistill.errors import UsageError
from mlxdistill.experiments.asking import one_answer_each
from mlxdistill.experiments.synthesis.journal import Draft
from mlxdistill.experiments.synthesis.loop import Ask
from mlxdistill.pipeline.asking import ask_content_free, open_teacher
from mlxdistill.pipeline.stage import Context
from mlxdistill.store import LabelStore
from mlxdistill.tasks.drafting import DraftPrompt
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, content_hash
from mlxdistill.teacher.label import label_rows
from mlxdistill.teacher.writing import open_writer

OTHERWISE = "labelled otherwise by the teacher"
UNSURE = "labelled with too little confidence"
BYTES_PER_TOKEN = 3  # of a prompt, at a guess that errs on the safe side
LEAST_TOKENS = 64
BYTES_PER_WRITTEN_TOKEN = 2


def writer_of(config: Config) -> tuple[str, TeacherConfig]:
    """The teacher that writes: the first that is a model. Raises UsageError where all are logs."""
    for name, teacher in config.teachers.items():
        if teacher.model is not None:
            return name, teacher
    hint = "add a teacher with a `model` to the list under `teacher`"
    raise UsageError("a recorded teacher (`log`) cannot write new rows", where="teacher", hint=hint)


class Teachers:
    """What `Synthesis` is handed.

    Args:
        prompt: by which the first teacher with a model is asked for texts.
        longest: bytes of the longest text that is wanted.
    """

    def __init__(self, context: Context, store: LabelStore, prompt: DraftPrompt, longest: int) -> None:
        self._context = context
        self._store = store
        self._prompt = prompt
        _, self._writer = writer_of(context.config)
        given = context.config.synth.max_tokens
        usual = max(LEAST_TOKENS, longest // BYTES_PER_WRITTEN_TOKEN + LEAST_TOKENS // 2)
        self._max_tokens = given or min(usual, self._writer.n_ctx // 2)
        self._numbers: dict[str, tuple[int, int]] = {}

    def write(self, asks: Sequence[Ask]) -> Iterator[list[Draft]]:
        """Drafts in groups, as they are finished; see `loop.Write`."""
        shown = {f"{ask.label}/{ask.number}": (ask, self._fitting(ask)) for ask in asks}
        rows = [
            Row(row_id, self._prompt.fill(ask.label, [seed.text for seed in seeds]))
            for row_id, (ask, seeds) in shown.items()
        ]
        synth, reporter = self._context.config.synth, self._context.reporter
        with open_writer(self._writer, synth, self._prompt, self._max_tokens, reporter) as labeller:
            for wave in labeller.label(rows, frozenset(), reporter):
                yield [self._draft(*shown[answer.row_id], answer) for answer in wave]

    def _fitting(self, ask: Ask) -> tuple[Row, ...]:
        """As many of the seeds as the context has room for, at least one."""
        around = len((self._prompt.head + self._prompt.tail + self._prompt.fill(ask.label, [])).encode())
        room = BYTES_PER_TOKEN * (self._writer.n_ctx - self._max_tokens) - around
        count = len(ask.seeds)
        while count > 1 and sum(len(seed.text.encode()) for seed in ask.seeds[:count]) > room:
            count -= 1
        return ask.seeds[:count]

    def _draft(self, ask: Ask, seeds: Sequence[Row], answer: Answer) -> Draft:
        text = None if answer.outcome == "unparsable" else self._prompt.form.take_apart(answer.text or "")
        return Draft(ask.label, ask.number, tuple(seed.id for seed in seeds), text)

    def judge(self, rows: Sequence[Row]) -> Mapping[str, str | None]:
        """See `loop.Judge`. Every teacher is asked about those that the one before stood by."""
        found: dict[str, str | None] = {row.id: None for row in rows}
        for name, teacher in self._context.config.teachers.items():
            left = [row for row in rows if found[row.id] is None]
            if teacher.model is not None and left:
                answers = self._answers(name, left)
                least = self._context.config.synth.min_confidence
                names = self._context.task.names
                found |= {row.id: objection(row, answers.get(row.id), names, least) for row in left}
        return found

    def _answers(self, name: str, rows: Sequence[Row]) -> dict[str, Answer]:
        context, store, config = self._context, self._store, self._context.config.teachers[name]
        names = context.task.names
        with open_teacher(context, name) as labeller:
            number, drafts = self._labellers(name, labeller.fingerprint, labeller.prompt_fingerprint)
            settings = store.settings(number)
            if settings is not None:  # as for the rows that these join
                store.keep_settings(drafts, settings)
            label_rows(labeller, drafts, rows, len(rows), store, context.reporter)
            content_free = None
            if config.calibrate:
                content_free = ask_content_free(labeller, name, number, names, store, context.reporter)
            samples = labeller.samples
        return one_answer_each(config, samples, rows, store, drafts, content_free, names)

    def _labellers(self, name: str, fingerprint: str, prompt_fingerprint: str) -> tuple[int, int]:
        """The numbers under which the teacher's answers to rows, and those to drafts, are kept."""
        names = self._context.task.names
        number = self._store.labeller(fingerprint, prompt_fingerprint, names)
        description = {"name": f"drafts of synth, judged by {name}", "drafts_of": number}
        drafts = self._store.labeller(content_hash(f"drafts of {fingerprint}"), prompt_fingerprint, names, description)
        self._numbers[name] = number, drafts
        return number, drafts

    def adopt(self, rows: Sequence[Row]) -> None:
        """Puts the answers to drafts that are rows from now on beside those to the other rows."""
        hashes = {row.id: content_hash(row.text) for row in rows}
        for number, drafts in self._numbers.values():
            self._store.add(number, list(self._store.answers(drafts, hashes)), hashes, replace=False)


def objection(row: Row, answer: Answer | None, names: Sequence[str], least: float) -> str | None:
    """Why an answer does not stand by the label that a row was written for; None where it does.

    Args:
        least: probability of that label; of answers without probabilities, the label alone counts.
    """
    intended = str(row.meta["intended"])
    if answer is None or answer.label != intended:
        return OTHERWISE
    if answer.probabilities is not None and answer.probabilities[names.index(intended)] < least:
        return UNSURE
    return None
