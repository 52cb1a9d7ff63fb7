"""What is accepted withstands every check anew; what was rejected stays out; a stop changes nothing."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxdistill.config.synth import SynthConfig
from mlxdistill.errors import DataError
from mlxdistill.experiments.synthesis import checks
from mlxdistill.experiments.synthesis.checks import profile_of
from mlxdistill.experiments.synthesis.journal import Draft, Journal, Verdict
from mlxdistill.experiments.synthesis.loop import TWIN, Ask, Synthesis
from mlxdistill.experiments.synthesis.outcome import outcome_of
from mlxdistill.experiments.synthesis.synthesise import add_rows, settle_kept
from mlxdistill.experiments.synthesis.teachers import OTHERWISE, UNSURE, objection
from mlxdistill.experiments.synthesis.wanted import Job, begin_job, end_job, wanted_rows
from mlxdistill.pipeline.synthetic import synthetic_rows
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.protocols import Answer
from mlxdistill.tasks.rows import Row, normalised
from mlxdistill.text.language import language_of
from mlxdistill.text.shingles import shingles

WORDS = re.findall(
    r"\w+",
    "card bank money account phone shop yesterday payment letter please street branch stolen window garden holiday"
    " number morning brother picture weather cheque station ticket river kitchen lawyer music market paper",
)
GERMAN = (
    "Ich habe gestern meine Karte in der Stadt verloren und weiß jetzt nicht, was ich noch machen soll, bitte helfen"
    " Sie mir heute oder morgen"
)


def sentence(chance: random.Random) -> str:
    return "I think that the " + " and the ".join(chance.sample(WORDS, 8)) + " were there"


def rows_of(prefix: str, count: int, seed: int) -> list[Row]:
    chance = random.Random(seed)
    return [Row(f"{prefix}{place}", sentence(chance)) for place in range(count)]


class Stopped(Exception):
    pass


@dataclass
class World:
    """A run without models: a writer whose drafts are good, bad in every way, or repeated; a teacher that goes by the
    text. `calls_left`: after so many calls everything stops."""

    folder: Path
    wanted: dict[str, int] = field(default_factory=lambda: {"rare": 12, "other": 5})
    most_drafts: int = 20
    good: float = 0.4
    seed: int = 0
    calls_left: int | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.real = {"rare": rows_of("rare", 9, 1), "other": rows_of("other", 40, 2)}
        self.measuring = rows_of("test", 30, 3)
        self.run = RunDir(self.folder)

    @property
    def synthetic(self) -> list[Row]:
        return list(synthetic_rows(self.run))

    def texts(self) -> Iterator[str]:
        rows = [*self.real["rare"], *self.real["other"], *self.measuring, *self.synthetic]
        return (normalised(row.text) for row in rows)

    def text(self, ask: Ask) -> str | None:
        chance = random.Random(f"{self.seed}/{ask.label}/{ask.number}")
        if chance.random() < self.good:
            return sentence(chance)
        bad = [
            None,
            "",
            "short",
            sentence(chance) * 9,
            "bell \x07 " + sentence(chance),
            GERMAN,
            chance.choice(self.measuring).text[:-9] + " by now",
            chance.choice(self.real["rare"]).text.upper(),
            ask.seeds[0].text if ask.seeds else None,
            "I think that the unsure " + sentence(chance)[17:-10],
            "I think that the otherwise " + sentence(chance)[17:-10],
            sentence(random.Random(chance.randrange(3))),  # the same few again and again
        ]
        return chance.choice(bad)

    def call(self) -> None:
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                raise Stopped

    def write(self, asks: Sequence[Ask]) -> Iterator[list[Draft]]:
        """Finished in another order than asked for."""
        shuffled = random.Random(len(asks)).sample(list(asks), len(asks))
        for start in range(0, len(shuffled), 5):
            self.call()
            yield [
                Draft(ask.label, ask.number, tuple(seed.id for seed in ask.seeds), self.text(ask))
                for ask in shuffled[start : start + 5]
            ]

    def judge(self, rows: Sequence[Row]) -> Mapping[str, str | None]:
        self.call()
        reasons = {"unsure": "not sure", "otherwise": "another label"}
        return {row.id: next((why for word, why in reasons.items() if word in row.text), None) for row in rows}

    def keep(self, rows: Sequence[Row]) -> None:
        self.call()
        add_rows(self.run, rows)
        self.call()  # between the rows and the verdicts

    def note(self, message: str) -> None:
        self.notes.append(message)

    def advance(self, done: int, total: int, **figures: float) -> None: ...

    def synthesise(self, number: int = 1) -> Synthesis:
        journal = Journal(self.run.drafts)
        settle_kept(journal, self.synthetic, number)
        synth = SynthConfig(most_drafts=self.most_drafts, seed=self.seed, seeds=3)
        everything = [*self.real["rare"], *self.real["other"]]
        profiles = {label: profile_of(label, self.real[label], everything) for label in self.wanted}
        job = Job(number, {}, self.wanted)
        synthesis = Synthesis(job, synth, profiles, journal, self.write, self.judge, self.keep, self.texts, self)
        synthesis.run()
        return synthesis


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., World]:
    numbers = itertools.count()
    return lambda **settings: World(tmp_path / str(next(numbers)), **settings)


def jaccard(one: str, other: str) -> float:
    ours, theirs = shingles(normalised(one)), shingles(normalised(other))
    return len(ours & theirs) / len(ours | theirs)


def test_what_is_accepted_withstands_every_check_from_scratch(world: Callable[..., World]) -> None:
    here = world()
    here.synthesise()
    rows = here.synthetic
    assert [row.meta["intended"] for row in rows].count("rare") == 12
    assert [row.meta["intended"] for row in rows].count("other") == 5
    real = {row.id: row for rows in here.real.values() for row in rows}
    for row in rows:
        lengths = [len(other.text) for other in real.values()]
        assert min(lengths) <= len(row.text) <= max(lengths)
        assert language_of(row.text) in (None, "en")
        others = [*real.values(), *here.measuring, *(other for other in rows if other is not row)]
        assert max(jaccard(row.text, other.text) for other in others) < 0.8
        assert here.judge([row]) == {row.id: None}
        assert row.text.isprintable()
        assert row.meta["synthetic"] is True
        assert set(row.meta["seeds"]) <= {other.id for other in here.real[row.meta["intended"]]}
        assert len(row.meta["seeds"]) == 3
    assert len({row.id for row in rows}) == 17


def test_every_rejection_has_its_reason(world: Callable[..., World]) -> None:
    here = world(wanted={"rare": 60, "other": 5})
    here.synthesise()
    journal = Journal(here.run.drafts)
    reasons = journal.outcomes("rare")
    expected = {"UNFINISHED", "EMPTY", "CHARACTERS", "SHORT", "LONG", "REPEATED", "LANGUAGE", "COPY"}
    assert {getattr(checks, name) for name in expected} | {"not sure", "another label"} <= set(reasons)
    assert reasons[None] == 60
    for key, verdict in journal.verdicts.items():
        if verdict.reason == checks.LANGUAGE:
            assert journal.drafts[key].text == GERMAN


def test_two_alike_in_one_round_are_one_row(world: Callable[..., World]) -> None:
    here = world(wanted={"rare": 4})
    text = sentence(random.Random(8))
    here.text = lambda ask: text + "!" * ask.number  # type: ignore[method-assign]
    here.synthesise()
    outcomes = Journal(here.run.drafts).outcomes("rare")
    assert (outcomes[None], len(here.synthetic)) == (1, 1)
    assert outcomes[TWIN] >= 1
    assert outcomes.keys() <= {None, TWIN, checks.COPY, checks.REPEATED, checks.LONG}


def test_the_same_seed_writes_the_same_rows(world: Callable[..., World]) -> None:
    files = []
    for seed in (0, 0, 1):
        here = world(seed=seed)
        here.synthesise()
        files.append(here.run.synthetic.read_bytes())
    assert files[0] == files[1] != files[2]


def test_a_rejected_draft_never_comes_back(world: Callable[..., World]) -> None:
    here = world()
    for number in range(1, 5):
        here.synthesise(number)
    journal = Journal(here.run.drafts)
    rows = [normalised(row.text) for row in here.synthetic]
    assert len(rows) == len(set(rows)) == 4 * 17
    rejected = {
        normalised(journal.drafts[key].text or "")
        for key, verdict in journal.verdicts.items()
        if verdict.reason not in (None, checks.REPEATED)
    }
    assert rejected.isdisjoint(rows)
    for key, draft in journal.drafts.items():
        earlier = [
            other
            for other, given in journal.drafts.items()
            if given.text == draft.text and other[1] < key[1] and given.text
        ]
        if earlier and earlier[0][0] == key[0] and key in journal.verdicts:
            assert journal.verdicts[key].reason == checks.REPEATED


@pytest.mark.parametrize("calls", range(0, 60, 7))
def test_a_stop_anywhere_changes_nothing(world: Callable[..., World], calls: int) -> None:
    whole, stopped = world(), world(calls_left=calls)
    whole.synthesise()
    while True:
        try:
            stopped.synthesise()
            break
        except Stopped:
            stopped.calls_left = calls + 3
            with stopped.run.drafts.open("ab") if stopped.run.drafts.exists() else open("/dev/null", "ab") as file:
                file.write(b'{"label": "rare", "numb')  # a line that a crash has cut
    assert stopped.run.synthetic.read_bytes() == whole.run.synthetic.read_bytes()


def test_what_was_too_much_serves_the_next_call(world: Callable[..., World]) -> None:
    here = world(wanted={"other": 2}, good=1.0)
    here.synthesise()
    journal = Journal(here.run.drafts)
    waiting = len(journal.pending("other"))
    assert waiting > 2
    here.write = lambda asks: pytest.fail("there were drafts enough")  # type: ignore[method-assign,assignment]
    here.synthesise(2)
    assert len(Journal(here.run.drafts).pending("other")) == waiting - 2
    assert len(here.synthetic) == 4


def test_the_teacher_stands_by_a_label_or_objects() -> None:
    row, names = Row("r", "text", meta={"intended": "rare"}), ("other", "rare")
    assert objection(row, Answer("r", "rare", (0.2, 0.8)), names, 0.8) is None
    assert objection(row, Answer("r", "rare"), names, 0.8) is None
    assert objection(row, Answer("r", "rare", (0.3, 0.7)), names, 0.8) == UNSURE
    assert objection(row, Answer("r", "other", (0.9, 0.1)), names, 0.0) == OTHERWISE
    assert objection(row, Answer("r", None, outcome="unparsable"), names, 0.0) == OTHERWISE
    assert objection(row, None, names, 0.0) == OTHERWISE


@pytest.mark.parametrize(("good", "wanted", "most"), [(0.0, 500, 10), (0.0, 3, 10), (0.05, 30, 3)])
def test_a_hopeless_class_is_given_up(world: Callable[..., World], good: float, wanted: int, most: int) -> None:
    here = world(wanted={"rare": wanted, "other": 2}, good=good, most_drafts=most)
    here.text = lambda ask: None if ask.label == "rare" else sentence(random.Random(ask.number))  # type: ignore[method-assign]
    synthesis = here.synthesise()
    assert synthesis.given_up("rare")
    assert (synthesis.missing("rare"), synthesis.missing("other")) == (wanted, 0)
    assert Journal(here.run.drafts).outcomes("rare").total() <= min(wanted * most, 64)


@given(
    st.dictionaries(st.sampled_from("abcde"), st.integers(0, 40), min_size=1),
    st.integers(1, 60),
)
def test_rows_go_to_the_classes_with_the_fewest(counts: dict[str, int], rows: int) -> None:
    wanted = wanted_rows(SynthConfig(rows=rows), counts)
    assert sum(wanted.values()) == rows
    after = {label: count + wanted.get(label, 0) for label, count in counts.items()}
    if wanted:
        assert max(after[label] for label in wanted) <= min(after.values()) + 1
    balanced = wanted_rows(SynthConfig(), counts)
    assert {counts[label] + balanced.get(label, 0) for label in counts} == {max(counts.values())}
    assert all(count > 0 for count in (*wanted.values(), *balanced.values()))


def test_a_stopped_job_goes_on_and_an_ended_one_does_not(tmp_path: Path) -> None:
    run, synth = RunDir(tmp_path), SynthConfig(rows=10)
    first = begin_job(run, synth, {"a": 50, "b": 20})
    assert (first.number, first.wanted) == (1, {"b": 10})
    assert begin_job(run, synth, {"a": 50, "b": 27}) == first
    assert begin_job(run, SynthConfig(rows=11), {"a": 50, "b": 27}).number == 2
    again = begin_job(run, synth, {"a": 50, "b": 27})
    end_job(run, again, {"rows": 10})
    assert begin_job(run, synth, {"a": 50, "b": 30}).number == 4
    balance = begin_job(run, SynthConfig(), {"a": 50, "b": 30})
    assert begin_job(run, SynthConfig(), {"a": 50, "b": 44}).wanted == {"b": 6}
    assert balance.wanted == {"b": 20}


def test_the_journal_keeps_what_was_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows" / "drafts.jsonl"
    journal = Journal(path)
    journal.add([Draft("a", 2, ("x",), "grüße\u2028"), Draft("a", 0, (), None)])
    path.write_bytes(path.read_bytes() + b'{"label": "a", "num')
    journal = Journal(path)
    journal.add([Verdict("a", 0, "empty", 1)])
    again = Journal(path)
    assert (
        again.drafts
        == journal.drafts
        == {("a", 2): Draft("a", 2, ("x",), "grüße\u2028"), ("a", 0): Draft("a", 0, (), None)}
    )
    assert again.verdicts == {("a", 0): Verdict("a", 0, "empty", 1)}
    assert [draft.number for draft in again.pending("a")] == [2]
    assert (again.gaps("a"), again.next_number("a"), again.next_number("b")) == ([1], 3, 0)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text('{"label": "a"}\n', "utf-8")
    with pytest.raises(DataError, match=r"drafts.jsonl:1: neither a draft nor a verdict"):
        Journal(path)


def test_variety_is_of_as_many_real_rows_as_synthetic_ones(world: Callable[..., World]) -> None:
    here = world()
    here.synthesise()
    job = Job(1, {}, here.wanted)
    outcome = outcome_of(job, Journal(here.run.drafts), here.real, here.synthetic)
    assert outcome["complete"]
    assert (outcome["rows"], outcome["share"]) == (17, 17 / 66)
    other = outcome["classes"]["other"]
    assert (other["real"], other["synthetic"], other["accepted"]) == (40, 5, 5)
    assert other["drafts"] == other["accepted"] + sum(other["rejected"].values())
    real, synthetic = other["variety"]["real"], other["variety"]["synthetic"]
    assert real["texts"] == synthetic["texts"] == 5
    rows = [row.text for row in here.synthetic if row.meta["intended"] == "other"]
    near = [max(jaccard(row, real.text) for real in here.real["other"]) for row in rows]
    assert synthetic["nearest_real"] == pytest.approx(sum(near) / 5)
    alike = [max(jaccard(row, other) for other in rows if other is not row) for row in rows]
    assert synthetic["self_similarity"] == pytest.approx(sum(alike) / 5)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.2, 1.0))
def test_no_draft_is_lost_or_judged_twice(tmp_path_factory: pytest.TempPathFactory, seed: int, good: float) -> None:
    here = World(tmp_path_factory.mktemp("world"), wanted={"rare": 3}, seed=seed, good=good)
    here.synthesise()
    records = [json.loads(line) for line in here.run.drafts.read_text("utf-8").splitlines()]
    drafts = [record["number"] for record in records if "text" in record]
    verdicts = [record["number"] for record in records if "reason" in record]
    assert sorted(drafts) == list(range(len(drafts)))
    assert len(verdicts) == len(set(verdicts))
    assert set(verdicts) <= set(drafts)
