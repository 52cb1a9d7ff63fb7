"""One teacher after the other is asked about all rows; each has left the memory before the next is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from mlxdistill.config.models import Config, TeacherConfig
from mlxdistill.config.problems import teacher_key
from mlxdistill.pipeline.budget import Choice, choice_in_force, choose_rows, count_wanted, measuring_rows, pool_rows
from mlxdistill.pipeline.ranks import with_ranks
from mlxdistill.pipeline.redaction import open_redactor, text_change
from mlxdistill.pipeline.stage import Context, prompt_template
from mlxdistill.pipeline.synthetic import synthetic_rows
from mlxdistill.rundir.layout import RunDir
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Labeller, Progress
from mlxdistill.tasks.rows import Row, content_hash
from mlxdistill.teacher.asking import ModelLabeller
from mlxdistill.teacher.correction import CONTENT_FREE_TEXTS
from mlxdistill.teacher.duplicates import find_sources
from mlxdistill.teacher.label import LabelSummary, label_rows
from mlxdistill.teacher.labeller import open_labeller
from mlxdistill.teacher.recorded import RecordedLabeller

DESCRIBED = {"model", "log", "answer", "prompt", "samples", "label_orders", "temperature", "format", "rationale"}
# Of a labeller of their own (`ask_content_free`): a user's row may have such an id.
CONTENT_FREE_ROWS = tuple(
    Row(f"(content-free {place})", text) for place, text in enumerate(CONTENT_FREE_TEXTS, start=1)
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A teacher whose answers are in the store as it gave them.

    Attributes:
        name: what it is called among several.
        number: its labeller's, in the store.
        content_free: that of its answers to texts without content; None where it was not asked about any.
        fingerprint, prompt_fingerprint, samples: as of `tasks.protocols.Labeller`.
        rows_per_second: over all its answers, also those given before; None where no time was measured.
        peak_memory_bytes, settings, threads: of its process; None where nobody knows any more.
        bad_lines: those of its logs.
    """

    name: str
    config: TeacherConfig
    number: int
    content_free: int | None
    fingerprint: str
    prompt_fingerprint: str
    samples: tuple[int, ...]
    summary: LabelSummary
    rows_per_second: float | None
    peak_memory_bytes: int | None
    settings: Mapping[str, Any] | None
    threads: int | None
    bad_lines: tuple[dict[str, Any], ...]

    @property
    def figures(self) -> dict[str, Any]:
        """What the manifest keeps of it."""
        return {
            "from_store": self.summary.from_store,
            "unparsable": self.summary.unparsable,
            "truncated": self.summary.truncated,
            "missing": self.summary.missing,
            "copied": self.summary.copied,
            "labeller": self.number,
            "rows_per_second": self.rows_per_second,
            "teacher": self.fingerprint,
            "peak_memory_bytes": self.peak_memory_bytes,
        }

    @property
    def counted(self) -> str:
        """What was done, for the user."""
        parts = [f"{self.summary.new:,} {'answers given' if len(self.samples) > 1 else 'rows labelled'}"]
        parts += [f"{self.summary.from_store:,} from the store"] if self.summary.from_store else []
        counts = {name: getattr(self.summary, name) for name in ("copied", "missing", "unparsable", "truncated")}
        return ", ".join(parts + [f"{count:,} {name}" for name, count in counts.items() if count])


def open_teacher(context: Context, name: str) -> ModelLabeller | RecordedLabeller:
    """One of the configured teachers, as a context manager."""
    teacher, fields = context.config.teachers[name], context.config.data.fields
    when = ("before",) if teacher.log is not None else ()
    with open_redactor(context.config, context.reporter, context.run, when=when) as redactor:
        return open_labeller(
            teacher,
            context.task,
            context.reporter,
            prompt_template(teacher.prompt, ".".join(map(str, (*key_of(context.config, name), "prompt")))),
            text_column=fields.text,
            id_column=fields.id,
            strict=context.options.strict,
            change=text_change(redactor),
        )


def key_of(config: Config, name: str) -> tuple[str | int, ...]:
    """Where the configuration has the teacher of this name."""
    return teacher_key(config, list(config.teachers).index(name))


def rows_asked(run: RunDir) -> Iterator[Row]:
    """The rows that the last `ask` was about, one at a time."""
    return _rows_of(run, choice_in_force(run))


def _rows_of(run: RunDir, choice: Choice | None) -> Iterator[Row]:
    return chain(pool_rows(run, choice), synthetic_rows(run), measuring_rows(run))


def ask(context: Context, store: LabelStore, name: str) -> Asked:
    """Asks one teacher about every row that it has not answered yet. Its process has ended on return."""
    run, config = context.run, context.config.teachers[name]
    with open_teacher(context, name) as labeller:
        described = config.model_dump(mode="json", include=DESCRIBED)
        prompt_fingerprint = labeller.prompt_fingerprint
        number = store.labeller(
            labeller.fingerprint, prompt_fingerprint, context.task.names, {"name": name, **described}
        )
        helped = with_ranks(labeller, name, context, store, number)
        keep_logprobs = config.keep_logprobs or 0
        choice, given = choose_rows(context, store, helped, number, keep_logprobs)
        sources = {}
        if config.log is None:
            sources = find_sources(pool_rows(run, choice), measuring_rows(run), config.near_duplicates)
        total = count_wanted(run, choice) + sum(1 for _ in synthetic_rows(run))
        wanted = _rows_of(run, choice)
        summary = label_rows(helped, number, wanted, total, store, context.reporter, sources, keep_logprobs)
        summary = replace(summary, new=summary.new + given, from_store=summary.from_store - given)
        rows, seconds = store.asked_speed(number, labeller.samples)
        content_free = None
        if config.calibrate:
            content_free = ask_content_free(labeller, name, number, context.task.names, store, context.reporter)
    settings = labeller.settings or store.settings(number)
    asked = Asked(
        name,
        config,
        number,
        content_free,
        labeller.fingerprint,
        prompt_fingerprint,
        labeller.samples,
        summary,
        rows / seconds if seconds else None,
        _peak_memory(context, name, labeller),
        settings,
        1 if config.log is not None else settings["threads"] if settings else None,
        tuple(labeller.bad_lines.records) if isinstance(labeller, RecordedLabeller) else (),
    )
    _tell(context, asked)
    return asked


def ask_content_free(
    labeller: Labeller, name: str, number: int, labels: Sequence[str], store: LabelStore, progress: Progress
) -> int:
    """Asks about texts without content, which are kept where they count as nobody's rows.

    Args:
        name, number: of the teacher, and of its labeller in the store.

    Returns the number of the labeller of these answers.
    """
    fingerprint = content_hash(f"content-free texts of {labeller.fingerprint}")
    description = {"name": f"content-free texts of {name}", "content_free_of": number}
    content_free = store.labeller(fingerprint, labeller.prompt_fingerprint, labels, description)
    settings = store.settings(number)
    if settings is not None:  # the same as for the rows that they correct
        store.keep_settings(content_free, settings)
    label_rows(labeller, content_free, CONTENT_FREE_ROWS, len(CONTENT_FREE_ROWS), store, progress)
    return content_free


def _tell(context: Context, asked: Asked) -> None:
    summary, teacher = asked.summary, ".".join(map(str, key_of(context.config, asked.name)))
    if asked.config.log is not None and summary.missing:
        context.reporter.note(f"{summary.missing:,} of {summary.rows:,} rows have no logged answer")
    if summary.truncated:
        rows = -(-summary.truncated // len(asked.samples))
        context.reporter.note(
            f"{rows:,} rows did not fit in {teacher}.n_ctx, or in what the model was trained for, and lost the end of"
            " their text"
        )


def _peak_memory(context: Context, name: str, labeller: ModelLabeller | RecordedLabeller) -> int | None:
    """Of this run's process; where every answer came from the store, of the run that gave them."""
    if isinstance(labeller, RecordedLabeller) or labeller.settings is not None:
        return labeller.peak_memory_bytes
    before = context.manifest.figures("label")
    before = before.get("teachers", {}).get(name, before)
    peak: int | None = before.get("peak_memory_bytes") if before.get("teacher") == labeller.fingerprint else None
    return peak
