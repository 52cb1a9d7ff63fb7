"""The teacher in its own process: answers kept, stops honoured, mistakes named."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxdistill.config.models import TeacherConfig
from mlxdistill.errors import Interrupted, ModelError, UsageError
from mlxdistill.platform.cores import usable_cores
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row
from mlxdistill.teacher.engine import Model
from mlxdistill.teacher.labeller import LlamaLabeller, open_labeller
from mlxdistill.teacher.remembered import remember, remembered

TASK = ClassificationTask("Which is it?", (Label("fine", "civil", "ok"), Label("bad", "rude", "toxic a")))
ROWS = [Row(f"row-{number}", "card lost " * (number % 7) + "ok") for number in range(40)]
NONE: frozenset[tuple[str, int]] = frozenset()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def config_for(path: Path, **settings: Any) -> TeacherConfig:
    return TeacherConfig(
        model=str(path), **{"n_ctx": 512, "n_batch": 256, "n_seq": 8, "kv": "unified", "threads": 1, **settings}
    )


def opened(path: Path, progress: Any, **settings: Any) -> LlamaLabeller:
    made = open_labeller(config_for(path, **settings), TASK, progress)
    assert isinstance(made, LlamaLabeller)
    return made


def plain(answers: list[Answer]) -> list[tuple[object, ...]]:
    return [(answer.row_id, answer.label, answer.probabilities, answer.outcome) for answer in answers]


def test_labels_every_row_and_resumes_with_the_same_answers(tiny_gguf: Path, progress: Any) -> None:
    with opened(tiny_gguf, progress) as teacher:
        answers = [answer for wave in teacher.label(ROWS, NONE, progress) for answer in wave]
        assert {answer.row_id for answer in answers} == {row.id for row in ROWS}
        assert {answer.label for answer in answers} <= {"fine", "bad"}
        assert progress.advances[-1] == (40, 40)
        assert teacher.stats.rows == 40
        assert teacher.stats.tokens > 40
        assert teacher.peak_memory_bytes > 2**20
        done = frozenset((answer.row_id, 0) for answer in answers[:11])
        rest = [answer for wave in teacher.label(ROWS, done, progress) for answer in wave]
        assert plain(rest) == plain(answers[11:])


def test_nothing_is_loaded_when_everything_is_answered(tiny_gguf: Path, progress: Any) -> None:
    with opened(tiny_gguf, progress) as teacher:
        assert list(teacher.label(ROWS, frozenset((row.id, 0) for row in ROWS), progress)) == []
        assert teacher.peak_memory_bytes == 0
        assert not progress.notes


def test_ctrl_c_stops_after_the_wave_and_keeps_it(tiny_gguf: Path, progress: Any) -> None:
    kept: list[Answer] = []
    with opened(tiny_gguf, progress) as teacher:
        whole = [answer for wave in teacher.label(ROWS, NONE, progress) for answer in wave]
    with opened(tiny_gguf, progress) as teacher, pytest.raises(Interrupted):
        for wave in teacher.label(ROWS, NONE, progress):
            kept += wave
            if len(kept) == len(wave):
                os.kill(os.getpid(), signal.SIGINT)
    assert 0 < len(kept) < len(ROWS)
    with opened(tiny_gguf, progress) as teacher:
        done = frozenset((answer.row_id, 0) for answer in kept)
        rest = [answer for wave in teacher.label(ROWS, done, progress) for answer in wave]
    assert plain(kept + rest) == plain(whole)


def test_leaving_in_the_middle_leaves_a_teacher_that_can_be_asked_again(tiny_gguf: Path, progress: Any) -> None:
    with opened(tiny_gguf, progress) as teacher:
        waves = teacher.label(ROWS, NONE, progress)
        first = next(iter(waves))
        waves.close()  # type: ignore[attr-defined]
        again = next(iter(teacher.label(ROWS, NONE, progress)))
    assert plain(first) == plain(again)


def test_truncated_rows_are_counted(tiny_gguf: Path, progress: Any) -> None:
    with opened(tiny_gguf, progress) as teacher:
        (wave,) = teacher.label([Row("long", "toxic " * 2000)], NONE, progress)
        assert [answer.outcome for answer in wave] == ["truncated"]
        assert teacher.stats.truncated == 1


def test_fingerprints_change_with_what_they_are_for(
    tiny_gguf: Path, make_gguf: Callable[..., Path], progress: Any
) -> None:
    base = opened(tiny_gguf, progress)
    assert opened(tiny_gguf, progress).fingerprint == base.fingerprint
    for other in (
        opened(make_gguf(seed=1), progress),
        opened(tiny_gguf, progress, n_batch=128),
        opened(tiny_gguf, progress, n_ctx=256),
        opened(tiny_gguf, progress, n_seq=4),
        opened(tiny_gguf, progress, thinking=True),
    ):
        assert other.fingerprint != base.fingerprint
        assert other.prompt_fingerprint == base.prompt_fingerprint
    prompted = LlamaLabeller(config_for(tiny_gguf), TASK, progress, "{names}? {text}\n")
    assert prompted.fingerprint == base.fingerprint
    assert prompted.prompt_fingerprint != base.prompt_fingerprint


def test_the_sha256_is_remembered_until_the_file_changes(tiny_gguf: Path, cache: Path, progress: Any) -> None:
    first = opened(tiny_gguf, progress).fingerprint
    memory = cache / "mlxdistill" / "sha256.json"
    known = json.loads(memory.read_text())
    memory.write_text(json.dumps(dict.fromkeys(known, "remembered")))
    assert opened(tiny_gguf, progress).fingerprint != first
    memory.write_text("not json")
    assert opened(tiny_gguf, progress).fingerprint == first


def test_thinking_is_closed_unless_asked_for(make_gguf: Callable[..., Path], progress: Any) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    path = make_gguf(chat_template=template)
    closed = opened(path, progress)._request.prompts[0]
    assert closed.after.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert opened(path, progress, thinking=True)._request.prompts[0].after.endswith("assistant\n<think>\n")


def test_models_that_cannot_be_asked(make_gguf: Callable[..., Path], tmp_path: Path, progress: Any) -> None:
    with pytest.raises(ModelError, match="has no chat template") as raised:
        opened(make_gguf(chat_template=None), progress)
    assert "instruction-tuned" in str(raised.value.hint)
    broken = make_gguf(chat_template="{% if %}")
    with pytest.raises(ModelError, match="template fails in its line 1") as raised:
        opened(broken, progress)
    assert raised.value.where == str(broken)
    with pytest.raises(ModelError, match="no such model"):
        opened(tmp_path / "missing.gguf", progress)
    (tmp_path / "wrong.gguf").write_bytes(b"hello")
    with pytest.raises(ModelError, match="not a GGUF file"):
        opened(tmp_path / "wrong.gguf", progress)
    with pytest.raises(ModelError, match="was not pulled") as raised:
        open_labeller(TeacherConfig(model="org/none"), TASK, progress)
    assert raised.value.hint == "mlxdistill pull org/none"


def test_what_llama_cpp_does_not_load_is_named(make_gguf: Callable[..., Path], progress: Any) -> None:
    path = make_gguf()
    data = path.read_bytes()
    assert data.count(b"blk.1.ffn_down.weight") == 1
    path.write_bytes(data.replace(b"blk.1.ffn_down.weight", b"blk.1.ffn_none.weight"))
    with (
        opened(path, progress) as teacher,
        pytest.raises(ModelError, match="does not load this model") as raised,
    ):
        list(teacher.label(ROWS, NONE, progress))
    assert raised.value.where == str(path)


def test_llama_cpps_reason_is_its_first_complaint_and_no_remark_before_it(make_gguf: Callable[..., Path]) -> None:
    path = make_gguf()
    data = path.read_bytes()
    assert data.count(b"\x05\0\0\0\0\0\0\0llama") == 1
    path.write_bytes(data.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0zzzzz"))
    with pytest.raises(ModelError) as raised:
        Model(path)
    assert raised.value.message == (
        "llama.cpp does not load this model (error loading model: unknown model architecture: 'zzzzz')"
    )
    assert raised.value.hint


def test_how_the_model_was_run_is_told_and_the_number_of_threads_changes_no_answer(
    tiny_gguf: Path, progress: Any
) -> None:
    found = {}
    for threads in (1, 2, None):
        with opened(tiny_gguf, progress, threads=threads, n_ctx=4096) as teacher:
            assert teacher.settings is None
            found[threads] = plain([answer for wave in teacher.label(ROWS, NONE, progress) for answer in wave])
            assert teacher.settings is not None
            assert teacher.settings["threads"] == threads or threads is None
            assert teacher.settings["threads"] in range(1, usable_cores() + 1) or threads is not None
            expected = {"n_ctx": 512, "n_batch": 256, "n_seq": 8, "threads": 0, "kv": "unified"}
            assert teacher.settings | {"threads": 0} == expected
    assert found[1] == found[2] == found[None]
    assert opened(tiny_gguf, progress, threads=2).fingerprint == opened(tiny_gguf, progress).fingerprint


def test_what_was_tuned_is_reused_by_the_job_and_by_the_next(tiny_gguf: Path, progress: Any) -> None:
    free = {"n_batch": None, "n_seq": None, "kv": None}
    with opened(tiny_gguf, progress, **free) as teacher:
        teacher.prepare(len(ROWS), {"n_ctx": 512, "n_batch": 96, "n_seq": 5, "kv": "split", "threads": 7})
        first = plain([answer for wave in teacher.label(ROWS, NONE, progress) for answer in wave])
        assert teacher.tuned is not None
        assert teacher.tuned.reason == "as for the answers already there"
        assert teacher.settings == {"n_ctx": 512, "n_batch": 96, "n_seq": 5, "kv": "split", "threads": 1}
    key = teacher._machine_key
    assert remembered(key) == {"tokens_per_second": pytest.approx(teacher.stats.tokens_per_second)}  # it was not tuned
    remember(key, 1000.0, {"n_batch": 96, "n_seq": 5, "kv": "split"})
    with opened(tiny_gguf, progress, **free | {"n_seq": 4}) as teacher:
        teacher.prepare(len(ROWS), None)
        assert len(plain([answer for wave in teacher.label(ROWS, NONE, progress) for answer in wave])) == len(first)
        assert teacher.settings == {"n_ctx": 512, "n_batch": 96, "n_seq": 4, "kv": "split", "threads": 1}
        assert teacher.tuned is not None
        assert teacher.tuned.reason == "the fastest when tried on this machine before"
    assert remembered(key)["n_seq"] == 5


@pytest.mark.parametrize(
    "found", ["not json", "[]", '{"key": 3}', '{"key": {"n_batch": "many", "tokens_per_second": -1.0}}']
)
def test_a_damaged_memory_is_no_memory(cache: Path, found: str) -> None:
    path = cache / "mlxdistill" / "teachers.json"
    path.parent.mkdir(parents=True)
    path.write_text(found)
    assert remembered("key") == {}
    remember("key", 5.0, None)
    assert remembered("key") == {"tokens_per_second": 5.0}


def test_every_label_order_is_asked(tiny_gguf: Path, progress: Any) -> None:
    with opened(tiny_gguf, progress, label_orders=5) as teacher:
        assert teacher.samples == (0, 1)
        answers = [answer for wave in teacher.label(ROWS, NONE, progress) for answer in wave]
        assert len({(answer.row_id, answer.sample) for answer in answers}) == len(answers) == 2 * len(ROWS)
    with opened(tiny_gguf, progress) as plain_teacher:
        assert plain_teacher.prompt_fingerprint == teacher.prompt_fingerprint
        only = [answer for wave in plain_teacher.label(ROWS, NONE, progress) for answer in wave]
    first = [answer.probabilities for answer in answers if answer.sample == 0]
    assert np.allclose([answer.probabilities for answer in only], first, rtol=0.05)
    assert not np.allclose([answer.probabilities for answer in answers if answer.sample == 1], first, rtol=0.05)


def test_a_prompt_without_labels_has_no_orders(tiny_gguf: Path, progress: Any) -> None:
    with pytest.raises(UsageError, match="lists no labels") as raised:
        LlamaLabeller(config_for(tiny_gguf, label_orders=2), TASK, progress, "{instruction} {text}\n")
    assert "{names}" in str(raised.value.hint)
