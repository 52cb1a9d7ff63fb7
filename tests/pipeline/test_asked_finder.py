"""A teacher asked for personal data: everything is asked once, and what is kept holds no text.

The embedded teacher is no judge of personal data; what is tested is the way of its answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlxdistill.config.models import TeacherConfig
from mlxdistill.data.redaction import Redactor, Span
from mlxdistill.pipeline.quoting import AskedFinder, asked_finder, asked_teacher
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.quoting import QuoteForm

FORM = QuoteForm(("name", "email"))


@dataclass
class Quoter:
    """Quotes what it was told to."""

    answer: str
    info: Any = field(default_factory=lambda: SimpleNamespace(files=()))
    asked: list[str] = field(default_factory=list)

    def label(self, rows: list[Any], done: Any, progress: Any) -> Any:
        self.asked += [row.text for row in rows]
        outcome = "answered" if FORM.is_complete(self.answer) else "unparsable"
        yield [Answer(row.id, None, outcome=outcome, text=self.answer) for row in rows]


def finder(quoter: Any, progress: Any, run: RunDir | None) -> AskedFinder:
    return AskedFinder(quoter, FORM, 256, progress, run)


def test_what_was_asked_once_is_kept_as_places(tmp_path: Path, progress: Any) -> None:
    quoter = Quoter('{"found": [{"kind": "name", "text": "Jane"}, {"kind": "email", "text": "not there"}]}')
    run = RunDir(tmp_path)
    first = finder(quoter, progress, run)
    assert first.find(["I am Jane", "I am Joe", "I am Jane"]) == [[Span(5, 9, "name")], [], [Span(5, 9, "name")]]
    kept = tmp_path / "rows/quoted.jsonl"
    assert "Jane" not in kept.read_text("utf-8")
    assert kept.stat().st_mode & 0o777 == 0o600
    with kept.open("a", encoding="utf-8") as file:
        file.write('{"asked": "torn')
    assert finder(quoter, progress, run).find(["I am Joe", "I am Jane"]) == [[], [Span(5, 9, "name")]]
    assert quoter.asked == ["I am Jane", "I am Joe"]


def test_an_answer_that_was_cut_off_is_used_and_said(progress: Any) -> None:
    quoter = Quoter('{"found": [{"kind": "name", "text": "Jane"}, {"kind": "na')
    redacted = Redactor(finders=[finder(quoter, progress, None)]).redact("I am Jane, jane@corp.com")
    assert redacted.text == "I am [NAME], [EMAIL]"
    assert "cut off" in progress.notes[0]
    assert quoter.asked == ["I am Jane, jane@corp.com"]


def test_a_real_model_is_asked_under_the_grammar(tmp_path: Path, progress: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    teachers = {"log": TeacherConfig(log=("x",)), "model": TeacherConfig(model="embedded:teacher", n_ctx=1024)}
    data = SimpleNamespace(redact_kinds=("name",))
    config: Any = SimpleNamespace(teachers=teachers, data=data)
    assert asked_teacher(config) is teachers["model"]
    with asked_finder(config, progress, RunDir(tmp_path)) as found:
        spans = found.find(["Jane Roe, jane@corp.com", "My card was stolen"])
    assert len(spans) == 2
    assert len((tmp_path / "rows/quoted.jsonl").read_text("utf-8").splitlines()) == 2
