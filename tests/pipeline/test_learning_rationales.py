"""What a student is given to learn of what its teacher wrote: by the demo's models, and by a log.

Training on it is tested with the student; here it ends before that.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
from tests_pipeline import CONFIG, write_task

from mlxdistill.config.load import load_config
from mlxdistill.errors import DataError, Interrupted, MlxDistillError
from mlxdistill.pipeline import STAGES, Options, run_stages, teacher_rationales, train
from mlxdistill.rundir.layout import RunDir
from mlxdistill.rundir.manifest import Manifest
from mlxdistill.store import LabelStore
from mlxdistill.student.base import check_folder, load_guarded_tokenizer
from mlxdistill.student.rationale import Rationale, logprobs_record
from mlxdistill.tasks.forms import rationale_in
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, content_hash
from mlxdistill.tasks.token_logprobs import TokenLogprobs, tokenizer_marks

ROWS = 8
STAGE_NAMES = ("ingest", "label", "filter", "train")
TEACHER = """\
teacher:
  model: embedded:teacher
  answer: generate
  rationale: true
  samples: 2
  temperature: 0.2
  max_tokens: 40
  n_ctx: 512
  n_batch: 256
  n_seq: 8
  threads: 1
  near_duplicates: 0.8
"""
SMALL = (
    "data.valid=4",
    "data.test.indist=2",
    "data.test.balanced=2",
    "train.rationale_weight=0.5",
    "filter.min_confidence=null",
)
BY_MODEL = CONFIG.replace("teacher: {model: embedded:teacher, n_ctx: 512}\n", TEACHER)
BY_LOG = CONFIG.replace("teacher: {model: embedded:teacher, n_ctx: 512}\n", "teacher: {log: log.jsonl}\n")


class Reporter:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, stage: str) -> None: ...

    def end(self, stage: str, summary: str) -> None:
        self.lines.append(f"{stage}: {summary}")

    def skip(self, stage: str) -> None:
        self.lines.append(f"{stage}: skipped")

    def advance(self, done: int, total: int, **figures: float) -> None: ...

    def note(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def end(*_: object) -> NoReturn:
        raise Interrupted("enough")

    monkeypatch.setattr(train, "train_student", end)


def start(config: str, *settings: str) -> Reporter:
    loaded = load_config(write_task(Path(), config, 2 * ROWS), list(settings), {})
    reporter = Reporter()
    try:
        run_stages(loaded, RunDir(Path("run")), STAGE_NAMES, STAGES, reporter, Options())
    except Interrupted:
        return reporter
    raise AssertionError("it went on without a training")


def stages(config: str, *settings: str) -> list[str]:
    """All stages up to the training."""
    return start(config, *settings).lines


def examples() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The label examples and the rationales of the training file."""
    text = Path("run/student/data/train.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if "kind" not in line], [line for line in lines if "kind" in line]


def test_what_a_teacher_wrote_and_thought_of_every_token_is_there_to_learn() -> None:
    stages(BY_MODEL, *SMALL, "teacher.keep_logprobs=4")
    labels, reasons = examples()
    assert 2 < len(reasons) <= len(labels)
    with LabelStore(RunDir(Path("run")).labels) as store:
        model = int(Manifest(RunDir(Path("run"))).figures("label")["labeller"])
        (model,) = store.made_of(model)
        kept = {(answer.row_id, answer.text): answer for answer, _ in store.answers_with_hashes(model, logprobs=True)}
    student = load_guarded_tokenizer(check_folder("embedded:student")[0], "student")
    for line in reasons:
        answer = line["messages"][1]["content"]
        assert rationale_in(answer)
        logprobs = kept[line["id"], answer].logprobs
        assert logprobs is not None
        assert line["logprobs"] == logprobs_record(logprobs)
        assert {len(pairs) for pairs in line["logprobs"]["top"]} == {4}
        assert line["weight"] == 0.5
        assert line["logprobs"]["tokenizer"] == list(tokenizer_marks(student.encode_inside_text))
        assert student.decode(line["logprobs"]["tokens"]) == answer

    lines = stages(BY_MODEL, *SMALL)  # the answers are as good without
    assert any(line.startswith("label: 0 answers given") for line in lines)
    bare = examples()[1]
    assert not any("logprobs" in line for line in bare)
    assert [line["messages"][1]["content"] for line in bare] == [
        rationale_in(line["messages"][1]["content"]) for line in reasons
    ]
    lines = stages(BY_MODEL, *SMALL, "teacher.keep_logprobs=3", "train.rationale_weight=0")
    assert any("kept, but not learned" in line for line in lines)
    assert examples()[1] == []


def test_of_several_teachers_the_one_that_wrote_the_answer_is_found(tmp_path: Path) -> None:
    """By its text, among all answers that the final one was made of; only of teachers that keep log-probabilities."""

    def kept(token: int) -> TokenLogprobs:
        top = [(np.array([token], np.int32), np.array([-0.5], np.float32))]
        return TokenLogprobs.pack([token], top, kept=1, tokenizer=["00000000"])

    texts = [json.dumps({"rationale": why, "label": "ok"}) for why in ("first", "second", "third")]
    row, names = Row("r", "text"), ("ok", "bad")
    with LabelStore(tmp_path / "labels.sqlite") as store:
        models = [store.labeller(name, "prompt", names) for name in ("a", "b")]
        opinions = store.labeller("a's opinion", "prompt", names, {"made_of": [models[0]]})
        hashes = {"r": content_hash(row.text)}
        given = [Answer("r", "ok", text=text, sample=place, logprobs=kept(place)) for place, text in enumerate(texts)]
        store.add(models[0], given[:2], hashes)
        store.add(models[1], given[2:], hashes)
        figures = {"labeller": 9, "teachers": {"a": {"labeller": opinions}, "b": {"labeller": models[1]}}}
        teachers = {"a": SimpleNamespace(keep_logprobs=1), "b": SimpleNamespace(keep_logprobs=None)}
        config = SimpleNamespace(train=SimpleNamespace(rationale_weight=1.0), teachers=teachers)
        manifest = SimpleNamespace(figures=lambda stage: figures)
        context: Any = SimpleNamespace(config=config, manifest=manifest, reporter=Reporter())
        found = teacher_rationales.rationales(context, store, [row])
        assert found is not None
        assert [found.of(Answer("r", "ok", text=text)) for text in texts] == [
            Rationale(texts[0], kept(0)),
            Rationale(texts[1], kept(1)),
            Rationale("third"),
        ]
        assert found.of(Answer("r", "ok")) is None
        assert found.of(Answer("r", "ok", text='{"label": "ok"}')) is None


def write_log(answers: dict[bool, str]) -> None:
    """Every second row has the one answer, the others have the other."""
    write_task(Path(), BY_LOG, 2 * ROWS)
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text("utf-8").splitlines()]
    entries = []
    for number, row in enumerate(rows):
        response = answers[number % 2 == 0].replace("LABEL", row["label"])
        messages = [{"role": "user", "content": row["text"]}]
        entries.append(json.dumps({"id": row["id"], "messages": messages, "response": response}))
    Path("log.jsonl").write_text("\n".join(entries) + "\n", "utf-8")


def test_rationales_of_a_log_are_learned_where_it_has_any() -> None:
    write_log({True: '```json\n{"rationale": "Because.", "label": "LABEL"}\n```', False: "Since so.\nLabel: LABEL"})
    stages(BY_LOG, *SMALL, "teacher.answer_key=label")
    labels, reasons = examples()
    assert len(labels) == len(reasons) > 5
    assert {line["messages"][1]["content"] for line in reasons} == {"Because.", "Since so."}

    write_log({True: "LABEL", False: '{"label": "LABEL"}'})
    with pytest.raises(DataError, match="no answer of the rows to learn from has a rationale"):
        start(BY_LOG, *SMALL, "teacher.answer_key=label")


def test_a_teacher_that_only_scores_has_no_rationales_and_that_is_said_at_once() -> None:
    with pytest.raises(MlxDistillError, match="no teacher writes rationales") as caught:
        start(CONFIG, *SMALL)
    assert caught.value.where == "train.rationale_weight"
    assert not Path("run/labels.sqlite").exists()
