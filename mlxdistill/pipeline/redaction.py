"""Personal data in a run: who may see it, and what finds it.

`before`: rows are made without it, and so is what a log says about them; everything else follows. `after`: the rows
stay as they are, and whatever the student sees goes through `redacted_rows`. `report`: it is counted when rows are
read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from mlxdistill.config.models import Config
from mlxdistill.data.fields import Columns, Unusable, meta_of, usable_text
from mlxdistill.data.ingest import given_paths
from mlxdistill.data.readers import read_source
from mlxdistill.data.redaction import Finder, Redactor
from mlxdistill.data.redaction.presidio import PresidioFinder, check_presidio
from mlxdistill.errors import ConfigError, Problem
from mlxdistill.pipeline.quoting import asked_finder, asked_teacher
from mlxdistill.platform.models import find_gguf
from mlxdistill.rundir.layout import RunDir
from mlxdistill.student.dataset import Rationales
from mlxdistill.student.rationale import Rationale
from mlxdistill.tasks.lines import BadLine
from mlxdistill.tasks.protocols import Answer, Progress
from mlxdistill.tasks.rows import Row

TEXTS_AT_A_TIME = 256


@contextmanager
def open_redactor(
    config: Config, progress: Progress, run: RunDir | None, *, when: Collection[str]
) -> Iterator[Redactor | None]:
    """What takes personal data out of texts as the configuration wants it; None where `data.redact` is not in `when`.

    Args:
        run: where what a teacher was asked before is kept; None: nowhere.

    Raises ModelError where what finds it is not there.
    """
    data = config.data
    if data.redact not in when:
        yield None
        return
    with ExitStack() as opened:
        finders: list[Finder] = []
        if "presidio" in data.redact_with:
            progress.note(f"loading {data.redact_spacy}")
            finders.append(PresidioFinder(data.redact_spacy))
        if "teacher" in data.redact_with:
            finders.append(opened.enter_context(asked_finder(config, progress, run)))
        yield Redactor(
            data.redact_kinds,
            patterns="patterns" in data.redact_with,
            regions=data.redact_regions,
            stand_ins=data.redact_as == "stand_ins",
            seed=data.seed,
            finders=finders,
        )


class CountedChange:
    """What ingest does to texts: counts what is personal, and takes it out where it is to go `before`.

    Args:
        when: `data.redact`.
    """

    def __init__(self, redactor: Redactor, when: str | None) -> None:
        self._redactor = redactor
        self._when = when
        self.texts = 0
        self.counts: Counter[str] = Counter()

    def __call__(self, text: str) -> str:
        redacted = self._redactor.redact(text)
        self.texts += bool(redacted.counts)
        self.counts.update(redacted.counts)
        return redacted.text if self._when == "before" else text

    def beside(self, text: str) -> str:
        """What becomes of a group's name or a logged answer: it is no text of a row, and not counted among them."""
        return self._redactor.redact(text).text if self._when == "before" else text

    @property
    def figures(self) -> dict[str, object]:
        """For the manifest: how many values of each kind, in how many texts; never one of them."""
        return {"values": dict(self.counts.most_common()), "texts": self.texts}

    @property
    def note(self) -> str:
        kinds = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in self.counts.most_common())
        done = {"before": "taken out", "after": "taken out before the student reads them"}
        return f"personal data in {self.texts:,} texts: {kinds or 'none'}; {done.get(self._when or '', 'left in')}"


def prepare_texts(config: Config, redactor: Redactor, progress: Progress) -> None:
    """Asks a teacher about the texts of all files, and about whatever else `before` changes, many at a time, before
    they are read one by one."""
    if "teacher" not in config.data.redact_with:
        return
    columns = Columns.of(config.data)
    for path in (Path(config.data.source), *given_paths(config.data).values()):
        texts: list[str] = []
        for record in read_source(path, [*columns.keys, *columns.other_gold]).records:
            if isinstance(record, BadLine):
                continue
            try:
                texts.append(usable_text(record, columns.text))
                if config.data.redact == "before":
                    texts += meta_of(record.values, columns.group).values()
            except Unusable:
                continue
            if len(texts) >= TEXTS_AT_A_TIME:
                redactor.redact_all(texts)
                texts = []
        redactor.redact_all(texts)


def redacted_rows(redactor: Redactor | None, rows: Sequence[Row]) -> list[Row]:
    """The rows as the student may see them."""
    if redactor is None:
        return list(rows)
    return [
        replace(row, text=redacted.text)
        for row, redacted in zip(rows, redactor.redact_all([row.text for row in rows]), strict=True)
    ]


def redacted_rationales(
    redactor: Redactor | None, rationales: Rationales | None, rows: Sequence[Row]
) -> Rationales | None:
    """The rationales as the student may learn them: a teacher quotes what it read. The log-probabilities of one that
    changes belong to other tokens, and are left out.

    Args:
        rows: as the teacher read them.
    """
    if redactor is None or rationales is None:
        return rationales
    texts = {row.id: row.text for row in rows}
    given = rationales.of

    def of(answer: Answer) -> Rationale | None:
        rationale = given(answer)
        if rationale is None:
            return None
        text = redactor.redact(rationale.text, beside=texts[answer.row_id]).text
        return rationale if text == rationale.text else Rationale(text)

    return Rationales(of, rationales.weight)


def text_change(redactor: Redactor | None) -> Callable[[str], str] | None:
    """The redactor as a function from text to text."""
    return None if redactor is None else lambda text: redactor.redact(text).text


def check_redaction(config: Config) -> None:
    """Raises ModelError or ConfigError where what is to find personal data is not there."""
    data = config.data
    if data.redact is None:
        return
    if "presidio" in data.redact_with:
        check_presidio(data.redact_spacy)
    if "teacher" in data.redact_with:
        teacher = asked_teacher(config)
        if teacher is None or teacher.model is None:
            message = "`data.redact_with` names the teacher, but no teacher has a `model`: a log cannot be asked"
            raise ConfigError([Problem("data.redact_with", message, "give a teacher with a `model`, or use presidio")])
        find_gguf(teacher.model)
