"""A teacher that has already answered: what a request log says it said.

A row is found by its id, then by its text. An id whose text differs is another row's, and its answer is not used. Rows
that no log answers stay without an answer, never guessed. Of several answers to one row the first counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mlxdistill.config.models import TeacherConfig
from mlxdistill.rundir.files import file_sha256
from mlxdistill.tasks.classification import ClassificationTask
from mlxdistill.tasks.lines import BadLines
from mlxdistill.tasks.logs import LoggedAnswer, read_log
from mlxdistill.tasks.protocols import Answer, Progress
from mlxdistill.tasks.rows import Row, canonical_json, content_hash
from mlxdistill.teacher.child import LabelStats

WAVE_ROWS = 1024


class RecordedLabeller:
    """Logged answers as a `Labeller`. A context manager, for symmetry with the model that it replaces.

    Args:
        config: the teacher, with a `log`.
        task: how answers are parsed.
        text_column, id_column: `data.fields`.
        strict: stop at the first line that cannot be used.
        change: what is done to the texts and answers of the log, as it was done to the rows.

    Attributes:
        bad_lines: the lines of the logs that cannot be used.

    Raises DataError where a log is missing or holds no answer that can be used; with `strict`, at the first bad line.
    """

    peak_memory_bytes = 0
    settings: dict[str, Any] | None = None
    samples = (0,)

    def __init__(
        self,
        config: TeacherConfig,
        task: ClassificationTask,
        *,
        text_column: str | None,
        id_column: str | None,
        strict: bool = False,
        change: Callable[[str], str] | None = None,
    ) -> None:
        assert config.log is not None
        self._config = config
        self._task = task
        self._answers: dict[tuple[str | None, str | None], str] = {}  # by id and hash of the text, as far as known
        self.bad_lines = BadLines(strict)
        self._change = change
        self.stats = LabelStats()
        hashes = [self._read(Path(file).expanduser(), text_column, id_column) for file in config.log]
        self.fingerprint = content_hash(
            canonical_json(
                {
                    "log_sha256": hashes,
                    "text_column": text_column,
                    "id_column": id_column,
                    "answer_key": config.answer_key,
                    "answer_values": config.answer_values,
                }
            )
        )
        # No prompt is known; what an answer is parsed against stands in its place.
        self.prompt_fingerprint = content_hash(canonical_json([task.names, task.verbalizers]))

    def __enter__(self) -> RecordedLabeller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def prepare(self, rows: int, settings: Mapping[str, Any] | None) -> None:
        """There is nothing to prepare."""

    def label(
        self, rows: Sequence[Row], done: frozenset[tuple[str, int]], progress: Progress
    ) -> Iterator[list[Answer]]:
        """Answers in waves; rows that no log answers are left out."""
        for start in range(0, len(rows), WAVE_ROWS):
            wave = []
            for row in rows[start : start + WAVE_ROWS]:
                text = self._find(row)
                if text is not None and (row.id, 0) not in done:
                    wave.append(self._answer(row, text))
            self.stats += LabelStats(rows=len(wave))
            progress.advance(min(start + WAVE_ROWS, len(rows)), len(rows))
            if wave:
                yield wave

    def _read(self, path: Path, text_column: str | None, id_column: str | None) -> str:
        for entry in read_log(path, text_column=text_column, id_column=id_column):
            if not isinstance(entry, LoggedAnswer):
                self.bad_lines.add(str(path), entry)
                continue
            text, answer = entry.text, entry.answer
            if self._change is not None:
                text, answer = None if text is None else self._change(text), self._change(answer)
            hashed = None if text is None else content_hash(text)
            self._answers.setdefault((entry.id, hashed), answer)
            if hashed is not None:
                self._answers.setdefault((None, hashed), answer)
        return file_sha256(path)

    def _find(self, row: Row) -> str | None:
        text = content_hash(row.text)
        for key in ((row.id, text), (row.id, None), (None, text)):
            if key in self._answers:
                return self._answers[key]
        return None

    def _answer(self, row: Row, text: str) -> Answer:
        label = self._task.parse(text, key=self._config.answer_key, values=self._config.answer_values)
        return Answer(row.id, label, outcome="unparsable" if label is None else "answered", text=text)
