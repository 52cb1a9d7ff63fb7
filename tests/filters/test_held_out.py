from mlxdistill.filters.candidate import Candidate
from mlxdistill.filters.held_out import HeldOut
from mlxdistill.tasks.rows import Row


def test_what_a_test_set_has_or_nearly_has_or_what_came_after_it_does_not_teach():
    rows = [
        Row("test", "", None, {"component": "c", "time": "2024-02"}),
        Row("like it", "", None, {"component": "c", "time": "2024-01"}),
        Row("of its group", "", None, {"group": "g", "time": "2024-01"}),
        Row("later", "", None, {"time": "2024-03"}),
        Row("at the time", "", None, {"time": "2024-02"}),
        Row("like another", "", None, {"component": "d", "group": "h", "time": "2024-01"}),
        Row("plain", "", None, {"time": "2024-01"}),
    ]
    held_out = HeldOut(frozenset({"test"}), frozenset({"g"}), components=frozenset({"c"}), until="2024-02")
    decisions = list(held_out([Candidate(row, None) for row in rows]))
    assert [decision.row_id for decision in decisions] == [row.id for row in rows]
    assert [decision.row_id for decision in decisions if decision.kept] == ["like another", "plain"]
    assert len({decision.reason for decision in decisions}) == 5
    untimed = HeldOut(frozenset({"test"}), frozenset())
    assert [decision.row_id for decision in untimed([Candidate(row, None) for row in rows]) if not decision.kept] == [
        "test"
    ]
