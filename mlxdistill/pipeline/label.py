"""label: the teachers answer every row of the pool, the validation rows and both test sets.

Without gold, the balanced test set can only be drawn now, by the teachers' answers; from then on it is frozen too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mlxdistill.config.models import Config
from mlxdistill.data.splits import draw_balanced
from mlxdistill.errors import DataError
from mlxdistill.pipeline.asking import Asked, ask, key_of, open_teacher
from mlxdistill.pipeline.budget import budget_figures, budget_in_force, choice_in_force
from mlxdistill.pipeline.settling import Settled, settle, settling_inputs, settling_lines
from mlxdistill.pipeline.stage import Context, Need, Result, Stage, prompt_template
from mlxdistill.pipeline.synthetic import synthetic_inputs
from mlxdistill.pipeline.training_labels import people_inputs
from mlxdistill.rundir.files import write_jsonl
from mlxdistill.rundir.manifest import Work
from mlxdistill.store import LabelStore
from mlxdistill.tasks.lines import BadLines
from mlxdistill.tasks.logs import check_log
from mlxdistill.tasks.rows import content_hash, read_rows, write_rows
from mlxdistill.teacher.label import answers_of
from mlxdistill.teacher.labeller import check_teacher


def _inputs(context: Context) -> Mapping[str, Any]:
    fingerprints = []
    for name in context.config.teachers:
        labeller = open_teacher(context, name)
        fingerprints.append((labeller.fingerprint, labeller.prompt_fingerprint))
    teachers, prompts = zip(*fingerprints, strict=True)
    several = len(fingerprints) > 1
    return {
        "rows": context.inputs_of("ingest"),
        "teacher": teachers if several else teachers[0],
        "prompt": prompts if several else prompts[0],
        "labels": context.task.names,
        **_keeping_inputs(context.config),
        **_settling_inputs(context),
        **_spending_inputs(context),
        **synthetic_inputs(context.run),
    }


def _settling_inputs(context: Context) -> dict[str, Any]:
    """What the final answers depend on besides those given; of rules that are fitted on gold, that by people too."""
    rules = settling_inputs(context.config)
    return {**rules, **people_inputs(context.run, ("valid",))} if rules else {}


def _keeping_inputs(config: Config) -> dict[str, Any]:
    """What is kept of answers besides what they say; nothing where nothing is."""
    kept = {name: teacher.keep_logprobs for name, teacher in config.teachers.items()}
    return {"keep_logprobs": kept} if any(kept.values()) else {}


def _spending_inputs(context: Context) -> dict[str, Any]:
    """What decides which rows are asked about; nothing where all of them are."""
    near = {name: teacher.near_duplicates for name, teacher in context.config.teachers.items()}
    budget = budget_in_force(context)
    copying = {"near_duplicates": near} if any(near.values()) else {}
    return copying if budget is None else {**copying, "budget": budget}


def _work(context: Context) -> Result:
    with LabelStore(context.run.labels) as store:
        teachers = [ask(context, store, name) for name in context.config.teachers]
        for teacher in teachers:
            _check_usable(context, teacher)
        bad_lines = _bad_lines(context, teachers)
        settled = settle(context, store, teachers)
        outputs = _test_balanced(context, store, settled.number)
    for line in settling_lines(settled):
        context.reporter.note(line)
    several = len(teachers) > 1
    settings = {teacher.name: teacher.settings for teacher in teachers}
    threads = [teacher.threads for teacher in teachers]
    work = Work(
        rows_in=teachers[0].summary.rows,
        rows_out=settled.rows,
        threads=None if None in threads else max(threads, key=int),  # type: ignore[arg-type]
        seed=context.config.data.seed if outputs else None,
        settings=settings if several else teachers[0].settings,
    )
    counted = "; ".join(f"{teacher.name}: {teacher.counted}" for teacher in teachers)
    figures = {**bad_lines, **_figures(teachers, settled), "labeller": settled.number, **budget_figures(context.run)}
    return Result(outputs, work, figures, counted if several else teachers[0].counted)


def _check_usable(context: Context, teacher: Asked) -> None:
    """Raises DataError where none of a teacher's answers names a label."""
    summary = teacher.summary
    given = summary.from_store + summary.new
    if given and summary.unparsable == given:
        hint = "look at what it wrote: mlxdistill labels show RUN ROW --text"
        if teacher.config.answer == "generate":
            hint = (
                "raise max_tokens, or use `format: json` or `answer: score`; `mlxdistill labels show` has the answers"
            )
        message = f"none of the {given:,} answers of {teacher.name} names a label of the task"
        raise DataError(message, where=str(context.run.labels), hint=hint)


def _figures(teachers: Sequence[Asked], settled: Settled) -> dict[str, Any]:
    """What the manifest keeps of the only teacher; of several, of each under its name, and what they took together."""
    effects = {"effects": list(settled.effects)} if settled.effects else {}
    if len(teachers) == 1:
        return {**teachers[0].figures, **effects}
    peaks = [teacher.peak_memory_bytes for teacher in teachers if teacher.peak_memory_bytes]
    speeds = [teacher.rows_per_second for teacher in teachers if teacher.rows_per_second]
    return {
        "teachers": {
            teacher.name: {
                **teacher.figures,
                **settled.reliabilities[teacher.name],
                "labeller": settled.numbers[teacher.name],
            }
            for teacher in teachers
        },
        "rows_per_second": 1 / sum(1 / speed for speed in speeds) if speeds else None,
        "peak_memory_bytes": max(peaks, default=None),
        **effects,
    }


def _bad_lines(context: Context, teachers: Sequence[Asked]) -> dict[str, Any]:
    """What ingest says of the source's bad lines, of those of recorded teachers' logs."""
    path = context.run.bad_log_lines
    if all(teacher.config.log is None for teacher in teachers):
        path.unlink(missing_ok=True)
        return {}
    bad = BadLines(strict=False, records=[record for teacher in teachers for record in teacher.bad_lines])
    write_jsonl(path, bad.records)
    if bad.records:
        context.reporter.note(bad.note(context.run.shown(path)))
    return {"bad_lines": len(bad.records), "first_bad_lines": bad.first}


def _test_balanced(context: Context, store: LabelStore, number: int) -> list[Path]:
    """Where there is no gold to draw it by, test_balanced, drawn by the teachers' answers once and for all.

    Its rows stay in the pool's file; the filters hold them out of training.
    """
    run, wanted = context.run, context.config.data.test.balanced
    if not isinstance(wanted, int) or context.manifest.figures("ingest")["has_gold"]:
        return []
    if not run.test_balanced.exists():
        pool = read_rows(run.pool)
        answers = answers_of(store, number, {row.id: content_hash(row.text) for row in pool})
        # Test rows are answered by the teacher itself, and chosen by nothing but chance.
        choice = choice_in_force(run)
        labels = {
            row_id: label
            for row_id, answer in answers.items()
            if (label := answer.label) is not None
            and answer.copied_from is None
            and (choice is None or row_id in choice.drawn)
        }
        drawn = draw_balanced(pool, labels, wanted, context.config.data.seed, context.task.names)
        write_rows(run.test_balanced, list(drawn.test_balanced))
        for note in drawn.notes:
            context.reporter.note(note)
        count = len(drawn.test_balanced)
        context.reporter.note(f"test_balanced: {count:,} rows drawn by the teacher's answers, since there is no gold")
    return [run.test_balanced]


def _needs(config: Config) -> Iterator[Need]:
    fields = config.data.fields
    for name, teacher in config.teachers.items():
        key = key_of(config, name)
        if teacher.prompt is not None:
            prompt = ".".join(map(str, (*key, "prompt")))
            yield Need((*key, "prompt"), partial(prompt_template, teacher.prompt, prompt))
        if teacher.model is not None:
            yield Need((*key, "model"), partial(check_teacher, teacher.model, thinking=teacher.thinking))
        for log in teacher.log or ():
            look = partial(check_log, Path(log), text_column=fields.text, id_column=fields.id)
            yield Need((*key, "log"), look)


STAGE = Stage("label", _needs, _inputs, _work, is_kept=lambda run: run.labels.exists(), frozen=True)
