"""Personal data by patterns and checksums: one file per family of kinds, all of them run here.

Every pattern is bounded, or begins where no other match can, so that a text of a million characters takes a time that
grows with its length, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from mlxdistill.data.redaction.births import find_births
from mlxdistill.data.redaction.cards import find_cards
from mlxdistill.data.redaction.emails import find_emails
from mlxdistill.data.redaction.ibans import find_ibans
from mlxdistill.data.redaction.ip_addresses import find_ip_addresses
from mlxdistill.data.redaction.national_ids import find_national_ids
from mlxdistill.data.redaction.phones import USUAL_REGIONS, find_phones
from mlxdistill.data.redaction.secrets import find_api_keys
from mlxdistill.data.redaction.spans import USUAL_KINDS, Span, settled
from mlxdistill.data.redaction.streets import find_streets
from mlxdistill.data.redaction.urls import find_url_tokens, find_urls

_FINDERS: Mapping[str, Callable[[str], Iterable[Span]]] = {
    "api_key": find_api_keys,
    "url_token": find_url_tokens,
    "email": find_emails,
    "iban": find_ibans,
    "card": find_cards,
    "national_id": find_national_ids,
    "ip": find_ip_addresses,
    "date_of_birth": find_births,
    "street_address": find_streets,
    "url": find_urls,
}


def find_personal_data(
    text: str, kinds: Collection[str] | None = None, regions: Sequence[str] = USUAL_REGIONS
) -> list[Span]:
    """The personal data of a text, in its order, without overlaps (see `settled`).

    Args:
        kinds: of `KINDS`; those that need a model are not looked for here. None: the usual ones.
        regions: countries (ISO 3166, two letters) whose phone numbers are known without a country's prefix.
    """
    return settled(found_by_patterns(text, USUAL_KINDS if kinds is None else kinds, regions))


def found_by_patterns(text: str, kinds: Collection[str], regions: Sequence[str] = USUAL_REGIONS) -> list[Span]:
    """As `find_personal_data`, in no order, overlaps and all."""
    found = [span for kind in kinds if kind in _FINDERS for span in _FINDERS[kind](text)]
    if "phone" in kinds:
        found += find_phones(text, regions)
    return found
