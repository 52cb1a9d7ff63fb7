"""How much personal data do patterns and checksums find, and how much do they take that is none?

    python scripts/bench_redaction.py --data ../shared/data [--half tune|report] [--misses] [--out redaction.json]

presidio_research: sentences with marked, invented personal data. They are made of templates; templates that read the
same (in either file) stay together, and a fixed half of them, by hash, was used to mend the patterns (`tune`); the
numbers are those of the other half (`report`). The first draft of the patterns was written after a look at samples of
marked values of both halves, so the report half is unseen as far as sentences and mistakes go, not as to the look of
its values. `--misses` prints what was missed, and is for the tune half only.

A marked span is found where spans of its kind cover at least half of its letters and digits, and `covered` where
spans of any kind cover all of them: that is what a reader of the redacted text could not see. A span found is right
where at least half of its letters and digits are marked as its kind. Intervals are Wilson's. F2 weighs recall four
times as much as precision.

Jigsaw comments (apart from the addresses of computers, by which Wikipedia names its visitors) and banking77 questions
hold hardly any personal data: what is found there is counted by kind, per 1,000 rows; so is the speed.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mlxdistill.data.redaction import Redactor, find_personal_data
from mlxdistill.data.redaction.digits import passes_luhn
from mlxdistill.data.redaction.ibans import passes_mod_97
from mlxdistill.data.redaction.spans import PATTERN_KINDS
from mlxdistill.statistics.intervals import wilson

FILES = ("synth_dataset_v2.json", "generated_large.json")
KINDS_OF = {
    "EMAIL_ADDRESS": "email",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "US_SSN": "national_id",
    "PHONE_NUMBER": "phone",
    "STREET_ADDRESS": "street_address",
    "ADDRESS": "street_address",
    "DOMAIN_NAME": "url",
}
FIXED_FORM = ("email", "card", "iban", "ip", "national_id", "url")
BIRTH = re.compile(r"born on \{\{[^}]*\}\}|date of birth\. it's \{\{[^}]*\}\}", re.IGNORECASE)


@dataclass(frozen=True)
class Marked:
    """A sentence with its marked spans (start, end, kind; of kinds that patterns look for) and its template."""

    text: str
    spans: tuple[tuple[int, int, str], ...]
    template: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--half", choices=("tune", "report"), default="report")
    parser.add_argument("--misses", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.misses and options.half == "report":
        parser.error("--misses shows the tune half only: add --half tune")
    sentences = read_marked(options.data / "presidio_research")
    chosen = [each for each in sentences if is_tuned(each.template) == (options.half == "tune")]
    templates = len({each.template for each in chosen})
    print(f"presidio_research, {options.half} half: {len(chosen):,} sentences of {templates} templates")
    results = {
        "half": options.half,
        "sentences": len(chosen),
        "templates": templates,
        "kinds": measure(chosen, options),
    }
    results["marked_wrong"] = marked_wrong(chosen)
    results["false_finds"] = {name: false_finds(name, texts) for name, texts in plain_texts(options.data).items()}
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def read_marked(folder: Path) -> list[Marked]:
    """The sentences of both files."""
    return [marked(record) for name in FILES for record in json.loads((folder / name).read_text("utf-8"))]


def marked(record: dict[str, Any]) -> Marked:
    is_birth = BIRTH.search(record["masked"])
    spans = []
    for span in record["spans"]:
        kind = KINDS_OF.get(span["entity_type"])
        if span["entity_type"] == "DATE_TIME" and is_birth:
            kind = "date_of_birth"
        if kind is not None:
            spans.append((span["start_position"], span["end_position"], kind))
    template = re.sub(r"\{\{[^}]*\}\}", "{}", record["masked"])
    return Marked(record["full_text"], tuple(spans), " ".join(re.sub(r"\W+", " ", template).casefold().split()))


def is_tuned(template: str) -> bool:
    return sha256(template.encode()).digest()[0] % 2 == 0


def measure(sentences: Sequence[Marked], options: argparse.Namespace) -> dict[str, Any]:
    """Recall, precision and F2 of each kind, as a table."""
    gold, hit, covered, found, right = Counter(), Counter(), Counter(), Counter(), Counter()
    missed: dict[str, list[str]] = defaultdict(list)
    wrong: dict[str, list[str]] = defaultdict(list)
    for each in sentences:
        spans = [(span.start, span.end, span.kind) for span in find_personal_data(each.text, PATTERN_KINDS)]
        anywhere = places(each.text, spans)
        by_kind = {kind: places(each.text, spans, kind) for kind in PATTERN_KINDS}
        marks = {kind: places(each.text, each.spans, kind) for kind in PATTERN_KINDS}
        for span in each.spans:
            start, end, kind = span
            own = places(each.text, [span])
            gold[kind] += 1
            hit[kind] += 2 * len(own & by_kind[kind]) >= len(own)
            covered[kind] += own <= anywhere
            if 2 * len(own & by_kind[kind]) < len(own):
                missed[kind].append(
                    each.text[max(0, start - 25) : start]
                    + "<<"
                    + each.text[start:end]
                    + ">>"
                    + each.text[end : end + 15]
                )
        for span in spans:
            start, end, kind = span
            own = places(each.text, [span])
            found[kind] += 1
            good = 2 * len(own & marks[kind]) >= len(own)
            right[kind] += good
            if not good:
                wrong[kind].append(
                    each.text[max(0, start - 25) : start]
                    + "<<"
                    + each.text[start:end]
                    + ">>"
                    + each.text[end : end + 15]
                )
    print(f"{'kind':15}{'marked':>7}  {'recall':24}{'covered':24}{'found':>6}  {'precision':24}{'F2':>6}")
    table = {}
    for kind in PATTERN_KINDS:
        if not gold[kind] and not found[kind]:
            continue
        recall, whole = share(hit[kind], gold[kind]), share(covered[kind], gold[kind])
        precision = share(right[kind], found[kind])
        f2 = None
        if recall and precision and recall["value"] + precision["value"]:
            f2 = 5 * recall["value"] * precision["value"] / (4 * precision["value"] + recall["value"])
        low = kind in FIXED_FORM and recall is not None and recall["value"] < 0.98
        print(
            f"{kind:15}{gold[kind]:7}  {shown(recall):24}{shown(whole):24}{found[kind]:6}  {shown(precision):24}"
            f"{'' if f2 is None else f'{f2:.3f}':>6}{'  below 0.98' if low else ''}"
        )
        table[kind] = {"marked": gold[kind], "found": found[kind], "recall": recall, "covered": whole,
                       "precision": precision, "f2": f2}  # fmt: skip
    if options.misses:
        for title, examples in (("missed", missed), ("wrong", wrong)):
            for kind, texts in examples.items():
                print(f"\n{title} {kind}: {len(texts)}")
                for text in texts[:40]:
                    print("   ", text.replace("\n", "\\n"))
    return table


def places(text: str, spans: Iterable[tuple[int, int, str]], kind: str | None = None) -> set[int]:
    """Of the letters and digits in spans of a kind."""
    within = (range(start, end) for start, end, of in spans if kind in (None, of))
    return {place for part in within for place in part if text[place].isalnum()}


def share(count: int, n: int) -> dict[str, Any] | None:
    if not n:
        return None
    interval = wilson(count, n)
    return {"value": interval.value, "ci": list(interval.ci), "n": n}


def shown(value: dict[str, Any] | None) -> str:
    return "" if value is None else f"{value['value']:.3f} [{value['ci'][0]:.3f}, {value['ci'][1]:.3f}]"


def marked_wrong(sentences: Sequence[Marked]) -> dict[str, int]:
    """Marked values that are none: no check digit, no checksum."""
    counts = Counter()
    for each in sentences:
        for start, end, kind in each.spans:
            value = re.sub(r"\W", "", each.text[start:end])
            if kind == "card":
                counts["cards"] += 1
                counts["cards that fail Luhn"] += not (value.isdecimal() and passes_luhn(value))
                counts["cards of 12 digits"] += len(value) == 12
            if kind == "iban":
                counts["ibans"] += 1
                counts["ibans that fail mod 97"] += not passes_mod_97(value)
    print("marked values: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    return dict(counts)


def plain_texts(data: Path) -> dict[str, list[str]]:
    """Texts with hardly any personal data."""
    jigsaw = []
    for path in sorted((data / "jigsaw").glob("*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            record = json.loads(line)
            text = record.get("text") or record.get("comment_text")
            if text:
                jigsaw.append(text)
    banking = []
    for path in sorted((data / "banking77").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            banking += [row["text"] for row in csv.DictReader(file)]
    return {"jigsaw": list(dict.fromkeys(jigsaw)), "banking77": list(dict.fromkeys(banking))}


def false_finds(name: str, texts: Sequence[str]) -> dict[str, Any]:
    if not texts:
        return {}
    redactor = Redactor()
    began = time.process_time()
    redacted = [redactor.redact(text) for text in texts]
    seconds = time.process_time() - began
    counts: Counter[str] = Counter()
    for each in redacted:
        counts.update(each.counts)
    rows = sum(bool(each.counts) for each in redacted)
    per = ", ".join(f"{kind} {1000 * count / len(texts):.2f}" for kind, count in counts.most_common())
    print(
        f"{name}: {len(texts):,} texts, {1000 * rows / len(texts):.1f} of 1,000 with a find (finds per 1,000: {per}); "
        f"{len(texts) / seconds:,.0f} rows/s of one core"
    )
    return {
        "texts": len(texts),
        "texts_with_finds": rows,
        "finds": dict(counts),
        "rows_per_second": len(texts) / seconds,
    }


if __name__ == "__main__":
    main()
