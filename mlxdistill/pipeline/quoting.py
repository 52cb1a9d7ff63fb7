"""The teacher asked for the personal data in texts. What it found is kept in the run folder: as places, never as "
"text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlxdistill.config.models import Config, TeacherConfig
from mlxdistill.data.redaction import Span
from mlxdistill.platform.models import cached_sha256
from mlxdistill.rundir.files import make_folder, sync
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.protocols import Progress
from mlxdistill.tasks.quoting import QUOTED_KINDS, QuoteForm, places_of
from mlxdistill.tasks.rows import Row, canonical_json, content_hash
from mlxdistill.teacher.asking import ModelLabeller
from mlxdistill.teacher.quoting import open_quoter


@contextmanager
def asked_finder(config: Config, progress: Progress, run: RunDir | None) -> Iterator[AskedFinder]:
    """The teacher that is asked, in a process of its own until the block ends.

    Args:
        run: where its answers are kept; None: nowhere.
    """
    teacher = asked_teacher(config)
    assert teacher is not None
    kinds = config.data.redact_kinds
    form = QuoteForm(QUOTED_KINDS if kinds is None else kinds)
    with open_quoter(teacher, form, progress) as quoter:
        yield AskedFinder(quoter, form, teacher.max_tokens, progress, run)


def asked_teacher(config: Config) -> TeacherConfig | None:
    """The first teacher that can be asked."""
    return next((teacher for teacher in config.teachers.values() if teacher.model is not None), None)


class AskedFinder:
    """Finds what a teacher quotes. What it says about a text is not asked twice: it would cost as much again."""

    repeats = False

    def __init__(
        self, quoter: ModelLabeller, form: QuoteForm, max_tokens: int, progress: Progress, run: RunDir | None
    ) -> None:
        self._quoter = quoter
        self._form = form
        self._progress = progress
        model = [cached_sha256(path, progress.note) for path in quoter.info.files]
        self._asked = content_hash(canonical_json([model, form.head, form.tail, max_tokens]))
        self._path = None if run is None else run.pool.with_name("quoted.jsonl")
        self._known = {} if self._path is None else _read(self._path, self._asked)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text. Every text is asked about once; an answer that was cut off holds what came first."""
        hashes = [content_hash(text) for text in texts]
        missing = {digest: text for digest, text in zip(hashes, texts, strict=True) if digest not in self._known}
        rows = [Row(digest, text) for digest, text in missing.items()]
        cut_off = 0
        for wave in self._quoter.label(rows, frozenset(), self._progress) if rows else ():
            new = {}
            for answer in wave:
                text = missing[answer.row_id]
                quotes = list(self._form.read(answer.text or ""))
                new[answer.row_id] = [Span(*place) for place in places_of(text, quotes)]
                cut_off += answer.outcome == "unparsable"
            self._keep(new)
        if cut_off:
            self._progress.note(
                f"{cut_off:,} texts: the teacher's list of personal data was cut off (teacher.max_tokens); what came "
                f"before "
                "is used"
            )
        return [self._known[digest] for digest in hashes]

    def _keep(self, new: dict[str, list[Span]]) -> None:
        self._known.update(new)
        if self._path is None:
            return
        make_folder(self._path.parent)
        with self._path.open("a", encoding="utf-8") as file:
            self._path.chmod(0o600)
            for digest, spans in new.items():
                places = [[span.start, span.end, span.kind] for span in spans]
                file.write(json.dumps({"asked": self._asked, "text": digest, "spans": places}) + "\n")
            sync(file)


def _read(path: Path, asked: str) -> dict[str, list[Span]]:
    """What was answered before; a last line that was cut off by a crash is not there."""
    known = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if record["asked"] == asked:
            known[record["text"]] = [Span(*place) for place in record["spans"]]
    return known
