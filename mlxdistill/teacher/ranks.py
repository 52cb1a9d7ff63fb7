"""One labelling job, shared among the ranks of `mlx.launch`.

Rank 0 alone has the run folder. It cuts every piece of rows into shares of whole chunks, so that all waves of scored
rows are the ones a single machine would decode and the answers the same to the last bit, labels its own share, and
then gathers the others'. Each other rank commits its answers, wave by wave, into a journal of its own on its own disk,
and empties it only when it hears that rank 0 has committed them. A rank that dies loses nothing but time: what its
journal holds is gathered when the job is started again with it, and without it rank 0 labels those rows.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mlxdistill import __version__
from mlxdistill.errors import MlxDistillError, ModelError
from mlxdistill.platform.blas import cache_folder
from mlxdistill.platform.ranks import Ranks
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer, Labeller, Progress
from mlxdistill.tasks.rows import Row, content_hash
from mlxdistill.tasks.token_logprobs import TokenLogprobs
from mlxdistill.teacher.scoring import CHUNK_ROWS

_FIELDS = tuple(each.name for each in dataclasses.fields(Answer))


class SharedLabeller:
    """A `Labeller` of rank 0 that lets the other ranks answer a share of the rows.

    What their journals still hold from an earlier attempt is committed to the store at once.

    Args:
        labeller: rank 0's own.
        teacher: the name by which the other ranks find the same teacher in their configuration.
        number: of the labeller in the store.
        job: stands for the run, and nothing else that any of the machines works on.

    Attributes:
        hosts: the machines of the ranks.

    Raises ModelError where another rank cannot open this teacher, or would answer differently.
    """

    def __init__(
        self,
        labeller: Labeller,
        ranks: Ranks,
        *,
        teacher: str,
        labels: Sequence[str],
        store: LabelStore,
        number: int,
        job: str,
    ) -> None:
        self._labeller = labeller
        self._ranks = ranks
        self._seconds_per_row: list[float | None] = [None] * ranks.size
        self._settings: Mapping[str, Any] | None = None
        self._rows = 0
        order = {"do": "open", "teacher": teacher, "job": job, "identity": _identity(labeller, labels)}
        ranks.broadcast({**order, "settings": store.settings(number)})
        replies = ranks.gather(None)[1:]
        for reply in replies:
            if "refused" in reply:
                raise ModelError(reply["refused"], where=reply["where"], hint=reply["hint"])
        self.hosts = [ranks.host, *(reply["host"] for reply in replies)]
        for reply in replies:
            answers = [_read(record) for record in reply["answers"]]
            hashes = {record[0]: record[-1] for record in reply["answers"]}
            store.add(number, answers, hashes, replace=False)

    @property
    def fingerprint(self) -> str:
        return self._labeller.fingerprint

    @property
    def prompt_fingerprint(self) -> str:
        return self._labeller.prompt_fingerprint

    @property
    def samples(self) -> tuple[int, ...]:
        return self._labeller.samples

    @property
    def settings(self) -> Mapping[str, Any] | None:
        return self._labeller.settings

    def prepare(self, rows: int, settings: Mapping[str, Any] | None) -> None:
        self._rows, self._settings = rows, settings
        self._labeller.prepare(rows, settings)

    def label(
        self, rows: Sequence[Row], done: frozenset[tuple[str, int]], progress: Progress
    ) -> Iterator[list[Answer]]:
        """Answers in waves; see `tasks.protocols.Labeller`. The other ranks' come at the end, in one."""
        shares = self._cut(rows, done)
        own = shares[0]
        waves = self._labeller.label(own, done, _Scaled(progress, len(rows) / max(1, len(own))))
        first = next(waves, None)  # with it come the settings, which must be the same on every rank
        self._ranks.broadcast(
            {
                "do": "label",
                "rows": self._rows,
                "settings": self._settings or self._labeller.settings,
                "shares": [[], *([[row.id, row.text] for row in share] for share in shares[1:])],
                "done": sorted(done),
            }
        )
        seconds = [0.0] * self._ranks.size
        for wave in itertools.chain([] if first is None else [first], waves):
            seconds[0] += sum(answer.seconds for answer in wave)
            yield wave
        for rank, reply in enumerate(self._ranks.gather(None)):
            if reply is not None and (answers := [_read(record) for record in reply["answers"]]):
                seconds[rank] = sum(answer.seconds for answer in answers)
                yield answers
        for rank, share in enumerate(shares):
            if seconds[rank]:
                self._seconds_per_row[rank] = seconds[rank] / _asked(share, done, self.samples)
        progress.advance(len(rows), len(rows))

    def _cut(self, rows: Sequence[Row], done: frozenset[tuple[str, int]]) -> list[list[Row]]:
        """Whole chunks for every rank, so that all are done at about the same time. The first one is rank 0's."""
        known = [each for each in self._seconds_per_row if each is not None]
        usual = sum(known) / len(known) if known else 1.0
        speeds = [usual if each is None else each for each in self._seconds_per_row]
        shares: list[list[Row]] = [[] for _ in speeds]
        seconds = [0.0] * len(speeds)
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows[start : start + CHUNK_ROWS]
            asked = _asked(chunk, done, self.samples)
            then = [spent + asked * each for spent, each in zip(seconds, speeds, strict=True)]
            rank = then.index(min(then)) if any(seconds) else 0
            shares[rank] += chunk
            seconds[rank] = then[rank]
        return shares


def serve(ranks: Ranks, open_teacher: Callable[[str], AbstractContextManager[Labeller]], labels: Sequence[str]) -> bool:
    """What a rank other than 0 does: labels its shares until it is dismissed. Returns whether rank 0 goes on.

    Args:
        open_teacher: opens the teacher of this name, of this rank's own configuration. Raises MlxDistillError.
        labels: of its own configuration.

    Raises whatever the labeller raises.
    """
    folder: Path | None = None
    with contextlib.ExitStack() as opened:
        helper: _Helper | None = None
        while (order := ranks.broadcast())["do"] != "end":
            if order["do"] == "label":
                assert helper is not None
                ranks.gather({"answers": helper.label({**order, "share": order["shares"][ranks.rank]})})
                continue
            opened.close()  # the teacher before this one is unloaded first
            folder = cache_folder() / "journals" / order["job"]
            try:
                journal = folder / f"rank-{ranks.rank}.sqlite"
                helper = opened.enter_context(_Helper(open_teacher(order["teacher"]), labels, order, journal))
                reply: dict[str, Any] = {"answers": helper.held, "host": ranks.host}
            except MlxDistillError as error:
                where = f"rank {ranks.rank} on {ranks.host}" + (f": {error.where}" if error.where else "")
                reply = {"refused": error.message, "where": where, "hint": error.hint}
            if any("refused" in each for each in ranks.gather(reply) if each):
                return False  # rank 0 says so
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return True


class _Helper:
    """One teacher of a rank other than 0, with its journal.

    Attributes:
        held: what the journals on this machine hold from an earlier attempt.
    """

    def __init__(
        self,
        teacher: AbstractContextManager[Labeller],
        labels: Sequence[str],
        order: Mapping[str, Any],
        journal: Path,
    ) -> None:
        self._teacher = teacher
        self._labels = labels
        self._order = order
        self._path = journal

    def __enter__(self) -> _Helper:
        with contextlib.ExitStack() as stack:
            self._labeller = stack.enter_context(self._teacher)
            own, wanted = _identity(self._labeller, self._labels), self._order["identity"]
            if differing := [name for name in wanted if own.get(name) != wanted[name]]:
                message = (
                    f"this rank would answer differently from rank 0: it has another {' and another '.join(differing)}"
                )
                hint = "give every machine the same mlxdistill, the same configuration and the same model file"
                raise ModelError(message, hint=hint)
            journals = sorted(self._path.parent.glob("rank-*.sqlite"))  # also of ranks that have other numbers now
            self.held = [record for path in journals for record in self._answers_in(path)]
            self._journal = stack.enter_context(LabelStore(self._path))
            self._number = self._number_in(self._journal)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def label(self, order: Mapping[str, Any]) -> list[list[Any]]:
        """Labels this rank's share. What the journal held before, rank 0 has committed by now."""
        self._journal.forget(self._number)
        self._journal.keep_settings(self._number, order["settings"] or {})
        rows = [Row(row_id, text) for row_id, text in order["share"]]
        hashes = {row.id: content_hash(row.text) for row in rows}
        done = frozenset((row_id, sample) for row_id, sample in order["done"])
        self._labeller.prepare(order["rows"], order["settings"])
        for wave in self._labeller.label(rows, done, _Silent()):
            self._journal.add(self._number, wave, hashes)
        return [_written(*pair) for pair in self._journal.answers_with_hashes(self._number, logprobs=True)]

    def _answers_in(self, path: Path) -> Iterator[list[Any]]:
        """Of this labeller, where they were made with the settings that are in use."""
        with LabelStore(path) as journal:
            number = self._number_in(journal)
            if _tuned(journal.settings(number)) == _tuned(self._order["settings"]):
                for pair in journal.answers_with_hashes(number, logprobs=True):
                    yield _written(*pair)

    def _number_in(self, journal: LabelStore) -> int:
        return journal.labeller(self._labeller.fingerprint, self._labeller.prompt_fingerprint, self._labels)


def _tuned(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """What answers depend on, of settings that may say more about how they were found."""
    return {name: value for name, value in (settings or {}).items() if name != "job_rows"}


def _identity(labeller: Labeller, labels: Sequence[str]) -> dict[str, Any]:
    """What must be the same on every rank, by the name that a user is told."""
    return {
        "version of mlxdistill": __version__,
        "model file, llama-cpp-python or teacher setting": labeller.fingerprint,
        "prompt": labeller.prompt_fingerprint,
        "list of labels": list(labels),
        "number of answers a row": list(labeller.samples),
    }


def _asked(rows: Iterable[Row], done: frozenset[tuple[str, int]], samples: Sequence[int]) -> int:
    return sum(any((row.id, sample) not in done for sample in samples) for row in rows)


def _written(answer: Answer, digest: str) -> list[Any]:
    """For JSON: the fields of the answer, then the hash of the row's text."""
    fields = {name: getattr(answer, name) for name in _FIELDS}
    if answer.logprobs is not None:
        fields["logprobs"] = base64.b64encode(answer.logprobs.packed).decode()
    return [*fields.values(), digest]


def _read(record: Sequence[Any]) -> Answer:
    answer = dict(zip(_FIELDS, record, strict=False))
    shares, packed = answer["probabilities"], answer["logprobs"]
    answer["probabilities"] = None if shares is None else tuple(shares)
    answer["logprobs"] = None if packed is None else TokenLogprobs(base64.b64decode(packed))
    return Answer(**answer)


class _Silent:
    def advance(self, done: int, total: int, **figures: float) -> None:
        return

    def note(self, message: str) -> None:
        return


class _Scaled:
    """Progress of rank 0's share as progress of the whole."""

    def __init__(self, progress: Progress, factor: float) -> None:
        self._progress = progress
        self._factor = factor

    def advance(self, done: int, total: int, **figures: float) -> None:
        self._progress.advance(int(done * self._factor), int(total * self._factor), **figures)

    def note(self, message: str) -> None:
        self._progress.note(message)
