"""Texts without what is personal in them: typed marks or invented values stand in its place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from mlxdistill.data.redaction.finding import found_by_patterns
from mlxdistill.data.redaction.phones import USUAL_REGIONS
from mlxdistill.data.redaction.spans import KINDS, USUAL_KINDS, Span, beyond, outside, settled
from mlxdistill.data.redaction.stand_ins import known_stand_ins, same_value, stand_in
from mlxdistill.tasks.rows import content_hash, normalised

MOST_ROUNDS = 20  # what is replaced may show what stood hidden beside it; hardly a text needs three rounds
MOST_TRIES = 1000
_MARK = re.compile(r"\[(?:" + "|".join(kind.upper() for kind in KINDS) + r")\]")


class Finder(Protocol):
    """What finds personal data by a model. `repeats`: it is asked again about what came of a text."""

    repeats: bool

    def find(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans of each text, overlaps and all."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text without what was personal in it, and how many values of each kind were replaced."""

    text: str
    counts: Mapping[str, int]


@dataclass(slots=True)
class _Draft:
    text: str
    key: str
    counts: Counter[str] = field(default_factory=Counter)
    given: dict[tuple[str, str], str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


class Redactor:
    """Replaces what is personal, and nothing else: the text around it stays as it is, character by character.

    Redacting a redacted text changes nothing. What stands in is a function of the text alone (and the settings), so
    that equal rows stay equal, wherever they come from.

    Args:
        kinds: of `KINDS`; None: the usual ones.
        patterns: whether patterns and checksums are used.
        regions: as in `find_personal_data`.
        stand_ins: invented values instead of marks such as `[EMAIL]`: the same for the same value within a text.
        seed: of the stand-ins.
        finders: models that find more.
    """

    def __init__(
        self,
        kinds: Collection[str] | None = None,
        *,
        patterns: bool = True,
        regions: Sequence[str] = USUAL_REGIONS,
        stand_ins: bool = False,
        seed: int = 0,
        finders: Sequence[Finder] = (),
    ) -> None:
        self._kinds = frozenset(USUAL_KINDS if kinds is None else kinds)
        self._patterns = patterns
        self._regions = tuple(regions)
        self._stand_ins = stand_ins
        self._seed = seed
        self._finders = tuple(finders)

    def redact(self, text: str, *, beside: str | None = None) -> Redacted:
        """The text without what is personal.

        Args:
            beside: a text that was redacted before; a value that stands in both gets the stand-in it got there.
        """
        return self._redact([_Draft(text, _key(text if beside is None else beside))])[0]

    def redact_all(self, texts: Sequence[str]) -> list[Redacted]:
        """Each text, in the order given; models are asked about all of them at once."""
        return self._redact([_Draft(text, _key(text)) for text in texts])

    def _redact(self, drafts: list[_Draft]) -> list[Redacted]:
        under_way = drafts
        for turn in range(MOST_ROUNDS):
            finders = [finder for finder in self._finders if finder.repeats or turn == 0]
            found = self._found([draft.text for draft in under_way], finders)
            under_way = [draft for draft, spans in zip(under_way, found, strict=True) if self._replace(draft, spans)]
            if not under_way:
                break
        return [Redacted(draft.text, dict(draft.counts)) for draft in drafts]

    def _found(self, texts: Sequence[str], finders: Sequence[Finder]) -> list[list[Span]]:
        found = [found_by_patterns(text, self._kinds, self._regions) if self._patterns else [] for text in texts]
        for finder in finders:
            for spans, more in zip(found, finder.find(texts), strict=True):
                spans += [span for span in more if span.kind in self._kinds]
        return found

    def _replace(self, draft: _Draft, spans: Iterable[Span]) -> bool:
        """Whether there was anything to replace."""
        text = draft.text
        wanted = settled(spans)
        if wanted:
            if self._stand_ins:
                known = known_stand_ins(text)
                draft.used.update(text[start:end] for start, end in known)
                wanted = beyond(text, wanted, known)
            wanted = outside(text, wanted, (match.span() for match in _MARK.finditer(text)))
        parts, end = [], 0
        for span in wanted:
            parts += [text[end : span.start], self._instead(draft, span.kind, text[span.start : span.end])]
            end = span.end
            draft.counts[span.kind] += 1
        draft.text = "".join([*parts, text[end:]])
        return bool(wanted)

    def _instead(self, draft: _Draft, kind: str, value: str) -> str:
        if not self._stand_ins:
            return f"[{kind.upper()}]"
        if kind == "name":  # so that a name stays the same where it stands alone
            return " ".join(self._invented(draft, kind, part) for part in value.split())
        return self._invented(draft, kind, value)

    def _invented(self, draft: _Draft, kind: str, value: str) -> str:
        key = (kind, same_value(value))
        if key not in draft.given:
            digest = sha256("\0".join((str(self._seed), draft.key, *key)).encode("utf-8", "surrogatepass")).digest()
            number = int.from_bytes(digest[:8], "big")
            tries = (stand_in(kind, value, number + turn) for turn in range(MOST_TRIES))
            new = next((each for each in tries if each not in draft.used), None)
            draft.given[key] = new if new is not None else stand_in(kind, value, number)
            draft.used.add(draft.given[key])
        return draft.given[key]


def _key(text: str) -> str:
    """The same for exact duplicates, so that they stay so."""
    return content_hash(normalised(text))
