"""Tokens of a chat in which only the template can write control tokens.

A chat is tokenised as a whole, because tokens may span the border of template and message; the control tokens that the
template writes are cut out first, and what lies between them goes through a tokenizer that reads every control token's
text as ordinary characters. For texts without such characters the result is that of `apply_chat_template`.
"""

from __future__ import annotations

import enum
import functools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mlxdistill.errors import ModelError
from mlxdistill.tasks.chat import Segment, render_chat

_MARKUP = re.compile(r"\s*[<\[{(|].*[>\]})|]\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a chat: template (`control`) or message; of a message, the part that may be cut is `cuttable`."""

    text: str
    control: bool = False
    cuttable: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """What a template writes around the messages of a conversation with certain roles.

    Attributes:
        parts: template texts, and for each message its number, up to the first token of the answer.
        lead: what the template writes between there and the answer (a space, mostly nothing).
        end_of_turn: the token that ends the answer.
        answer_follows_text: whether the last thing before the answer is text, not a control token.
    """

    parts: tuple[str | int, ...]
    lead: str
    end_of_turn: int
    answer_follows_text: bool


class Place(enum.Enum):
    """Where a text stands, which decides whether tokenizers of the SentencePiece kind begin it with a space."""

    START = enum.auto()
    AFTER_CONTROL = enum.auto()
    INSIDE_TEXT = enum.auto()


class GuardedTokenizer:
    """A model's tokenizer and chat template.

    Args:
        tokenizer: a fast tokenizer of transformers.
        template: the Jinja chat template, or None.
        name: the model, for messages.
    """

    def __init__(self, tokenizer: Any, template: str | None, name: str) -> None:
        self.name = name
        self.template = template
        self._tokenizer = tokenizer
        added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
        written = template or ""
        self._control = {
            token.content: (number, token.rstrip)
            for number, token in added.items()
            if token.content and (token.special or (token.content in written and _MARKUP.fullmatch(token.content)))
        }
        longest_first = sorted(self._control, key=len, reverse=True)
        self._control_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        unknown = tokenizer.unk_token_id
        self.control_ids = frozenset(number for number, _ in self._control.values() if number != unknown)
        self._plain = {place: _without_control(tokenizer, self._control, place) for place in Place}
        self._encode_template = functools.lru_cache(maxsize=256)(self._encode_plain)

    @property
    def eos_token_id(self) -> int | None:
        number = self._tokenizer.eos_token_id
        return None if number is None else int(number)

    @functools.cached_property
    def size(self) -> int:
        """Every token's number is less."""
        numbers: dict[str, int] = self._tokenizer.get_vocab()
        return 1 + max(numbers.values())

    def encode(self, pieces: Iterable[Piece]) -> tuple[list[int], list[bool]]:
        """The tokens of the joined pieces, and for each whether it lies wholly in a cuttable piece."""
        tokens: list[int] = []
        cuttable: list[bool] = []
        span: list[Piece] = []
        strip = False

        def flush() -> None:
            found = self._encode_span(span, Place.AFTER_CONTROL if tokens else Place.START)
            tokens.extend(found[0])
            cuttable.extend(found[1])
            span.clear()

        for piece in pieces:
            for part in self._split(piece):
                if isinstance(part, int):
                    flush()
                    tokens.append(part)
                    cuttable.append(False)
                    strip = any(number == part and rstrip for number, rstrip in self._control.values())
                    continue
                text = part.lstrip() if strip else part
                if text:
                    strip = False
                    span.append(Piece(text, piece.control, piece.cuttable))
        flush()
        return tokens, cuttable

    def encode_answer(self, frame: Frame, text: str) -> list[int]:
        """The tokens that a model has to write, after the frame, to answer `text`; without the end of the turn."""
        place = Place.INSIDE_TEXT if frame.answer_follows_text else Place.AFTER_CONTROL
        return self._encode_plain(frame.lead + text, place)[0]

    def decode(self, tokens: Sequence[int]) -> str:
        """What a model wrote, without control tokens."""
        text = self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def encode_inside_text(self, text: str) -> list[int]:
        """The tokens of a text that follows other text."""
        return self._encode_plain(text, Place.INSIDE_TEXT)[0]

    def encode_document(self, text: str) -> list[int]:
        """The tokens of a text that is a whole training document: here control tokens count, and its end is marked."""
        tokens = [int(token) for token in self._tokenizer.encode(text)]
        end = self.eos_token_id
        return tokens if end is None or (tokens and tokens[-1] == end) else [*tokens, end]

    def frame(self, roles: tuple[str, ...]) -> Frame:
        """The frame of a conversation whose last role is the assistant's. Raises ModelError without a template."""
        if roles not in self._frames:
            self._frames[roles] = self._make_frame(roles)
        return self._frames[roles]

    @functools.cached_property
    def _frames(self) -> dict[tuple[str, ...], Frame]:
        return {}

    def _make_frame(self, roles: tuple[str, ...]) -> Frame:
        if self.template is None:
            hint = "use the instruct or chat version of the model"
            raise ModelError("the model has no chat template", where=self.name, hint=hint)
        marks = {f"\u27e6message {number}\u27e7": number for number in range(len(roles))}
        messages = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        before = self._render(messages[:-1], generation_prompt=True)
        whole = "".join(segment.text for segment in self._render(messages, generation_prompt=False))
        opening = "".join(segment.text for segment in before)
        start, _, after = whole.rpartition(messages[-1]["content"])
        ends = [self._control[match.group()][0] for match in self._control_pattern.finditer(after)]
        end = ends[0] if ends else self.eos_token_id
        if end is None:
            hint = "use the instruct or chat version of the model"
            raise ModelError("neither template nor tokenizer ends a turn with a token", where=self.name, hint=hint)
        return Frame(
            parts=tuple(segment.text if segment.control else marks[segment.text] for segment in before),
            lead=start[len(opening) :] if start.startswith(opening) else "",
            end_of_turn=end,
            answer_follows_text=not any(
                match.end() == len(opening) for match in self._control_pattern.finditer(opening)
            ),
        )

    def _render(self, messages: Sequence[dict[str, str]], *, generation_prompt: bool) -> list[Segment]:
        assert self.template is not None
        special = {
            key: str(value) for key, value in self._tokenizer.special_tokens_map.items() if isinstance(value, str)
        }
        return render_chat(
            self.template,
            messages,
            special_tokens=special,
            generation_prompt=generation_prompt,
            where=self.name,
        )

    def _split(self, piece: Piece) -> Iterable[str | int]:
        """A template's text cut at its control tokens; a message's text whole."""
        if not piece.control:
            yield piece.text
            return
        position = 0
        for match in self._control_pattern.finditer(piece.text):
            yield piece.text[position : match.start()]
            yield self._control[match.group()][0]
            position = match.end()
        yield piece.text[position:]

    def _encode_span(self, span: Sequence[Piece], place: Place) -> tuple[list[int], list[bool]]:
        text = "".join(piece.text for piece in span)
        if not text:
            return [], []
        encode = self._encode_template if all(piece.control for piece in span) else self._encode_plain
        tokens, offsets = encode(text, place)
        ranges = []
        position = 0
        for piece in span:
            if piece.cuttable:
                ranges.append((position, position + len(piece.text)))
            position += len(piece.text)
        return tokens, [any(low <= start and end <= high for low, high in ranges) for start, end in offsets]

    def _encode_plain(self, text: str, place: Place) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = self._plain[place].encode(text, add_special_tokens=False)
        tokens: list[int] = encoding.ids
        offsets: list[tuple[int, int]] = encoding.offsets
        if self.control_ids.isdisjoint(tokens):
            return tokens, offsets
        # Some vocabularies hold a control token's text as a plain token too: part the text inside it.
        parted: tuple[list[int], list[tuple[int, int]]] = ([], [])
        cuts = [match.start() + 1 for match in self._control_pattern.finditer(text)]
        for low, high in zip([0, *cuts], [*cuts, len(text)], strict=True):
            piece = self._plain[place if low == 0 else Place.INSIDE_TEXT].encode(
                text[low:high], add_special_tokens=False
            )
            kept = [
                (number, span)
                for number, span in zip(piece.ids, piece.offsets, strict=True)
                if number not in self.control_ids
            ]
            parted[0].extend(number for number, _ in kept)
            parted[1].extend((start + low, end + low) for _, (start, end) in kept)
        return parted


def _without_control(tokenizer: Any, control: Iterable[str], place: Place) -> Any:
    """A copy of the tokenizer, for texts at a place, that reads control tokens as ordinary text."""
    from tokenizers import Tokenizer

    names = set(control)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["special"] or token["content"] in names
    schemes = {Place.START: (), Place.AFTER_CONTROL: ("first",), Place.INSIDE_TEXT: ("first", "always")}[place]
    for part in _parts(state.get("pre_tokenizer")):
        if part.get("prepend_scheme") in schemes:
            part["prepend_scheme"] = "never"
    if place is Place.INSIDE_TEXT:
        kept = [part for part in _parts(state.get("normalizer")) if part["type"] != "Prepend"]
        state["normalizer"] = {"type": "Sequence", "normalizers": kept} if kept else None
    copy = Tokenizer.from_str(json.dumps(state))
    copy.encode_special_tokens = True
    copy.no_truncation()
    copy.no_padding()
    return copy


def _parts(stage: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer, without the sequences around them."""
    if stage is None:
        return []
    inner = stage.get("normalizers", stage.get("pretokenizers"))
    return [stage] if inner is None else [part for step in inner for part in _parts(step)]
