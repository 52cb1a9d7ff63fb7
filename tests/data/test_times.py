from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxdistill.config.data import DataConfig
from mlxdistill.data.fields import Columns, GoldLabels, RowMaker
from mlxdistill.data.times import read_time, shown_time
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.lines import BadLine, Record

TASK = ClassificationTask("Decide.", (Label("ok", "", "ok"), Label("toxic", "", "toxic")))


@pytest.mark.parametrize(
    "value",
    [
        "2024-01-31",
        " 2024-01-31 ",
        "2024-01-31T00:00:00Z",
        "2024-01-31 01:00:00+01:00",
        "2024-01-31 00:00 UTC",
        "2024/1/31",
        "2024/01/31 00:00",
        "20240131",
        20240131,
        "31.1.2024",
        "31.01.2024 00:00",
        "31 Jan 2024",
        "January 31, 2024",
        "Wed, 31 Jan 2024 01:00:00 +0100",
        "Wed Jan 31 00:00:00 +0000 2024",
        1706659200,
        1706659200.0,
        "1706659200",
        1706659200000,
        "1706659200000",
        1706659200000000,
        1706659200000000000,
        date(2024, 1, 31),
        datetime(2024, 1, 31),
        datetime(2024, 1, 31, 1, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_one_day_in_many_forms(value):
    assert shown_time(read_time(value)) == "2024-01-31T00:00:00.000+00:00"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("yesterday", "no date that can be read"),
        ("2024-13-01", "no date that can be read"),
        ("31.02.2024", "no date that can be read"),
        ("10:30", "no date that can be read"),
        ("03/04/2024", "day first or month first"),
        ("3-4-24", "day first or month first"),
        (True, "a boolean"),
        ([2024], "neither a string nor a number"),
        (float("nan"), "no number"),
        (float("inf"), "too large"),
        (10**400, "too large"),
        (-9e10, "outside of the years"),
        ("9999-12-31T23:59:59-10:00", "outside of the years"),
    ],
)
def test_what_is_no_time_is_refused_without_being_shown(value, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        read_time(value)
    assert str(value) not in str(caught.value)


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)))
def test_what_is_shown_is_read_as_the_same_time(moment):
    shown = shown_time(read_time(moment))
    assert read_time(shown) == read_time(moment)
    assert abs(datetime.fromisoformat(shown) - moment) <= timedelta(milliseconds=1)


@given(st.lists(st.integers(-62_000_000_000_000, 250_000_000_000_000), min_size=2))
def test_shown_times_sort_as_the_times_do(moments):
    assert [shown_time(moment) for moment in sorted(moments)] == sorted(map(shown_time, moments))


def maker(**settings):
    config = DataConfig(source="rows.jsonl", fields={"text": "text", "gold": "gold"}, **settings)
    return RowMaker(Columns.of(config), GoldLabels(TASK, {}))


def test_a_row_without_a_time_is_a_bad_line_where_times_are_asked_for():
    def made(values, **how):
        return maker(time="when").make(Record(3, {"text": "a text", **values}), {}, **how)

    assert made({"when": None}, timed=True) == BadLine(3, "the time is missing")
    assert made({"when": " "}, timed=True) == BadLine(3, "the time is missing")
    assert made({}, timed=True) == BadLine(3, "the time is missing")
    assert made({"when": "private"}, timed=True).reason.startswith("the time is no date that can be read")
    row = made({"when": "2024-05-06"}, timed=True)
    assert (row.time, row.row.meta) == (1714953600000, {"time": "2024-05-06T00:00:00.000+00:00"})
    assert made({"when": "private"}).row.meta == {}  # given sets are not split
    assert maker().make(Record(1, {"text": "a", "when": "private"}), {}, timed=True).row.meta == {}


@pytest.mark.parametrize("value", ["2024", 2024, "202401", 199912.0])
def test_a_year_or_a_month_alone_is_no_time(value: object) -> None:
    with pytest.raises(ValueError, match="a year or a month alone"):
        read_time(value)
