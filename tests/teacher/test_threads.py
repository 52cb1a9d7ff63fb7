"""The number of threads that decodes fastest is used, and changes no answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxdistill.teacher import threads
from mlxdistill.teacher.engine import Engine, EngineSettings, Model, Token
from mlxdistill.teacher.scoring import LabelPrompt, Limits, Scorer
from mlxdistill.teacher.threads import use_fastest

DEMO = Path(__file__).parents[2] / "models" / "teacher" / "demo-teacher-q8_0.gguf"
PROMPT = LabelPrompt(
    "<|im_start|>user\n",
    "Which label fits?\n",
    "\nOne label only.",
    "<|im_end|>\n<|im_start|>assistant\n",
    ("a", "b"),
    ("report", "other"),
)
ROWS = [(str(number), "my card was lost " * (number % 5)) for number in range(5)]


class TimedEngine(Engine):
    """Decodes, and then sets the clock by the seconds that each number of threads is said to take."""

    def __init__(self, model: Model, count: int, seconds: dict[int, float], patch: pytest.MonkeyPatch) -> None:
        super().__init__(model, EngineSettings(n_ctx=256, n_batch=64, n_seq=2, n_outputs=64, threads=count))
        self.seconds = seconds
        self.now = 0.0
        self.tried: list[int] = []
        patch.setattr(threads.time, "perf_counter", lambda: self.now)

    def decode(self, tokens: Sequence[Token], read: Callable[..., None]) -> None:
        super().decode(tokens, read)
        self.tried.append(self.threads)
        self.now += self.seconds[self.threads]


@pytest.mark.parametrize(
    ("seconds", "fastest", "notes"),
    [
        ({2: 5.0, 1: 1.0}, 1, ["decoding with 1 of 2 cores: 5.0 times as fast as with all, just now"]),
        ({2: 1.2, 1: 1.0}, 1, []),
        ({2: 1.0, 1: 1.8}, 2, []),
        ({8: 2.0, 7: 1.8, 4: 1.7}, 4, []),
        ({1: 1.0}, 1, []),
    ],
    ids=repr,
)
def test_the_fastest_number_is_used(
    tiny_model: Model,
    monkeypatch: pytest.MonkeyPatch,
    progress: Any,
    seconds: dict[int, float],
    fastest: int,
    notes: list[str],
) -> None:
    with TimedEngine(tiny_model, max(seconds), seconds, monkeypatch) as engine:
        use_fastest(engine, [1, 2, 3], progress)
        assert engine.threads == fastest
        assert progress.notes == notes
        assert engine.tried == (list(seconds) * 2 if len(seconds) > 1 else [])


@pytest.fixture(params=["tiny", "demo"])
def model(request: pytest.FixtureRequest, tiny_gguf: Path) -> Any:
    with Model(tiny_gguf if request.param == "tiny" else DEMO) as opened:
        yield opened


def test_no_number_of_threads_and_no_trial_changes_a_bit(model: Model, progress: Any) -> None:
    found = []
    for count, is_tried in ((1, False), (2, False), (2, True)):
        with Scorer(model, PROMPT, Limits(512, 128, 8, count)) as scorer:
            if is_tried:
                use_fastest(scorer.engine, scorer.shared_tokens, progress)
            found.append({a.row_id: a.probabilities for wave in scorer.score(ROWS) for a in wave.answers})
    assert all(np.array_equal(list(found[0].values()), list(other.values())) for other in found)
    assert all(other.keys() == found[0].keys() for other in found)
