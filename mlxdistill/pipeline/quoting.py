"""The teacher asked for the personal data in texts. What it found is kept in the run folder: as places, never as "
"text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlxdistill.config.models import Config, TeacherConfig
from mlxdistill.data.redaction import Span
from mlxdistill.data.redaction.presidio import parts_of
from mlxdistill.errors import DataError
from mlxdistill.platform.models import cached_sha256
from mlxdistill.rundir.files import make_folder, sync
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.protocols import Progress
from mlxdistill.tasks.quoting import QUOTED_KINDS, Quote, QuoteForm, places_of
from mlxdistill.tasks.rows import Row, canonical_json, content_hash
from mlxdistill.teacher.asking import ModelLabeller
from mlxdistill.teacher.quoting import open_quoter

MOST_CHARACTERS = 2_000  # of a piece: what a list of some forty quotes does for
LEAST_CHARACTERS = 250
OVERLAP = 40


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
    most = config.data.redact_max_tokens
    with open_quoter(teacher, form, most, progress) as quoter:
        yield AskedFinder(quoter, form, most, progress, run, strict=config.data.redact == "before")


def asked_teacher(config: Config) -> TeacherConfig | None:
    """The first teacher that can be asked."""
    return next((teacher for teacher in config.teachers.values() if teacher.model is not None), None)


class AskedFinder:
    """Finds what a teacher quotes. What it says about a text is not asked twice: it would cost as much again.

    A long text is asked about in pieces. One that does not fit the context, or whose list is cut off (which hides
    whether it did), is cut in two until it does.

    Args:
        strict: a text that does not fit is an error, not a note.
    """

    repeats = False

    def __init__(
        self,
        quoter: ModelLabeller,
        form: QuoteForm,
        max_tokens: int,
        progress: Progress,
        run: RunDir | None,
        *,
        strict: bool = False,
    ) -> None:
        self._quoter = quoter
        self._form = form
        self._progress = progress
        self._strict = strict
        model = [cached_sha256(path, progress.note) for path in quoter.info.files]
        self._asked = content_hash(canonical_json([model, form.head, form.tail, max_tokens, MOST_CHARACTERS]))
        self._path = None if run is None else run.pool.with_name("quoted.jsonl")
        self._known = {} if self._path is None else _read(self._path, self._asked)

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text. Every text is asked about once; an answer that was cut off holds what came first.

        Raises DataError where a text does not fit and this finder is strict.
        """
        hashes = [content_hash(text) for text in texts]
        missing = {digest: text for digest, text in zip(hashes, texts, strict=True) if digest not in self._known}
        quotes: dict[str, list[Quote]] = {digest: [] for digest in missing}
        waiting = [(digest, piece) for digest, text in missing.items() for piece in _pieces(text, MOST_CHARACTERS)]
        cut_off: set[str] = set()
        too_long: set[str] = set()
        while waiting:
            asked, waiting = waiting, []
            rows = [Row(str(place), piece) for place, (_, piece) in enumerate(asked)]
            left = Counter(digest for digest, _ in asked)
            for wave in self._quoter.label(rows, frozenset(), self._progress):
                for answer in wave:
                    digest, piece = asked[int(answer.row_id)]
                    quotes[digest] += self._form.read(answer.text or "")
                    left[digest] -= 1
                    if answer.outcome == "answered":
                        continue
                    if len(piece) > LEAST_CHARACTERS:
                        waiting += [(digest, part) for part in _pieces(piece, len(piece) * 3 // 5)]
                    else:
                        (too_long if answer.outcome == "truncated" else cut_off).add(digest)
                again = {digest for digest, _ in waiting}
                whole = {digest for digest, count in left.items() if not count} - again - too_long
                self._keep({digest: _spans(missing[digest], quotes.pop(digest)) for digest in whole & quotes.keys()})
        self._tell(len(cut_off), len(too_long))
        # What is left was not asked about to its end, or is empty: it is not kept for another run.
        self._known |= {digest: _spans(missing[digest], quoted) for digest, quoted in quotes.items()}
        return [self._known[digest] for digest in hashes]

    def _tell(self, cut_off: int, too_long: int) -> None:
        if cut_off:
            self._progress.note(
                f"{cut_off:,} texts: the teacher's list of personal data was cut off (data.redact_max_tokens); what "
                "came before is used"
            )
        if not too_long:
            return
        message = f"{too_long:,} texts do not fit the teacher's context, not even in pieces of {LEAST_CHARACTERS:,}"
        message += " characters: what is personal in them may not all be found"
        hint = "raise teacher.n_ctx, or lower data.redact_max_tokens"
        if self._strict:
            raise DataError(message, where="data.redact_with", hint=hint)
        self._progress.note(f"{message}; {hint}")

    def _keep(self, new: dict[str, list[Span]]) -> None:
        self._known.update(new)
        if self._path is None or not new:
            return
        make_folder(self._path.parent)
        with self._path.open("a", encoding="utf-8") as file:
            self._path.chmod(0o600)
            for digest, spans in new.items():
                places = [[span.start, span.end, span.kind] for span in spans]
                file.write(json.dumps({"asked": self._asked, "text": digest, "spans": places}) + "\n")
            sync(file)


def _pieces(text: str, most: int) -> list[str]:
    """The text in pieces, which overlap: what is cut in one stands whole in the next."""
    return [text[max(0, start - OVERLAP) : start + len(part)] for start, part in parts_of(text, most)]


def _spans(text: str, quotes: Sequence[Quote]) -> list[Span]:
    return [Span(*place) for place in places_of(text, quotes)]


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
