"""What is found as personal data, and what is not; every number here is invented or published as an example."""

from __future__ import annotations

import random

import pytest

from mlxdistill.data.redaction import KINDS, Span, find_personal_data
from mlxdistill.data.redaction.digits import luhn_digit, passes_luhn
from mlxdistill.data.redaction.ibans import LENGTHS, passes_mod_97, with_check_digits
from mlxdistill.data.redaction.spans import PATTERN_KINDS, outside, settled

FOUND = {
    "email": [
        "write to <jane.doe+x@mail.example.co.uk>, please",
        "Jürgen: <jürgen@müller.de>.",
        "?to=<jane%40corp.com>&x=1",
        "<jane (at) corp.com>",
        "(<o'brien@corp.io>)",
    ],
    "phone": [
        "call <+44 20 7946 0018> now",
        "my number, <(415) 555-2671>",
        "<415-555-2671 ext. 12>",
        "Tel.: <030 901820>",
        "they're not answering at <467 3395>",
        "<+41 (0)96 471 07 95>",
    ],
    "card": [
        "<4111 1111 1111 1111> expired",
        "pay with <5500-0000-0000-0004>",
        "<378282246310005>",
        "<3782 822463 10005>",
        "my card is <4111111111111112>",  # mistyped, but called a card
        "maestro <630427373398>",
    ],
    "iban": ["<DE89 3704 0044 0532 0130 00>", "to <GB82WEST12345698765432>.", "<fr1420041010050500013M02606>"],
    "ip": ["from <203.0.113.9>", "<10.218.6.131>", "<2001:db8:0:0:0:0:2:1>", "host <fe80::1>", "<::ffff:192.0.2.1>"],
    "national_id": [
        "ssn <078-05-1120>",
        "SSN: <078051120>",
        "<AB 12 34 56 C>",
        "<12345678Z>",
        "NIE <X1234567L>",
        "<86095742719>",
        "<RSSMRA85T10A562S>",
        "BSN <111222333>",
        "<85.07.30-033 28>",
        "<44051401359>",
        "<19811218-9876>",
        "<131052-308T>",
        "<756.9217.0769.85>",
        "<529.982.247-25>",
        "SIN <046 454 286>",
        "<11010519491231002X>",
        "<2341 2341 2346>",
        "<1 85 05 78 006 084 91>",
    ],
    "url_token": [
        "http://jane:<hunter2>@host.example/x",
        "https://h.example/?id=5&token=<abcdef>&x=1",
        "https://h.example/cb#access_token=<ya29abcdefgh>",
        "https://h.example/f?X-Amz-Signature=<0a1b2c3d4e5f60718293>",
    ],
    "api_key": [
        "key <sk-proj-abcdefghijklmnop1234>",
        "<ghp_0123456789abcdefghijABCDEFGHIJ012345>",
        "<AKIAIOSFODNN7EXAMPLE>",
        "<xoxb-123456789012-abcdefghijkl>",
        "<AIzaSyA1234567890abcdefghijklmnopqrstuv>",
        "<eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl>",
        "api_key = '<f3A9xQ7bL2mZ8kP4wT6v>'",
        "password: <hunter2!>",
        "<-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nq83vASNF\n-----END RSA PRIVATE KEY----->",
        "<-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\nBgkqhkiG>",
    ],
    "date_of_birth": [
        "born on <2/8/1935>.",
        "Please tell me your date of birth. It's <6/24/1991>",
        "DOB <1980-03-12>",
        "geboren am <12. März 1980>",
        "née le <3 février 1975>",
        "<01.02.1980> geboren",
        "nacida el <5 de mayo de 1990>",
    ],
    "street_address": [
        "I live at <12 Main Street, Springfield, IL 62701> now",
        "<221B Baker Street>",
        "<Hauptstraße 12, 10115 Berlin>",
        "<12 rue de la Paix>",
        "<Calle Mayor 5>",
        "at <Puruntie 82>",
        "<P.O. Box 1234>",
        "<PSC 0413, Box 8144\nAPO AA 42323>",
    ],
    "url": ["see <https://www.example.org/a?b=c>."],
}  # fmt: skip
NOT_FOUND = [
    "version 10.1.2.3 of 2019",
    "127.0.0.1 and ::1",
    "std::dead::beef and abba::face",
    "at 12:34:56 on 3/4/2020",
    "order 4111111111111112",
    "1234567890123456",
    "from 1990-1995 to 2004",
    "It costs 1.234.567,89 euros",
    "since 12/1/1981",
    "a 5-star place, 2 way street, 900 and the loop",
    "born in 1980",
    "number 123456789",
    "key = value, token: yes",
    "password: forgotten",
    "@home and user@host",
    "12345678A",
    "GB82WEST12345698765431",
    "Of course we are not 50 years old",
]


@pytest.mark.parametrize(("kind", "example"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_personal_data_is_found_to_the_character(kind: str, example: str) -> None:
    before, _, rest = example.partition("<")
    value, _, after = rest.partition(">")
    text = before + value + after
    wanted = Span(len(before), len(before) + len(value), kind)
    assert wanted in find_personal_data(text, PATTERN_KINDS if kind == "url" else None)


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_is_nobodys_is_left(text: str) -> None:
    assert find_personal_data(text) == []


def test_every_kind_has_an_example() -> None:
    assert set(FOUND) == set(PATTERN_KINDS) <= set(KINDS)


def test_only_the_kinds_asked_for_are_looked_for() -> None:
    text = "jane@corp.com, 4111 1111 1111 1111"
    assert [span.kind for span in find_personal_data(text, ["card"])] == ["card"]


def test_a_number_without_prefix_is_known_where_its_country_is_asked_for() -> None:
    text = "nothing but 01 42 68 53 00"
    assert [span.kind for span in find_personal_data(text, ["phone"], ["FR"])] == ["phone"]
    assert find_personal_data(text, ["phone"], ["IS"]) == []


def test_spans_that_overlap_become_one_of_the_longest_kind() -> None:
    spans = [
        Span(0, 5, "phone"),
        Span(4, 20, "street_address"),
        Span(20, 22, "ip"),
        Span(30, 34, "ip"),
        Span(30, 34, "card"),
    ]
    assert settled(spans) == [Span(0, 20, "street_address"), Span(20, 22, "ip"), Span(30, 34, "card")]


def test_nothing_is_taken_out_of_a_shield() -> None:
    text = "aaaa [EMAIL] bbbb"
    assert outside(text, [Span(0, 17, "name")], [(5, 12)]) == [Span(0, 4, "name"), Span(13, 17, "name")]
    assert outside(text, [Span(5, 12, "name")], [(5, 12)]) == []
    assert outside(text, [Span(0, 8, "name"), Span(8, 17, "name")], [(5, 12)]) == [
        Span(0, 4, "name"),
        Span(13, 17, "name"),
    ]


def test_check_digits_of_cards_and_accounts() -> None:
    chance = random.Random(0)
    for country in LENGTHS:
        account = "".join(chance.choice("0123456789") for _ in range(LENGTHS[country] - 4))
        iban = with_check_digits(country, account)
        assert passes_mod_97(iban)
        assert not passes_mod_97(iban[:-1] + str((int(iban[-1]) + 1) % 10))
    for _ in range(20):
        digits = "".join(chance.choice("0123456789") for _ in range(15))
        assert passes_luhn(digits + luhn_digit(digits))
        assert not passes_luhn(digits + str((int(luhn_digit(digits)) + 1) % 10))


HOSTILE = [
    "a",
    "1",
    ".",
    "@",
    "1.",
    "1 ",
    "a@",
    "@a.",
    "1-",
    ":",
    "+1(",
    "a ",
    "1 a ",
    "?a=1&",
    "http://",
    "-----BEGIN PRIVATE KEY-----",
    "A1",
    "key=",
    "eyJ",
    "12 Main ",
    "\n ",
    "4111 1111 1111 1111 ",
    "rue de ",
    "%40",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_long_text_of_one_kind_is_read_in_one_go(piece: str) -> None:
    """A pattern that goes back over what it read would take hours here."""
    text = piece * (20_000 // len(piece))
    spans = find_personal_data(text, PATTERN_KINDS)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)


def test_a_million_characters_of_one_letter_hold_nothing() -> None:
    assert find_personal_data("a" * 1_000_000 + " jane@corp.com")[0].kind == "email"
