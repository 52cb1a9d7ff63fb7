"""The fastest limits are used; what is not worth trying is not tried; no number of threads changes an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxdistill.errors import ModelError
from mlxdistill.teacher import scoring, tuning
from mlxdistill.teacher.engine import Engine, EngineSettings, Model
from mlxdistill.teacher.lanes import Limits
from mlxdistill.teacher.prompts import LabelPrompt
from mlxdistill.teacher.scoring import Scorer, Tried
from mlxdistill.teacher.tuning import Choices, tune

DEMO = Path(__file__).parents[2] / "models" / "teacher" / "demo-teacher-q8_0.gguf"
PROMPT = LabelPrompt(
    "<|im_start|>user\n",
    "Which label fits?\n",
    "\nOne label only.",
    "<|im_end|>\n<|im_start|>assistant\n",
    ("a", "b"),
    ("report", "other"),
)
CHAINS = replace(PROMPT, verbalizers=("ok", "toxic"))
ROWS = [(str(number), "my card was lost " * (number % 5)) for number in range(30)]
MANY = 10**9
Speed = Callable[[Limits], float]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Speed], list[Limits]]:
    """Makes trials as fast as it is told (tokens a second), and returns the list of what is tried."""

    def install(speed: Speed) -> list[Limits]:
        tried: list[Limits] = []

        def try_out(scorer: Scorer, rows: Sequence[Any], waves: int, most_tokens: int | None = None) -> Tried:
            tried.append(scorer.limits)
            return Tried(waves=2, rows=len(rows), tokens=1000, seconds=1000 / speed(scorer.limits))

        monkeypatch.setattr(Scorer, "try_out", try_out)
        monkeypatch.setattr(tuning, "usable_cores", lambda: 2)
        return tried

    return install


@pytest.mark.parametrize(
    ("speeds", "fastest", "notes"),
    [
        ({2: 1.0, 1: 5.0}, 1, ["decoding with 1 of 2 cores: 5.0 times as fast as with all, just now"]),
        ({2: 1.0, 1: 1.2}, 1, []),
        ({2: 1.8, 1: 1.0}, 2, []),
        ({8: 1.0, 7: 1.1, 4: 1.2}, 4, []),
        ({1: 1.0}, 1, []),
    ],
    ids=repr,
)
def test_the_fastest_number_of_threads(
    tiny_model: Model,
    monkeypatch: pytest.MonkeyPatch,
    timed: Callable[[Speed], list[Limits]],
    progress: Any,
    speeds: dict[int, float],
    fastest: int,
    notes: list[str],
) -> None:
    tried = timed(lambda limits: speeds[limits.threads or 0])
    monkeypatch.setattr(tuning, "usable_cores", lambda: max(speeds))
    scorer, tuned = tune(tiny_model, {0: PROMPT}, Choices(512, 128, 8, None, "unified"), ROWS, MANY, progress)
    with scorer:
        assert scorer.engine.threads == tuned.limits.threads == fastest
    assert progress.notes == notes
    assert [limits.threads for limits in tried] == (list(speeds) * 2 if len(speeds) > 1 else [])
    assert (tuned.reason, tuned.tried) == ("as configured", 0)


def tuned_limits(model: Model, prompt: LabelPrompt, choices: Choices, total: int, progress: Any) -> tuning.Tuned:
    scorer, tuned = tune(model, {0: prompt}, choices, ROWS, total, progress)
    with scorer:
        assert scorer.limits == tuned.limits
        assert sum(len(wave.answers) for wave in scorer.score(ROWS)) == len(ROWS)
    return tuned


def test_what_is_fastest_is_found(tiny_model: Model, timed: Callable[[Speed], list[Limits]], progress: Any) -> None:
    timed(lambda limits: 1e6 * (limits.n_batch == 512) + 1e5 * (limits.kv == "split") + 1e3)
    tuned = tuned_limits(tiny_model, CHAINS, Choices(512, threads=2), MANY, progress)
    assert (tuned.limits.n_batch, tuned.limits.kv) == (512, "split")
    assert tuned.tried == 3
    assert "the fastest of 3 tried, 1101.00 times" in tuned.reason

    timed(lambda limits: 1e6 / limits.n_batch - 1e2 * (limits.kv == "split"))
    tuned = tuned_limits(tiny_model, CHAINS, Choices(512, threads=2), MANY, progress)
    assert (tuned.limits.n_batch, tuned.limits.kv) == (256, "unified")


def test_more_rows_a_wave_are_tried_where_waves_are_full_of_them(
    tiny_model: Model, timed: Callable[[Speed], list[Limits]], progress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "FIRST_SEQUENCES", 8)
    timed(lambda limits: 1e4 * limits.n_seq)
    tuned = tuned_limits(tiny_model, PROMPT, Choices(512, 512, None, 2, "unified"), MANY, progress)
    assert tuned.limits.n_seq == 16


def test_noise_changes_nothing_and_what_is_configured_stays(
    tiny_model: Model, timed: Callable[[Speed], list[Limits]], progress: Any
) -> None:
    tried = timed(lambda limits: 1e5 * (1.02 if limits.n_batch != 256 or limits.kv == "split" else 1.0))
    tuned = tuned_limits(tiny_model, CHAINS, Choices(512, threads=2), MANY, progress)
    assert (tuned.limits.n_batch, tuned.limits.n_seq, tuned.limits.kv) == (256, 64, "unified")
    assert {limits.kv for limits in tried} == {"unified", "split"}

    tried = timed(lambda limits: 1e9 if limits.n_batch == 512 else 1e5)
    tuned = tuned_limits(tiny_model, CHAINS, Choices(512, n_batch=128, threads=2), MANY, progress)
    assert {limits.n_batch for limits in tried} == {128}
    assert tuned.limits.n_batch == 128


def test_what_the_machine_has_no_room_for_is_passed_over(
    tiny_model: Model, timed: Callable[[Speed], list[Limits]], progress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(lambda limits: 1e3 * limits.n_batch)
    opened = Engine.__init__

    def refuse(engine: Engine, model: Model, settings: EngineSettings) -> None:
        if settings.n_batch > 256:
            raise ModelError("no memory")
        opened(engine, model, settings)

    monkeypatch.setattr(Engine, "__init__", refuse)
    monkeypatch.setattr(Engine, "__exit__", lambda *_: None)  # also of the one that was never opened
    tuned = tuned_limits(tiny_model, PROMPT, Choices(512, None, 8, 2, "unified"), MANY, progress)
    assert (tuned.limits.n_batch, tuned.tried) == (256, 2)


def test_a_split_memory_takes_no_more_than_its_share(tiny_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    share = 512 * tiny_model.cell_bytes
    for rows, kv in ((3, "unified"), (5, "split")):
        monkeypatch.setattr(scoring, "machine_memory_bytes", lambda rows=rows: 16 * share * rows)
        with Scorer(tiny_model, {0: CHAINS}, Limits(512, 256, 64, 1, "split")) as scorer:
            assert scorer.limits.kv == kv
            if kv == "split":
                assert scorer.engine.settings.n_seq == rows
                assert sum(len(wave.answers) for wave in scorer.score(ROWS)) == len(ROWS)


def test_a_split_memory_that_cannot_be_had_is_said(tiny_model: Model, progress: Any) -> None:
    branching = replace(PROMPT, labels=("a", "b", "c"), verbalizers=("card lost", "card text", "ok by"))
    for prompt, said in ((CHAINS, False), (branching, True)):
        tuned = tuned_limits(tiny_model, prompt, Choices(512, 128, 8, 1, "split"), MANY, progress)
        assert (tuned.limits.kv == "unified") is said
        assert ("do not allow a split one" in tuned.reason) is said


def test_a_short_job_tries_nothing(tiny_model: Model, timed: Callable[[Speed], list[Limits]], progress: Any) -> None:
    tried = timed(lambda limits: 1e4)
    tuned = tuned_limits(tiny_model, PROMPT, Choices(512, threads=2), 50, progress)
    assert len(tried) == 1
    assert tuned.reason == "too few rows to be worth trying others"


@pytest.fixture(params=["tiny", "demo"])
def model(request: pytest.FixtureRequest, tiny_gguf: Path) -> Any:
    with Model(tiny_gguf if request.param == "tiny" else DEMO) as opened:
        yield opened


def test_no_number_of_threads_and_no_trial_changes_a_bit(model: Model, progress: Any) -> None:
    found = []
    for count in (1, 2, None):
        scorer, _ = tune(model, {0: PROMPT}, Choices(512, 128, 8, count, "unified"), ROWS, len(ROWS), progress)
        with scorer:
            found.append({a.row_id: a.probabilities for wave in scorer.score(ROWS) for a in wave.answers})
    assert all(np.array_equal(list(found[0].values()), list(other.values())) for other in found)
    assert all(other.keys() == found[0].keys() for other in found)
