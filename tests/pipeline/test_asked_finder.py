"""A teacher asked for personal data: everything is asked once, and what is kept holds no text.

The embedded teacher is no judge of personal data; what is tested is the way of its answers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlxdistill.config.data import DataConfig
from mlxdistill.config.models import TeacherConfig
from mlxdistill.data.fields import Columns, RowMaker
from mlxdistill.data.redaction import Redactor, Span
from mlxdistill.errors import DataError
from mlxdistill.pipeline.quoting import AskedFinder, asked_finder, asked_teacher
from mlxdistill.pipeline.redaction import CountedChange, prepare_texts
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.lines import BadLine, Record
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


@dataclass
class Short(Quoter):
    """Reads so many characters of a text, and quotes Jane where it reads of her."""

    answer: str = '{"found": [{"kind": "name", "text": "Jane Roe"}]}'
    fits: int = 600

    def label(self, rows: list[Any], done: Any, progress: Any) -> Any:
        self.asked += [row.text for row in rows]
        yield [
            Answer(
                row.id,
                None,
                outcome="truncated" if len(row.text) > self.fits else "answered",
                text=self.answer if "Jane Roe" in row.text[: self.fits] else FORM.shortest(""),
            )
            for row in rows
        ]


def finder(quoter: Any, progress: Any, run: RunDir | None, *, strict: bool = False) -> AskedFinder:
    return AskedFinder(quoter, FORM, 256, progress, run, strict=strict)


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
    assert "cut off (data.redact_max_tokens)" in progress.notes[0]
    assert quoter.asked == ["I am Jane, jane@corp.com"]


@pytest.mark.parametrize("fits", [5000, 600])
def test_a_long_text_is_asked_about_in_pieces_that_fit(tmp_path: Path, progress: Any, fits: int) -> None:
    """Wherever a name stands, also where a piece ends, and before a cache is trusted again."""
    texts = [f"{'说' * before}Jane Roe{'说' * (5000 - before)}" for before in (0, 995, 1997, 4999)]
    quoter = Short(fits=fits)
    run = RunDir(tmp_path)
    for found in (finder(quoter, progress, run, strict=True).find(texts), finder(quoter, progress, run).find(texts)):
        assert [text[span.start : span.end] for text, (span,) in zip(texts, found, strict=True)] == ["Jane Roe"] * 4
    assert len((tmp_path / "rows/quoted.jsonl").read_text("utf-8").splitlines()) == 4
    assert max(map(len, quoter.asked)) < 2100
    assert progress.notes == []


def test_a_list_that_is_cut_off_is_asked_for_again_in_pieces(progress: Any) -> None:
    """The outcome of such an answer does not say whether the text was read to its end."""
    quoter = Quoter('{"found": [{"kind": "na')
    assert finder(quoter, progress, None).find(["word " * 100]) == [[]]
    assert len(quoter.asked) > 2
    assert "1 texts: the teacher's list" in progress.notes[0]


def test_a_text_that_never_fits_is_an_error_or_said_and_never_kept(tmp_path: Path, progress: Any) -> None:
    texts, run = ["I am Jane Roe " + "and so on " * 50, "Jane Roe"], RunDir(tmp_path)
    for _ in range(2):
        with pytest.raises(DataError, match="1 texts do not fit the teacher's context") as raised:
            finder(Short(fits=100), progress, run, strict=True).find(texts)
    assert "teacher.n_ctx" in (raised.value.hint or "")
    assert finder(Short(fits=100), progress, run).find(texts) == [[Span(5, 13, "name")], [Span(0, 8, "name")]]
    assert "1 texts do not fit" in progress.notes[0]
    assert len((tmp_path / "rows/quoted.jsonl").read_text("utf-8").splitlines()) == 1


@pytest.mark.parametrize("when", ["before", "report"])
def test_groups_and_answers_are_asked_about_with_the_texts_and_never_counted(
    tmp_path: Path, progress: Any, when: Any
) -> None:
    records = [
        {
            "text": f"text {number}",
            "customer": f"Jane Roe {number}",
            "messages": [],
            "response": f"so Jane Roe {number}",
        }
        for number in range(20)
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    data = DataConfig(
        source=str(source), fields={"text": "text"}, group="customer", redact=when, redact_with=("teacher",)
    )
    quoter = Short()
    redactor = Redactor(finders=[finder(quoter, progress, None)])
    prepare_texts(SimpleNamespace(data=data), redactor, progress)
    asked = len(quoter.asked)
    assert asked == (60 if when == "before" else 20)
    change = CountedChange(redactor, when)
    maker = RowMaker(Columns.of(data), SimpleNamespace(read=lambda *_: None), change)
    made = [maker.make(Record(number, record), {}) for number, record in enumerate(records)]
    assert len(quoter.asked) == asked
    assert change.figures == {"values": {}, "texts": 0}
    meta = [each.row.meta for each in made if not isinstance(each, BadLine)]
    assert len({each["group"] for each in meta}) == 20
    left = sum("Jane" in value for each in meta for value in each.values())
    assert left == (0 if when == "before" else 40)


def test_a_real_model_is_asked_under_the_grammar(tmp_path: Path, progress: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    teachers = {"log": TeacherConfig(log=("x",)), "model": TeacherConfig(model="embedded:teacher", n_ctx=1024)}
    data = SimpleNamespace(redact_kinds=("name",), redact="after", redact_max_tokens=256)
    config: Any = SimpleNamespace(teachers=teachers, data=data)
    assert asked_teacher(config) is teachers["model"]
    with asked_finder(config, progress, RunDir(tmp_path)) as found:
        spans = found.find(["Jane Roe, jane@corp.com", "My card was stolen"])
    assert len(spans) == 2
    assert len((tmp_path / "rows/quoted.jsonl").read_text("utf-8").splitlines()) == 2
