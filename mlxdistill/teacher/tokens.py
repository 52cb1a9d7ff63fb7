"""Text to tokens, such that a row can say anything and be only text.

With parsing of control tokens off, a tokenizer still may arrive at one by merging (SentencePiece looks pieces up in the
whole vocabulary), so what it returns is checked, and texts that spell a control token are cut within it.

Parts of a prompt are tokenised one by one. Vocabularies that put a space before every text would put one between
the parts; a newline before the part, cut off again afterwards, keeps it out.
"""

from __future__ import annotations

import itertools
import re

from mlxdistill.teacher.engine import Model

CHARACTERS_PER_TOKEN = 16  # more than nearly any text has; how much of a long text is tokenised at first
_BEFORE = "\n"


def template_tokens(model: Model, text: str, *, follows_text: bool = False) -> list[int]:
    """Tokens of a template's own text, in which control tokens count."""
    return _tokenise(model, text, control=True, follows_text=follows_text)


def plain_tokens(model: Model, text: str, *, follows_text: bool = True) -> list[int]:
    """Tokens of text from people and files: never a control token.

    Args:
        follows_text: the text stands after other text, not at a beginning.
    """
    tokens = _tokenise(model, text, control=False, follows_text=follows_text)
    spelled = {model.piece(token).decode("utf-8", "replace") for token in tokens if model.is_control(token)}
    if not spelled:
        return tokens
    cuts = {match.start() + 1 for word in spelled if word for match in re.finditer(re.escape(word), text)}
    if len(text) <= 1 or not cuts:
        return [token for token in tokens if not model.is_control(token)]
    bounds = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    return [
        token
        for index, (start, end) in enumerate(itertools.pairwise(bounds))
        for token in plain_tokens(model, text[start:end], follows_text=follows_text or index > 0)
    ]


def first_tokens(model: Model, text: str, most: int) -> tuple[list[int], bool]:
    """The first `most` tokens of a row's text, and whether the text was cut for it: how every row that does not fit is
    truncated."""
    length = most * CHARACTERS_PER_TOKEN
    tokens = plain_tokens(model, text[:length])
    while length < len(text) and len(tokens) <= most:
        length *= 4
        tokens = plain_tokens(model, text[:length])
    return tokens[:most], len(tokens) > most


def _tokenise(model: Model, text: str, *, control: bool, follows_text: bool) -> list[int]:
    if not text:
        return []
    if follows_text and model.adds_space:
        newline = model.tokenise(_BEFORE, control=False)
        tokens = model.tokenise(_BEFORE + text, control=control)
        if newline and tokens[: len(newline)] == newline:
            return tokens[len(newline) :]
    return model.tokenise(text, control=control)
