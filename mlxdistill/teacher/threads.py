"""How many threads decode fastest, found by trying.

llama.cpp's threads wait for each other by spinning. On a machine that does something else besides, one thread for
every core can be several times slower than one fewer; and half of many cores may be all that the memory can feed. The
logits are the same for any number.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

from mlxdistill.tasks.protocols import Progress
from mlxdistill.teacher.engine import Engine, Token

TRIAL_TOKENS = 128
ROUNDS = 2
MANY_CORES = 8
WORTH_A_NOTE = 1.5
_SCRATCH = 1  # any sequence but the prefix's


def use_fastest(engine: Engine, tokens: Sequence[int], progress: Progress) -> None:
    """Sets the engine to the number of threads, up to those it has, with which it decodes fastest just now.

    Args:
        tokens: what is decoded, over and over. The engine must have room for them and at least one more.
    """
    most = engine.threads
    counts = sorted({most, max(1, most - 1), most // 2 if most >= MANY_CORES else most}, reverse=True)
    if len(counts) == 1:
        return
    length = min(TRIAL_TOKENS, engine.settings.n_ctx - len(tokens))
    repeated = itertools.islice(itertools.cycle(tokens), length)
    trial = [Token(token, place, (_SCRATCH,), wanted=place == length - 1) for place, token in enumerate(repeated)]
    seconds = dict.fromkeys(counts, 0.0)
    for count in counts * ROUNDS:
        engine.use_threads(count)
        began = time.perf_counter()
        engine.decode(trial, lambda index, logits: None)
        seconds[count] += time.perf_counter() - began
        engine.forget(_SCRATCH)
    fastest = min(counts, key=lambda count: seconds[count])
    engine.use_threads(fastest)
    if seconds[most] >= WORTH_A_NOTE * seconds[fastest]:
        times = seconds[most] / seconds[fastest]
        progress.note(f"decoding with {fastest} of {most} cores: {times:.1f} times as fast as with all, just now")
