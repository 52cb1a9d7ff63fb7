"""A teacher's log-probabilities of the tokens of an answer, as targets for a student that numbers tokens alike.

Of each position the K likeliest tokens are known, and how much probability they hold together. What the teacher gave to
all others is left out and the K are made to sum to 1: at 16 of them it is a per cent or so, no one knows which tokens
it belonged to, and how much it was is told. Where the token that was written is not among the K, a grammar or a rare
draw chose it, the teacher had another text in mind, and the written token alone is learned; so is the end of the turn,
which is drawn after an answer is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlxdistill.errors import DataError
from mlxdistill.tasks.token_logprobs import PROBES

TOLERANCE = 1e-3  # of the sum of probabilities, for rounded logarithms
_FORM = '{"tokenizer": [marks], "tokens": [ids], "top": [[[id, logprob], ...], ...]}'


@dataclass(frozen=True, slots=True, eq=False)
class SoftTokens:
    """What a row's N supervised positions are to learn instead of one token each.

    Attributes:
        ids: int32 [N, K], the written token among them.
        probabilities: float32 [N, K], sums to 1 over K.
        held: the share of the teacher's probability that the K hold, on average over the positions where it is learned.
    """

    ids: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    held: float


@dataclass(frozen=True, slots=True, eq=False)
class GivenLogprobs:
    """`logprobs` of a training file.

    Attributes:
        tokenizer: `tokenizer_marks` of the teacher.
        tokens: of the answer (N); `ids`, `logprobs`: [N, K], minus infinity where fewer are given.
    """

    tokenizer: tuple[str, ...]
    tokens: tuple[int, ...]
    ids: NDArray[np.int32]
    logprobs: NDArray[np.float64]


def read_logprobs(value: Any, where: str) -> GivenLogprobs:
    """Raises DataError for anything that is not of the form that `encoding` describes."""
    match value:
        case {"tokenizer": [*marks], "tokens": [*tokens], "top": [*top]} if len(tokens) == len(top) > 0:
            ids, logprobs = _table(top, where)
            if not all(isinstance(mark, str) for mark in marks):
                raise DataError("`logprobs` has a mark of the tokenizer that is no text", where=where, hint=_FORM)
            if not all(isinstance(token, int) and 0 <= token < 2**31 for token in tokens):
                raise DataError("`logprobs` has a token that is no token's number", where=where, hint=_FORM)
            return GivenLogprobs(tuple(marks), tuple(tokens), ids, logprobs)
    raise DataError("`logprobs` is not one list of likely tokens for each token", where=where, hint=_FORM)


def _table(top: Sequence[Any], where: str) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    try:
        lists = [np.asarray(pairs, np.float64).reshape(-1, 2) for pairs in top]
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError("`logprobs` has something else than pairs of numbers", where=where, hint=_FORM) from error
    table = np.zeros((len(lists), max(map(len, lists)), 2))
    table[..., 1] = -np.inf
    for row, pairs in zip(table, lists, strict=True):
        row[: len(pairs)] = pairs
    ids, logprobs = table[..., 0], table[..., 1]
    if not ((ids >= 0) & (ids < 2**31) & (ids == np.floor(ids))).all():
        raise DataError("`logprobs` has a token that is no token's number", where=where, hint=_FORM)
    sums = np.exp(np.minimum(logprobs, 1.0)).sum(axis=1)  # not a number stays that
    if not ((sums > 0) & (sums <= 1 + TOLERANCE)).all():
        hint = "natural logarithms of probabilities that sum to at most 1"
        raise DataError("`logprobs` has numbers that are no log-probabilities", where=where, hint=hint)
    return ids.astype(np.int32), logprobs


def check_tokenizer(given: GivenLogprobs, own: Sequence[str], where: str) -> None:
    """Raises DataError where the teacher's tokenizer is not the student's, with the first probe text that tells."""
    if given.tokenizer == tuple(own):
        return
    if len(given.tokenizer) != len(own):
        message = f"`logprobs` has marks of {len(given.tokenizer)} probe texts; this version compares {len(PROBES)}"
        raise DataError(message, where=where, hint="label the rows again, or set train.soft_weight to 0")
    pairs = enumerate(zip(given.tokenizer, own, strict=True), start=1)
    first = next(number for number, (theirs, ours) in pairs if theirs != ours)
    raise DataError(
        f"the teacher's tokenizer is not the student's: probe text {first} of {len(own)} has other tokens, so its"
        " log-probabilities mean nothing here",
        where=where,
        hint="leave teacher.keep_logprobs out, or take a student of the teacher's family",
    )


def soft_tokens(given: GivenLogprobs, end_of_turn: int, vocabulary: int) -> SoftTokens:
    """The targets of the answer's tokens and of the end of its turn.

    Args:
        vocabulary: ids from here on are no tokens of the student; a teacher may count fillers beyond them.
    """
    written = np.array([*given.tokens, end_of_turn], np.int32)
    shape = (len(written), given.ids.shape[1])
    ids, shares = np.zeros(shape, np.int32), np.zeros(shape)
    ids[:-1], shares[:-1] = given.ids, np.exp(given.logprobs)
    shares[ids >= vocabulary] = 0
    ids[ids >= vocabulary] = 0
    known = ((ids == written[:, None]) & (shares > 0)).any(axis=1)  # never at the end of the turn
    held = float(shares[known].sum(axis=1).mean()) if known.any() else 1.0
    ids[~known], shares[~known] = 0, 0
    ids[~known, 0], shares[~known, 0] = written[~known], 1
    return SoftTokens(ids, (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32), held)
