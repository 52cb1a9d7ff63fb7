import json
from collections import Counter
from pathlib import Path

import pytest

from mlxdistill.config.data import DataConfig
from mlxdistill.data.ingest import ingest, splits_fingerprint
from mlxdistill.errors import DataError
from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.classification import ClassificationTask, Label
from mlxdistill.tasks.rows import content_id, normalised, read_rows

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not SHARED.exists(), reason="reads public data sets, which the project does not carry, from ../shared/data"
)

TASK = ClassificationTask("Decide.", (Label("ok", "", "ok"), Label("toxic", "", "toxic")))
SMALL = {"valid": 4, "test": {"indist": 4, "balanced": 4}, "near_duplicates": None}


def config(source, **settings):
    fields = {"text": "text", "gold": "gold", "id": "id"}
    return DataConfig(**{"source": str(source), "fields": fields, **SMALL, **settings})


def records(count, prefix="r"):
    return [
        {"id": f"{prefix}{index}", "text": f"{prefix} text {index}", "gold": ("ok", "toxic")[index % 2]}
        for index in range(count)
    ]


def write(path, rows):
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path / "run")


def sets_of(run):
    return {
        "pool": read_rows(run.pool),
        "valid": read_rows(run.valid),
        **{name: read_rows(path) for name, path in run.test_sets.items() if path.exists()},
    }


def test_sets_are_written_and_the_summary_tells_of_them(tmp_path, run, progress):
    source = write(tmp_path / "rows.jsonl", records(40))
    summary = ingest(config(source), TASK, run, progress)
    sets = sets_of(run)
    assert {name: (len(rows), dict(Counter(row.gold for row in rows))) for name, rows in sets.items()} == {
        name: (part.n, dict(part.class_counts)) for name, part in summary.sets.items()
    }
    assert {name: len(rows) for name, rows in sets.items()} == {
        "pool": 28,
        "valid": 4,
        "test_indist": 4,
        "test_balanced": 4,
    }
    assert Counter(row.meta["half"] for row in sets["valid"]) == {"selection": 2, "calibration": 2}
    assert sorted(row.id for rows in sets.values() for row in rows) == sorted(row["id"] for row in records(40))
    assert (summary.rows_read, summary.bad_lines, summary.notes, summary.has_gold) == (40, 0, (), True)
    assert run.pool.with_name("bad_lines.jsonl").read_text() == ""
    assert progress.advances[-1] == (40, 40)


def test_the_same_source_gives_the_same_bytes(tmp_path, progress):
    source = write(tmp_path / "rows.jsonl", records(40))
    first, second = RunDir(tmp_path / "a"), RunDir(tmp_path / "b")
    for run in (first, second):
        ingest(config(source), TASK, run, progress)
    for path in (first.path / "rows").iterdir():
        assert path.read_bytes() == (second.path / "rows" / path.name).read_bytes()


def test_bad_lines_are_put_aside_and_their_text_is_nowhere(tmp_path, run, progress):
    private = "private words"
    bad = [
        '{"id": "x1", "text": "' + private,
        json.dumps([private]),
        json.dumps({"id": "x3", "gold": "ok", "body": private}),
        json.dumps({"id": "x4", "text": " ", "gold": "ok"}),
        json.dumps({"id": "x5", "text": private, "gold": "unheard of"}),
        json.dumps({"id": "r0", "text": private + " again", "gold": "ok"}),
    ]
    source = write(tmp_path / "rows.jsonl", [*records(40), *bad])
    summary = ingest(config(source), TASK, run, progress)
    assert (summary.rows_read, summary.bad_lines) == (46, 6)
    written = [json.loads(line) for line in run.pool.with_name("bad_lines.jsonl").read_text().splitlines()]
    assert [(line["file"], line["line"]) for line in written] == [(str(source), number) for number in range(41, 47)]
    assert [line["reason"] for line in written][1:] == [
        "a list, where a JSON object was expected",
        "no column 'text'",
        "the text is empty",
        "the gold value 'unheard of' means no label",
        "the id 'r0' was already used in line 1",
    ]
    assert summary.first_bad_lines[1] == f"{source}:42 a list, where a JSON object was expected"
    assert private not in run.pool.with_name("bad_lines.jsonl").read_text() + "".join(progress.notes)
    assert "lines that cannot be used: 6" in progress.notes[0]


def test_strict_stops_at_the_first_bad_line(tmp_path, run, progress):
    source = write(tmp_path / "rows.jsonl", [*records(40), "{", "["])
    with pytest.raises(DataError, match="not JSON") as caught:
        ingest(config(source), TASK, run, progress, strict=True)
    assert caught.value.where == f"{source}:41"
    assert not run.pool.exists()


def test_duplicates_are_kept_once_and_conflicting_gold_is_counted(tmp_path, run, progress):
    rows = [
        *records(40),
        {"id": "d1", "text": "R  TEXT 0", "gold": "ok"},
        {"id": "d2", "text": "r text 1", "gold": "ok"},
        {"id": "u", "text": "without gold"},
        {"id": "d3", "text": "without  gold", "gold": "toxic"},
    ]
    summary = ingest(config(write(tmp_path / "rows.jsonl", rows)), TASK, run, progress)
    assert (summary.duplicates, summary.conflicting_gold) == (3, 1)
    kept = {row.id: row.gold for rows in sets_of(run).values() for row in rows}
    assert len(kept) == 41
    assert (kept["r1"], kept["u"]) == ("toxic", "toxic")
    assert not kept.keys() & {"d1", "d2", "d3"}


def test_rows_without_ids_get_a_hash_and_repeated_texts_are_duplicates_not_bad_lines(tmp_path, run, progress):
    rows = [{"text": row["text"], "gold": row["gold"]} for row in [*records(40), records(1)[0]]]
    source = write(tmp_path / "rows.jsonl", rows)
    summary = ingest(config(source, fields={"text": "text", "gold": "gold"}), TASK, run, progress)
    assert (summary.bad_lines, summary.duplicates) == (0, 1)
    assert all(row.id == content_id(row.text) for row in read_rows(run.pool))


@pytest.mark.parametrize("column", ["text", "gold", "id"])
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_wrong_column_is_an_error_that_names_the_right_one(tmp_path, run, progress, column, suffix):
    source = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        source.write_text("id,text,gold\n" + "".join(f"{i},text {i},ok\n" for i in range(9)))
    else:
        write(source, records(9))
    fields = {"text": "text", "gold": "gold", "id": "id", column: f"{column}s"}
    with pytest.raises(DataError) as caught:
        ingest(config(source, fields=fields), TASK, run, progress)
    assert str(caught.value) == f"{source}: no column '{column}s'; it has: id, text, gold"
    assert caught.value.hint == f"did you mean '{column}'? set data.fields.{column}"


def test_a_wrong_group_column_is_an_error(tmp_path, run, progress):
    with pytest.raises(DataError, match="no column 'customer'") as caught:
        ingest(config(write(tmp_path / "rows.jsonl", records(9)), group="customer"), TASK, run, progress)
    assert "data.group" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "message", "hint"),
    [
        ("a.jsonl", '{"a"\n[]\n', "none of its 2 lines can be used; the first: not JSON", "mend"),
        ("a.jsonl", "\n \n", "the file holds no rows", "check"),
        ("a.csv", "id,text,gold\n", "the file holds no rows", "check"),
        ("a.jsonl", '{"text": "a", "id": 1, "gold": 3}\n', "the gold value '3' means no label", "data.gold_values"),
    ],
)
def test_files_of_which_nothing_can_be_used(tmp_path, run, progress, name, content, message, hint):
    source = tmp_path / name
    source.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        ingest(config(source), TASK, run, progress)
    assert caught.value.where.startswith(str(source))
    assert hint in caught.value.hint


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_text_column_must_be_named_unless_the_source_is_a_request_log(tmp_path, run, progress, suffix):
    source = tmp_path / f"rows.{suffix}"
    source.write_text('{"text": "a"}\n' if suffix == "jsonl" else "text\na\n")
    with pytest.raises(DataError) as caught:
        ingest(config(source, fields={}), TASK, run, progress)
    assert "data.fields.text" in caught.value.hint


def test_a_log_s_answers_come_along_and_its_text_is_the_last_user_message(tmp_path, run, progress):
    logged = [
        {"messages": [{"role": "user", "content": row["text"]}], "response": '{"bad": 1}', "gold": row["gold"]}
        for row in records(40)
    ]
    source = write(tmp_path / "log.jsonl", logged)
    ingest(config(source, fields={"gold": "gold"}), TASK, run, progress)
    rows = [row for rows in sets_of(run).values() for row in rows]
    assert {row.text for row in rows} == {row["text"] for row in records(40)}
    assert {row.meta["answer"] for row in rows} == {'{"bad": 1}'}


def test_without_gold_no_balanced_set_is_written_and_an_old_one_goes(tmp_path, run, progress):
    run.pool.parent.mkdir(parents=True)
    run.test_balanced.write_text("old")
    rows = [{"id": row["id"], "text": row["text"], "gold": ""} for row in records(40)]
    summary = ingest(config(write(tmp_path / "rows.jsonl", rows)), TASK, run, progress)
    assert not run.test_balanced.exists()
    assert set(summary.sets) == {"pool", "valid", "test_indist"}
    assert not summary.has_gold
    assert progress.notes == [
        "the source has no gold: the column 'gold' is empty in every row",
        "no gold: test_balanced is drawn from the teacher's answers, after labelling",
    ]


def test_given_sets_are_taken_as_they_are_and_out_of_the_source(tmp_path, run, progress):
    test_rows = [
        {"id": "t1", "text": "R TEXT 3", "gold": "toxic"},
        {"id": "r5", "text": "another text under an old id", "gold": "toxic"},
        {"id": "t2", "text": "new", "gold": "toxic", "who": "c7"},
        {"id": "t3", "text": "NEW", "gold": "toxic"},
        {"id": "t4", "text": "no gold"},
        {"id": "t5", "text": "newer", "gold": "ok"},
    ]
    indist = write(tmp_path / "test.jsonl", test_rows)
    valid = tmp_path / "valid.csv"
    valid.write_text('id,text,gold\r\nv1,"r text 8",ok\r\nv2,"two\r\nlines",toxic\r\n')
    source = [{**row, "who": f"c{index}"} for index, row in enumerate(records(40))]
    settings = {"valid": str(valid), "test": {"indist": str(indist), "balanced": 4}, "group": "who"}
    summary = ingest(config(write(tmp_path / "rows.jsonl", source), **settings), TASK, run, progress)
    sets = sets_of(run)
    assert [row.id for row in sets["test_indist"]] == ["t1", "r5", "t2", "t3", "t4", "t5"]
    assert [row.text for row in sets["valid"]] == ["r text 8", "two\r\nlines"]
    assert {row.meta["half"] for row in sets["valid"]} == {"selection", "calibration"}
    left = {row.id for name in ("pool", "test_balanced") for row in sets[name]}
    assert {row["id"] for row in source} - left == {"r3", "r5", "r7", "r8"}
    assert summary.overlapping == 4
    assert (summary.rows_read, summary.rows_given) == (40, 8)
    assert sum(size.n for size in summary.sets.values()) == 40 + 8 - summary.overlapping - summary.left_out
    assert summary.notes == (
        "rows of test_indist without gold: 1 of 6",
        "exact duplicates in test_indist, kept as given: 1",
        "rows taken out of the source because a given set has their text: 2",
        "rows taken out of the source because a given set has their id: 1; "
        "where ids are row numbers, leave out data.fields.id",
        "rows taken out of the source because a given set has their group: 1",
    )


def test_a_given_test_set_without_gold_is_refused_when_the_source_has_it(tmp_path, run, progress):
    source = write(tmp_path / "rows.jsonl", records(40))
    other_column = write(tmp_path / "a.jsonl", [{"id": "t", "text": "t", "golden": "ok"}])
    with pytest.raises(DataError, match="no column 'gold'; it has: id, text, golden"):
        ingest(config(source, test={"indist": str(other_column), "balanced": 4}), TASK, run, progress)
    empty = write(tmp_path / "b.jsonl", [{"id": "t", "text": "t", "gold": None}])
    with pytest.raises(DataError, match="no row of test_balanced has gold") as caught:
        ingest(config(source, test={"indist": 4, "balanced": str(empty)}), TASK, run, progress)
    assert caught.value.where == str(empty)


def test_gold_may_be_in_a_given_test_set_alone(tmp_path, run, progress):
    source = write(tmp_path / "rows.jsonl", [{"id": row["id"], "text": row["text"]} for row in records(40)])
    given = {name: str(write(tmp_path / f"{name}.jsonl", records(4, prefix=name))) for name in ("indist", "balanced")}
    summary = ingest(config(source, test=given), TASK, run, progress)
    assert summary.has_gold
    assert summary.sets["test_balanced"].class_counts == {"ok": 2, "toxic": 2}
    assert summary.notes == ("the source has no gold: the column 'gold' is not there",)


def test_two_given_sets_may_share_rows_but_not_an_id_for_two_texts(tmp_path, run, progress):
    source = write(tmp_path / "rows.jsonl", records(40))
    first = write(tmp_path / "a.jsonl", records(4, prefix="t"))
    second = write(tmp_path / "b.jsonl", records(2, prefix="t"))
    settings = {"test": {"indist": str(first), "balanced": str(second)}}
    summary = ingest(config(source, **settings), TASK, run, progress)
    assert summary.notes == ("texts that both test_indist and test_balanced have: 2",)
    write(second, [{"id": "t1", "text": "something else", "gold": "ok"}, records(2)[1]])
    with pytest.raises(DataError, match="the id 't1' stands for one text in test_indist and another in test_balanced"):
        ingest(config(source, **settings), TASK, run, progress)


GOOD = [{"id": "t1", "text": "one", "gold": "ok"}, {"id": "t2", "text": "two", "gold": "toxic"}]


@pytest.mark.parametrize("name", ["indist", "balanced"])
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{", *GOOD, "["], "2 of the 4 rows of test_{} cannot be used; the first: not JSON: Expecting"),
        (
            [{"id": "t0", "text": "no", "gold": "?"}, *GOOD],
            "1 of the 3 rows of test_{} cannot be used; the first: the gold",
        ),
        (
            [*GOOD, *GOOD],
            "2 of the 4 rows of test_{} cannot be used; the first: the id 't1' was already used in line 1",
        ),
    ],
    ids=["bad lines", "unknown gold", "repeated ids"],
)
def test_a_given_test_set_that_would_lose_rows_is_refused(tmp_path, run, progress, name, lines, message):
    source = write(tmp_path / "rows.jsonl", records(40))
    test = write(tmp_path / "test.jsonl", lines)
    with pytest.raises(DataError) as caught:
        ingest(config(source, test={"indist": 4, "balanced": 4, name: str(test)}), TASK, run, progress)
    assert caught.value.message.startswith(message.format(name))
    assert caught.value.where == f"{test}:{3 if lines[0] == GOOD[0] else 1}"
    assert str(run.bad_lines) in caught.value.hint
    assert len(run.bad_lines.read_text().splitlines()) == int(message[0])
    assert not run.pool.exists()


def test_given_validation_rows_may_lose_a_line(tmp_path, run, progress):
    valid = write(tmp_path / "valid.jsonl", ["{", GOOD[0]])
    summary = ingest(config(write(tmp_path / "rows.jsonl", records(40)), valid=str(valid)), TASK, run, progress)
    assert summary.sets["valid"].n == 1
    assert summary.notes[0].startswith("lines that cannot be used: 1 (rows/bad_lines.jsonl)")
    assert summary.notes[1] == "valid has no row with the gold 'toxic'"


@pytest.mark.parametrize("name", ["indist", "balanced"])
def test_a_given_test_set_without_a_row_of_some_label_is_refused(tmp_path, run, progress, name):
    source = write(tmp_path / "rows.jsonl", records(40))
    test = write(tmp_path / "test.jsonl", GOOD[:1])
    with pytest.raises(DataError, match=f"test_{name} has no row with the gold 'toxic'") as caught:
        ingest(config(source, test={"indist": 4, "balanced": 4, name: str(test)}), TASK, run, progress)
    assert caught.value.where == str(test)
    assert f"add rows with that gold, take the label out of task.labels, or draw the set: data.test.{name}" in (
        caught.value.hint
    )
    assert not run.pool.exists()


def test_without_any_gold_given_test_sets_are_compared_with_the_teacher(tmp_path, run, progress):
    def without_gold(count, prefix):
        return [{"id": row["id"], "text": row["text"]} for row in records(count, prefix)]

    source = write(tmp_path / "rows.jsonl", without_gold(40, "r"))
    given = {name: str(write(tmp_path / f"{name}.jsonl", without_gold(4, name))) for name in ("indist", "balanced")}
    summary = ingest(config(source, fields={"text": "text", "id": "id"}, test=given), TASK, run, progress)
    assert not summary.has_gold
    assert {name: part.n for name, part in summary.sets.items()} == {
        "pool": 36,
        "valid": 4,
        "test_indist": 4,
        "test_balanced": 4,
    }
    assert summary.notes == ()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([{**row, "gold": "okay"} if row["gold"] == "ok" else row for row in records(60)], "there is none of 'ok'"),
        ([{**row, "id": "same"} for row in records(60)], "there is none of 'toxic'"),
    ],
    ids=["unknown gold", "repeated ids"],
)
def test_bad_lines_are_told_and_written_though_the_sets_cannot_be_drawn(tmp_path, run, progress, bad, message):
    source = write(tmp_path / "rows.jsonl", bad)
    with pytest.raises(DataError, match=message) as caught:
        ingest(config(source), TASK, run, progress)
    written = [json.loads(line) for line in run.bad_lines.read_text().splitlines()]
    assert len(written) in (30, 59)
    assert caught.value.hint.startswith(f"mend the {len(written)} lines that cannot be used ({run.bad_lines}), or add")
    first = f"{source}:{written[0]['line']} {written[0]['reason']}"
    assert progress.notes == [f"lines that cannot be used: {len(written)} (rows/bad_lines.jsonl); the first: {first}"]


def test_bad_lines_are_written_though_none_of_the_lines_can_be_used(tmp_path, run, progress):
    source = write(tmp_path / "rows.jsonl", ["{", "["])
    with pytest.raises(DataError, match="none of its 2 lines can be used"):
        ingest(config(source), TASK, run, progress)
    assert len(run.bad_lines.read_text().splitlines()) == 2


def test_a_source_that_is_all_in_a_given_set_is_refused(tmp_path, run, progress):
    source = write(tmp_path / "rows.jsonl", records(4))
    with pytest.raises(DataError, match="every row of the source is also in a given set"):
        ingest(config(source, test={"indist": str(source), "balanced": None}), TASK, run, progress)


def test_the_fingerprint_follows_contents_and_settings_and_not_paths(tmp_path):
    source = write(tmp_path / "rows.jsonl", records(40))
    moved = write(tmp_path / "moved.jsonl", records(40))
    test = write(tmp_path / "test.jsonl", records(4))
    fingerprint = splits_fingerprint(config(source), TASK)
    assert splits_fingerprint(config(moved), TASK) == fingerprint
    other_verbalizer = ClassificationTask("Decide.", (Label("ok", "", "fine"), Label("toxic", "", "toxic")))
    described = ClassificationTask("Decide again.", (Label("ok", "civil", "ok"), Label("toxic", "", "toxic")))
    assert splits_fingerprint(config(source), described) == fingerprint
    others = [
        splits_fingerprint(config(write(tmp_path / "other.jsonl", records(41))), TASK),
        splits_fingerprint(config(source, seed=1), TASK),
        splits_fingerprint(config(source, valid=5), TASK),
        splits_fingerprint(config(source, valid=str(test)), TASK),
        splits_fingerprint(config(source, test={"indist": str(test), "balanced": 4}), TASK),
        splits_fingerprint(config(source, test={"indist": 4, "balanced": str(test)}), TASK),
        splits_fingerprint(config(source, gold_values={"1": "ok"}), TASK),
        splits_fingerprint(config(source, group="id"), TASK),
        splits_fingerprint(config(source), other_verbalizer),
    ]
    before = splits_fingerprint(config(source, valid=str(test)), TASK)
    write(test, records(5))
    others.append(splits_fingerprint(config(source, valid=str(test)), TASK))
    assert before in others
    assert len({fingerprint, *others}) == 1 + len(others)
    with pytest.raises(DataError, match="no such file"):
        splits_fingerprint(config(tmp_path / "gone.jsonl"), TASK)


@needs_shared
def test_the_case_study_s_log_is_split_with_its_own_test_sets(run, progress):
    jigsaw = SHARED / "jigsaw"
    settings = {
        "gold_values": {False: "ok", True: "toxic"},
        "valid": 500,
        "test": {"indist": str(jigsaw / "test.indist.1.gpt4_log.jsonl"), "balanced": 400},
    }
    summary = ingest(config(jigsaw / "train.5k.gpt4_log.jsonl", **settings), TASK, run, progress)
    assert summary.rows_read == 5000
    assert summary.bad_lines == 0
    assert {name: part.n for name, part in summary.sets.items()} == {
        "pool": 4100,
        "valid": 500,
        "test_indist": 220,
        "test_balanced": 400,
    }
    assert summary.sets["test_balanced"].class_counts == {"ok": 200, "toxic": 200}
    sets = sets_of(run)
    answers = Counter(
        TASK.parse(row.meta["answer"], key="is_bad", values={"0": "ok", "1": "toxic"}) for row in sets["pool"]
    )
    assert answers[None] <= 5
    tested = {normalised(row.text) for name in ("test_indist", "test_balanced") for row in sets[name]}
    assert not tested & {normalised(row.text) for name in ("pool", "valid") for row in sets[name]}


@needs_shared
def test_77_labels_come_from_csv_and_are_balanced(run, progress):
    folder = SHARED / "banking77"
    names = json.loads((folder / "categories.json").read_text())
    task = ClassificationTask("Name the intent.", tuple(Label(name, "", name) for name in names))
    fields = {"text": "text", "gold": "category"}
    settings = {"fields": fields, "valid": 500, "test": {"indist": str(folder / "test.csv"), "balanced": 400}}
    summary = ingest(config(folder / "train.csv", **settings), task, run, progress)
    assert summary.rows_read == 10_003
    assert summary.bad_lines == 0
    assert set(summary.sets["test_balanced"].class_counts.values()) == {5}
    assert summary.sets["test_indist"].n == 3080
    assert summary.overlapping > 0


def test_verbalizers_are_part_of_the_splits_only_where_gold_may_be_written_with_them(tmp_path):
    source = write(tmp_path / "rows.jsonl", records(40))
    other = ClassificationTask("Decide.", (Label("ok", "", "fine"), Label("toxic", "", "toxic")))

    def is_same(**settings):
        return splits_fingerprint(config(source, **settings), TASK) == splits_fingerprint(
            config(source, **settings), other
        )

    assert not is_same()
    assert not is_same(gold_values={"1": "toxic"})
    assert is_same(gold_values={"0": "ok", "1": "toxic"})
    assert is_same(fields={"text": "text"})
