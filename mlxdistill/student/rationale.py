"""The reasons that a teacher wrote, learned beside its labels.

A second example of a row asks for the rationale (`tasks.classification.rationale_prompt`), and its answer is what the
teacher wrote; the prompt of the label stays as it is, so that prediction costs what it did. Both are learned at once,
the rationale with a weight of its own (Hsieh, Li, Yeh, Nakhost, Fujii, Ratner, Krishna, Lee, Pfister: Distilling
Step-by-Step!, 2023, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlxdistill.tasks.token_logprobs import TokenLogprobs

KIND = "rationale"
DIGITS = 4  # of a log-probability in a training file


@dataclass(frozen=True, slots=True)
class Rationale:
    """What a teacher wrote about a row; with log-probabilities of its tokens, the text is the whole answer."""

    text: str
    logprobs: TokenLogprobs | None = None


def logprobs_record(logprobs: TokenLogprobs) -> dict[str, Any]:
    """As training files hold them: see `encoding`."""
    pairs = zip(logprobs.ids.tolist(), logprobs.logprobs.tolist(), strict=True)
    return {
        "tokenizer": list(logprobs.tokenizer),
        "tokens": logprobs.tokens.tolist(),
        "top": [
            [[token, round(value, DIGITS)] for token, value in zip(ids, values, strict=True)] for ids, values in pairs
        ],
    }
