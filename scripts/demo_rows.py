"""Rows of the embedded demo: messages to a bank's inbox, made from hand-written core messages.

A core is the heart of one message with slots such as {amount}. `demo_cores/` holds them by what they are for:

- `demo`: dealt to the two test sets first, what is left to the source;
- `source`: more for the source alone;
- `teacher`, `teacher_more`: what the demo's teacher is taught. Their writers had not seen those of `demo`.

A core that shares many of its words with one of a test set, or with one of the other side, is left out of source and
teacher. So no row of the demo is a variant of one that the teacher was taught, and no core stands on both sides of a
split. Everything follows from the seed, and what is put around a core never depends on its label.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from demo_models import words

CORES_FOLDER = Path(__file__).parent / "demo_cores"
KINDS = ("report", "other", "other_hard")
MOST_ALIKE = 0.4
INSTRUCTION = "Decide whether a message to the bank must be seen by a person today."
LABELS = {"report": "a theft or misuse that is happening or not yet dealt with", "other": "everything else"}
REPEATED_SLOTS = ("amount", "date", "time")


@dataclass(frozen=True)
class Core:
    """A message with slots; `hard` marks the `other` cores that are about theft or misuse without being a report."""

    id: str
    label: str
    text: str
    hard: bool


@dataclass(frozen=True)
class Row:
    """A line of the demo's JSONL files."""

    id: str
    text: str
    label: str
    core: str


@dataclass(frozen=True)
class CoreSplit:
    """Disjoint sets of cores. `teacher` also makes the tokenizer and is partly held back, `teacher_more` is not."""

    teacher: tuple[Core, ...]
    teacher_more: tuple[Core, ...]
    source: tuple[Core, ...]
    test_indist: tuple[Core, ...]
    test_balanced: tuple[Core, ...]


# Cores of each kind in (test_indist, test_balanced).
TEST_CORES = {"report": (40, 120), "other": (60, 60), "other_hard": (50, 60)}


def read_cores(folder: Path) -> list[Core]:
    """The cores of one folder."""
    cores = []
    for kind in KINDS:
        label = kind.partition("_")[0]
        lines = (folder / f"{kind}.txt").read_text(encoding="utf-8").splitlines()
        cores += [
            Core(f"{folder.name}-{kind}-{number:04d}", label, line.strip(), kind == "other_hard")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
    return cores


def _kind(core: Core) -> str:
    return "other_hard" if core.hard else core.label


def split_cores(folder: Path, seed: int) -> CoreSplit:
    """Read `folder` and deal out its cores."""
    indist: list[Core] = []
    balanced: list[Core] = []
    left: list[Core] = []
    teacher = read_cores(folder / "teacher")
    demo = unlike(read_cores(folder / "demo"), teacher)
    for kind, (of_indist, of_balanced) in TEST_CORES.items():
        cores = [core for core in demo if _kind(core) == kind]
        random.Random(f"{seed}-{kind}").shuffle(cores)
        indist += cores[:of_indist]
        balanced += cores[of_indist : of_indist + of_balanced]
        left += cores[of_indist + of_balanced :]
    source = unlike([*left, *read_cores(folder / "source")], [*indist, *balanced, *teacher])
    more = unlike(read_cores(folder / "teacher_more"), [*indist, *balanced, *source])
    return CoreSplit(tuple(teacher), tuple(more), tuple(source), tuple(indist), tuple(balanced))


def _content(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z']+", re.sub(r"\{\w+\}", "", text.lower())))


def unlike(cores: Iterable[Core], known: Iterable[Core]) -> list[Core]:
    """The cores that share less than `MOST_ALIKE` of their words with each of `known` (Jaccard)."""
    others = [_content(core.text) for core in known]
    found = []
    for core in cores:
        ours = _content(core.text)
        if all(len(ours & theirs) < MOST_ALIKE * len(ours | theirs) for theirs in others):
            found.append(core)
    return found


def card_number(rng: random.Random) -> str:
    """A number with a valid check digit in a range that card schemes use for tests."""
    head = rng.choice(("400000", "424242", "411111", "555555", "510510", "222300"))
    digits = [int(c) for c in head] + [rng.randrange(10) for _ in range(9)]
    doubled = sum(sum(divmod(d * 2, 10)) if i % 2 == 0 else d for i, d in enumerate(digits))
    number = "".join(map(str, digits)) + str(-doubled % 10)
    if rng.random() < 0.6:
        return " ".join(number[i : i + 4] for i in range(0, 16, 4))
    return number if rng.random() < 0.6 else "-".join(number[i : i + 4] for i in range(0, 16, 4))


def _amount(rng: random.Random) -> str:
    whole = int(10 ** rng.uniform(0.7, 3.7))
    if whole > 100 and rng.random() < 0.5:
        whole = round(whole, -1)
    pence = rng.choice(("", "", f".{rng.randrange(100):02d}", ".99", ".50", ".00"))
    grouped = f"{whole:,}" if rng.random() < 0.5 else str(whole)
    return rng.choices(
        (f"£{grouped}{pence}", f"€{grouped}{pence}", f"{grouped} pounds", f"{whole}{pence} GBP", f"{grouped} euros"),
        weights=(10, 2, 2, 1, 1),
    )[0]


def _phone(rng: random.Random) -> str:
    tail = f"{rng.randrange(1000):03d}"
    return rng.choice(
        (f"07700 900{tail}", f"07700900{tail}", f"+44 7700 900{tail}", f"020 7946 0{tail}", f"01632 960{tail}")
    )


def _address(rng: random.Random) -> str:
    street = f"{rng.randrange(1, 190)} {rng.choice(words.STREETS)} {rng.choice(words.STREET_KINDS)}"
    if rng.random() < 0.3:
        return street
    code = f"{rng.choice(words.POSTCODE_AREAS)}{rng.randrange(1, 40)} {rng.randrange(1, 10)}"
    code += "".join(rng.choices("ABDEFGHJLNPQRSTUWXYZ", k=2))
    return f"{street}, {rng.choice(words.CITIES)}" + (f" {code}" if rng.random() < 0.6 else "")


def _date(rng: random.Random) -> str:
    day, month = rng.randrange(1, 29), rng.randrange(12)
    name = words.MONTHS[month]
    return rng.choice(
        (f"{day} {name}", f"{day} {name}", f"{name} {day}", f"{day:02d}/{month + 1:02d}", f"{day} {name[:3]}")
    )


def _time(rng: random.Random) -> str:
    hour, minute = rng.randrange(6, 24), rng.choice((0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, rng.randrange(60)))
    half = "am" if hour < 12 else "pm"
    return rng.choice((f"{hour}:{minute:02d}", f"{hour}:{minute:02d}", f"{(hour - 1) % 12 + 1}.{minute:02d}{half}"))


def slot_values(rng: random.Random) -> dict[str, str]:
    """One value for each slot that a core, greeting, sign-off or extra sentence may hold."""
    first, last = rng.choice(words.FIRST_NAMES), rng.choice(words.LAST_NAMES)
    merchant = f"{rng.choice(words.MERCHANT_HEADS)} {rng.choice(words.MERCHANT_TAILS)}".strip()
    letters = "".join(rng.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=2))
    card = card_number(rng)
    return {
        "name": f"{first} {last}",
        "first": rng.choice(words.FIRST_NAMES),
        "last_initial": rng.choice(words.LAST_NAMES)[0],
        "card": card,
        "last4": re.sub(r"\D", "", card)[-4:],
        "phone": _phone(rng),
        "address": _address(rng),
        "merchant": merchant.upper() if rng.random() < 0.15 else merchant,
        "city": rng.choice(words.CITIES),
        "email": f"{first}.{last}{rng.choice(('', rng.randrange(1, 99)))}@{rng.choice(words.MAIL_NAMES)}".lower(),
        "account": f"{rng.randrange(10**7, 10**8)}",
        "reference": rng.choice(
            (f"{letters}{rng.randrange(10**5, 10**6)}", f"{letters}-{rng.randrange(10**4, 10**5)}")
        ),
        "weekday": rng.choice(words.WEEKDAYS),
        "year": str(rng.randrange(1988, 2024)),
        "birth_year": str(rng.randrange(1938, 2004)),
    }


def fill_slots(text: str, rng: random.Random) -> str:
    """Replace every slot; amounts, dates and times differ from one another, other slots keep one value a message."""
    values = slot_values(rng)
    repeated = dict(zip(REPEATED_SLOTS, (_amount, _date, _time), strict=True))
    return re.sub(r"\{(\w+)\}", lambda m: repeated[m[1]](rng) if m[1] in repeated else values[m[1]], text)


def _swap(text: str, pairs: Iterable[tuple[str, str]], rng: random.Random, chance: float) -> str:
    for old, new in pairs:
        if old in text and rng.random() < chance:
            text = re.sub(rf"(?<![\w{{]){re.escape(old)}(?![\w}}])", new, text)
    return text


def _typo(text: str, rng: random.Random) -> str:
    places = [i for i in range(1, len(text) - 1) if text[i].isalpha() and text[i - 1].isalpha()]
    if not places:
        return text
    at = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :]
    if kind == 2:
        return text[:at] + text[at] + text[at:]
    return text[:at] + rng.choice(words.KEY_NEIGHBOURS.get(text[at].lower(), text[at])) + text[at + 1 :]


def _surround(text: str, rng: random.Random) -> str:
    """Add greeting, neutral sentences and sign-off, each sometimes."""
    if rng.random() < 0.3:
        extra = rng.choice(words.EXTRAS)
        text = f"{text} {extra}" if rng.random() < 0.6 else f"{extra} {text}"
        if rng.random() < 0.25:
            text = f"{text} {rng.choice(words.EXTRAS)}"
    separator = rng.choices((" ", "\n", "\n\n"), weights=(5, 2, 1))[0]
    if rng.random() < 0.35:
        text = f"{rng.choice(words.GREETINGS)}{separator}{text}"
    if rng.random() < 0.3:
        text = f"{text}{separator}{rng.choice(words.SIGN_OFFS)}"
    return text


def vary(core: Core, rng: random.Random) -> str:
    """One message around `core`: about one in five is the core itself with its slots filled."""
    text = core.text
    if rng.random() < 0.2:
        return fill_slots(text, rng)
    text = _swap(text, words.SYNONYMS, rng, 0.25)
    text = fill_slots(_surround(text, rng), rng)
    text = _swap(text, words.CONTRACTIONS, rng, 0.4)
    if rng.random() < 0.25:
        for _ in range(rng.randrange(1, 4)):
            text = _typo(text, rng)
    if rng.random() < 0.12:
        text = re.sub(r"[.,!?;:'\"](?=\s|$)", "", text)
    if rng.random() < 0.12:
        text = text.lower()
    elif rng.random() < 0.025:
        text = text.upper()
    return text


def _new_text(core: Core, rng: random.Random, taken: set[str]) -> str:
    for _ in range(100):
        text = vary(core, rng)
        if text not in taken:
            taken.add(text)
            return text
    raise ValueError(f"core {core.id} gives no new message in 100 attempts")


def _deal(cores: Iterable[Core], rows: int, rng: random.Random) -> list[Core]:
    """`rows` cores, each as often as the others or once more."""
    order = list(cores)
    rng.shuffle(order)
    return [order[i % len(order)] for i in range(rows)]


def make_set(
    cores: Iterable[Core], counts: dict[str, int], name: str, rng: random.Random, taken: set[str]
) -> list[Row]:
    """Rows of one set; `counts` says how many of each kind (report, other, other_hard)."""
    kinds: dict[str, list[Core]] = {kind: [] for kind in KINDS}
    for core in cores:
        kinds[_kind(core)].append(core)
    dealt = [core for kind, rows in counts.items() for core in _deal(kinds[kind], rows, rng)]
    rng.shuffle(dealt)
    return [Row(f"{name}-{i:04d}", _new_text(core, rng, taken), core.label, core.id) for i, core in enumerate(dealt, 1)]


def demo_sets(split: CoreSplit, seed: int) -> dict[str, list[Row]]:
    """The demo's three files, by name without ending."""
    rng, taken = random.Random(f"{seed}-demo"), set[str]()
    return {
        "test_balanced": make_set(
            split.test_balanced, {"report": 200, "other": 100, "other_hard": 100}, "balanced", rng, taken
        ),
        "test_indist": make_set(
            split.test_indist, {"report": 40, "other": 230, "other_hard": 130}, "indist", rng, taken
        ),
        "messages": make_set(split.source, {"report": 530, "other": 2300, "other_hard": 1570}, "message", rng, taken),
    }


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object a line, UTF-8."""
    lines = (json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def prompt_parts(instruction: str = INSTRUCTION, labels: dict[str, str] | None = None) -> tuple[str, str]:
    """What stands before and after a message in the teacher's user turn, exactly as the product renders it."""
    described = "\n".join(f"- {label}: {text}" for label, text in (labels or LABELS).items())
    return f"{instruction}\n\nLabels:\n{described}\n\nText:\n", "\n\nAnswer with one label only."
