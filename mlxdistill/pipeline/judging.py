"""The teacher as a judge of labels: first checked on validation rows with gold, then asked about what is left.

Before it may drop anything, it grades the gold label and a wrong one of each validation row with gold. Where it cannot
be shown to tell them apart (the interval of the AUROC holds 0.5), it is not used. The wrong label is the hardest there
is: the teacher's own where that is wrong, else the one that it found second most probable. What the judge would drop
among the teacher's labels of these rows, and how much of it is wrong, is told beside how much is wrong of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from mlxdistill.config.filter import JudgeConfig
from mlxdistill.config.models import Config, TeacherConfig
from mlxdistill.evaluation.records import Record
from mlxdistill.evaluation.samples import make_sample
from mlxdistill.evaluation.scores import Resampling, probability_scores
from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.judge import Graded, Judge, worst
from mlxdistill.pipeline.answers import teacher_answers
from mlxdistill.pipeline.stage import Context
from mlxdistill.pipeline.training_labels import people_inputs, with_people
from mlxdistill.statistics.intervals import wilson
from mlxdistill.store import LabelStore
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, content_hash, read_rows
from mlxdistill.teacher.judging import GRADES, Proposal, grade, judge_prompt, open_judge

CHANCE = 0.5
NO_GOLD = "no validation row with gold was labelled by the teacher, so that nothing shows that the judge can tell"


@dataclass(frozen=True, slots=True)
class Check:
    """What the judge is worth, on validation rows with gold; shares and the AUROC with their intervals, as JSON.

    Attributes:
        rows: how many.
        auroc: how often it grades a gold label above a wrong one.
        named: how many of the teacher's labels it would drop there; `precision`: how many of these are wrong.
        errors: how many of all the teacher's labels there are wrong.
        unused: why the judge is not to be believed; None where it is.
        insisted: whether it is used all the same.
    """

    rows: int
    auroc: dict[str, Any] | None
    named: int
    precision: dict[str, Any] | None
    errors: dict[str, Any] | None
    unused: str | None
    insisted: bool = False

    @property
    def sentence(self) -> str:
        """For the user."""
        if self.auroc is None:
            return "not checked"
        said = f"tells a gold label from a wrong one with an AUROC of {_measured(self.auroc, 1, 2)}"
        said += f" on {self.rows:,} validation rows with gold"
        if self.precision is not None and self.errors is not None:
            said += f"; of what it would drop there ({self.named:,}) {_measured(self.precision, 100, 1)} % is wrong,"
            said += f" of all labels {_measured(self.errors, 100, 1)} %"
        return said


def judge_of(config: Config) -> tuple[str, TeacherConfig]:
    """The name and the settings of the teacher that judges. The configuration was found to have one."""
    assert config.filter.judge is not None
    wanted = config.filter.judge.teacher
    usable = {name: teacher for name, teacher in config.teachers.items() if teacher.model is not None}
    return next((name, teacher) for name, teacher in usable.items() if wanted in (None, name))


def judge_inputs(context: Context) -> dict[str, Any]:
    """What the filters depend on besides the labels, whose inputs tell the model, and their keys."""
    if context.config.filter.judge is None:
        return {}
    return {"judge": [judge_prompt(context.task), people_inputs(context.run, ("valid",))]}


class Judging:
    """The judge of a run. A context manager: the model's process ends with the block.

    Attributes:
        check: None before `judge` was called.
        notes: what the user was told of it.
    """

    def __init__(self, context: Context, store: LabelStore) -> None:
        config = context.config
        assert config.filter.judge is not None
        self._context = context
        self._store = store
        self._limit: JudgeConfig = config.filter.judge
        name, teacher = judge_of(config)
        self._labeller = open_judge(teacher, context.task, context.reporter)
        self._number = store.labeller(
            self._labeller.fingerprint,
            self._labeller.prompt_fingerprint,
            tuple(GRADES),
            {"name": f"{name} as a judge", "model": teacher.model, "judges": list(context.task.names)},
        )
        self.check: Check | None = None
        self.notes: list[str] = []

    def __enter__(self) -> Judging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._labeller.__exit__(kind, error, trace)

    def judge(self) -> Judge:
        """The filter, once the judge was checked."""
        self.check = check = self._checked()
        self.notes = [f"judge: {check.sentence}"]
        if check.unused is not None and check.insisted:
            self.notes.append(f"judge: used all the same, as filter.judge.insist says: {check.unused}")
        elif check.unused is not None:
            hint = "filter.judge.insist would use it all the same"
            self.notes.append(f"judge: not used, and drops nothing: {check.unused}; {hint}")
        for note in self.notes:
            self._context.reporter.note(note)
        return Judge(
            self._limit, self._context.config.filter.seed, self._grades, None if check.insisted else check.unused
        )

    @property
    def figures(self) -> dict[str, Any]:
        """What the manifest keeps of it."""
        found = {} if self.check is None else asdict(self.check)
        peak = self._labeller.peak_memory_bytes or None
        return {**found, "labeller": self._number, "answers": self._labeller.stats.rows, "peak_memory_bytes": peak}

    def _grade(self, proposals: Sequence[Proposal]) -> dict[tuple[str, int], float]:
        context = self._context
        return grade(self._labeller, self._number, proposals, context.task, self._store, context.reporter)

    def _grades(self, candidates: Sequence[Candidate]) -> Mapping[str, float]:
        names = self._context.task.names
        labelled = [(each.row, each.answer.label) for each in candidates if each.answer and each.answer.label]
        proposals = [Proposal(row, names.index(label)) for row, label in labelled]
        return {row_id: found for (row_id, _), found in self._grade(proposals).items()}

    def _checked(self) -> Check:
        context, names = self._context, self._context.task.names
        gold = [row for row in with_people(self._store, read_rows(context.run.valid), names) if row.gold in names]
        answers = teacher_answers(context, self._store, gold)
        rows = [row for row in gold if row.id in answers and answers[row.id].label is not None]
        if not rows:
            return Check(0, None, 0, None, None, NO_GOLD, self._limit.insist)
        wrong = {row.id: wrong_place(row, answers[row.id], names, context.config.filter.seed) for row in rows}
        proposals = [Proposal(row, names.index(str(row.gold))) for row in rows]
        grades = self._grade([*proposals, *(Proposal(row, wrong[row.id]) for row in rows)])
        right = [grades[proposal.key] for proposal in proposals]
        bad = [grades[row.id, wrong[row.id]] for row in rows]
        return self._scored(rows, answers, right, bad)

    def _scored(
        self, rows: Sequence[Row], answers: Mapping[str, Answer], right: Sequence[float], wrong: Sequence[float]
    ) -> Check:
        """Args: right, wrong: the grades of each row's gold label, and of its wrong one."""
        config = self._context.config
        mistaken = {row.id for row in rows if answers[row.id].label != row.gold}
        given = [
            Graded(row.id, str(answers[row.id].label), bad if row.id in mistaken else good)
            for row, good, bad in zip(rows, right, wrong, strict=True)
        ]
        named = worst(given, self._limit, config.filter.seed)
        auroc = area(rows, right, wrong, Resampling(config.evaluate.bootstrap, config.evaluate.seed))
        low = auroc["ci"][0] if auroc["ci"] else None
        unused = None
        if low is None or low <= CHANCE:
            unused = f"its AUROC of {_measured(auroc, 1, 2)} does not exclude chance, which is 0.5"
        hit = len(named.keys() & mistaken)
        return Check(
            len(rows),
            auroc,
            len(named),
            wilson(hit, len(named)).to_json() if named else None,
            wilson(len(mistaken), len(rows)).to_json(),
            unused,
            self._limit.insist,
        )


def area(rows: Sequence[Row], right: Sequence[float], wrong: Sequence[float], resampling: Resampling) -> dict[str, Any]:
    """The AUROC of grades of right labels against those of wrong ones, two of each row, with its interval.

    A row's two grades belong together, as do those of rows of one group. Where the grades do not overlap at all there
    is no error to estimate; then the interval is Wilson's, of as many rows out of as many.
    """
    records, truth = {}, {}
    for row, *grades in zip(rows, right, wrong, strict=True):
        for kind, value in zip(("right", "wrong"), grades, strict=True):
            share = (value - 1) / (len(GRADES) - 1)
            name = f"{kind} {row.id}"
            group = row.meta.get("group")
            records[name] = Record(name, "valid", "judge", kind, (1 - share, share), kind, str(group or row.id))
            truth[name] = kind
    sample = make_sample(records, truth, ("wrong", "right"))
    found: dict[str, Any] = probability_scores(sample, resampling)["auroc"]
    if found["value"] == 1:
        return wilson(len(rows), len(rows)).to_json()
    return found


def wrong_place(row: Row, answer: Answer, names: Sequence[str], seed: int) -> int:
    """The place of a wrong label of the row: the teacher's, the one it found most probable, or one drawn by chance."""
    if answer.label is not None and answer.label != row.gold:
        return names.index(answer.label)
    shares = answer.probabilities

    def rank(place: int) -> tuple[float, str]:
        return -shares[place] if shares else 0.0, content_hash(f"{seed}:{row.id}:{place}")

    return min((place for place, name in enumerate(names) if name != row.gold), key=rank)


def _measured(estimate: Mapping[str, Any], factor: float, digits: int) -> str:
    def shown(value: float) -> str:
        return f"{factor * value:.{digits}f}"

    ends = f" ({' to '.join(map(shown, estimate['ci']))})" if estimate["ci"] else ""
    return shown(estimate["value"]) + ends
