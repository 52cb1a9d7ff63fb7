"""Where things lie in a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunDir:
    """`runs/<name>/`: every path that stages share, by its name."""

    path: Path

    def shown(self, path: Path) -> str:
        """A path inside the run folder, as its user is told of it."""
        return str(path.relative_to(self.path))

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def pool(self) -> Path:
        return self.path / "rows" / "pool.jsonl"

    @property
    def valid(self) -> Path:
        return self.path / "rows" / "valid.jsonl"

    @property
    def budget(self) -> Path:
        return self.path / "rows" / "budget.json"

    @property
    def synthetic(self) -> Path:
        return self.path / "rows" / "synthetic.jsonl"

    @property
    def drafts(self) -> Path:
        return self.path / "rows" / "drafts.jsonl"

    @property
    def synthesis(self) -> Path:
        return self.path / "rows" / "synthesis.json"

    @property
    def bad_lines(self) -> Path:
        return self.path / "rows" / "bad_lines.jsonl"

    @property
    def bad_log_lines(self) -> Path:
        return self.path / "rows" / "bad_log_lines.jsonl"

    @property
    def test_indist(self) -> Path:
        return self.path / "rows" / "test_indist.jsonl"

    @property
    def test_balanced(self) -> Path:
        return self.path / "rows" / "test_balanced.jsonl"

    @property
    def test_sets(self) -> dict[str, Path]:
        return {"test_indist": self.test_indist, "test_balanced": self.test_balanced}

    @property
    def labels(self) -> Path:
        return self.path / "labels.sqlite"

    @property
    def review(self) -> Path:
        return self.path / "review.json"

    @property
    def student(self) -> Path:
        return self.path / "student"

    @property
    def student_data(self) -> Path:
        return self.path / "student" / "data"

    @property
    def adapters(self) -> Path:
        return self.path / "student" / "adapters"

    @property
    def checkpoints(self) -> Path:
        return self.path / "student" / "checkpoints"

    @property
    def dynamics(self) -> Path:
        return self.path / "student" / "dynamics.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "evaluation" / "metrics.json"

    @property
    def predictions(self) -> Path:
        return self.path / "evaluation" / "predictions.jsonl"

    @property
    def learning_curve(self) -> Path:
        return self.path / "evaluation" / "learning_curve.json"

    @property
    def sweep(self) -> Path:
        return self.path / "evaluation" / "sweep.json"

    @property
    def children(self) -> Path:
        return self.path / "children"

    @property
    def prompts(self) -> Path:
        return self.path / "evaluation" / "prompts.json"

    @property
    def prompt_costs(self) -> Path:
        return self.path / "evaluation" / "prompt_costs.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"


@dataclass(frozen=True, slots=True)
class DerivedRun(RunDir):
    """A run that reads the rows and the labels of another, and keeps what it makes of them in a folder of its own.

    Attributes:
        parent: the run whose rows and labels they are.
    """

    parent: RunDir

    @property
    def pool(self) -> Path:
        return self.parent.pool

    @property
    def synthetic(self) -> Path:
        return self.parent.synthetic

    @property
    def valid(self) -> Path:
        return self.parent.valid

    @property
    def budget(self) -> Path:
        return self.parent.budget

    @property
    def test_indist(self) -> Path:
        return self.parent.test_indist

    @property
    def test_balanced(self) -> Path:
        return self.parent.test_balanced

    @property
    def labels(self) -> Path:
        return self.parent.labels
