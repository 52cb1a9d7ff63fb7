"""`mlxdistill labels show|export|stats RUN`: what the teachers answered. Also while another process is labelling."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlxdistill.cli.options import AsJson, Debug
from mlxdistill.cli.visible import visible
from mlxdistill.errors import DataError, UsageError

if TYPE_CHECKING:
    from mlxdistill.rundir.layout import RunDir
    from mlxdistill.store import Decision, StoredLabeller
    from mlxdistill.tasks.protocols import Answer

SHOWN_LABELS = 5  # of a row's class probabilities, where a person reads them

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Look at what the teachers answered.", rich_markup_mode=None, no_args_is_help=True)
    group.command("show")(show)
    group.command("export")(export)
    group.command("stats")(stats)
    app.add_typer(group, name="labels")


def show(
    run: RunArgument,
    row_id: Annotated[str, typer.Argument(metavar="ROW", help="The row's id.")],
    text: Annotated[
        bool, typer.Option("--text", help="Print the row's text too, and what the teachers wrote about it.")
    ] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Print every answer to one row, and what the filters and people decided about it."""
    from mlxdistill.cli.console import print_json, print_lines
    from mlxdistill.cli.people import people_records, print_people
    from mlxdistill.store import LabelReader

    folder = _folder(run)
    in_force = _figures(folder).get("labeller")
    with LabelReader(folder.labels) as reader:
        answers = [
            (labeller, answer)
            for labeller in reader.labellers()
            if not labeller.is_content_free  # their ids may be those of rows
            for answer in reader.answers_to(labeller, row_id)
        ]
        decisions = reader.decisions_about(row_id)
        people = reader.people_history(row_id)
        row = _find_row(folder, row_id) if text or people or not answers else None
        if row is None and not answers and not decisions and not people:
            near = reader.nearest(row_id)
            hint = f"did you mean {near}?" if near else "the ids stand in rows/pool.jsonl"
            raise DataError("no row has this id", where=f"row {row_id}", hint=hint)
    shown: dict[str, Any] = {
        "id": row_id,
        **({"text": None if row is None else row["text"]} if text else {}),
        "answers": [
            {**_record(labeller, answer), "sample": answer.sample, **({"written": answer.text} if text else {})}
            | {"seconds": answer.seconds, "copied_from": answer.copied_from}
            | {"labeller": labeller.number, "in_force": labeller.number == in_force}
            for labeller, answer in answers
        ],
        "decisions": [
            {"filtering": number, "filter": item.filter, "kept": item.kept, "reason": item.reason, "score": item.score}
            | {"weight": item.weight, "label": item.label, "probabilities": item.probabilities}
            for number, item in _in_order(decisions, folder)
        ],
        "people": people_records(people, None if row is None else row["text"]),
    }
    if as_json:
        print_json(shown)
        return
    print_lines([f"row {row_id}", *([str(shown["text"])] if text else [])])
    _print_answers(shown["answers"])
    _print_decisions(shown["decisions"])
    print_people(shown["people"])


def _in_order(decisions: Sequence[tuple[int, Decision]], folder: RunDir) -> list[tuple[int, Decision]]:
    """Those of each filtering in the order the filters ran the last time; of filters that are off now, at the end."""
    from mlxdistill.rundir.manifest import Manifest

    steps = [step["filter"] for step in Manifest(folder).figures("filter").get("funnel", ())]
    place = {name: number for number, name in enumerate(steps)}
    return sorted(decisions, key=lambda entry: (entry[0], place.get(entry[1].filter, len(place))))


def export(
    run: RunArgument,
    teacher: Annotated[
        str | None, typer.Option("--teacher", metavar="NAME", help="This teacher's. Default: the labels in force.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Every answer as it was given, before votes, corrections and combinations.")
    ] = False,
    people: Annotated[
        bool, typer.Option("--people", help="What people decided in `mlxdistill review`, instead of the teachers'.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Write labels to stdout, one JSON object a line, without texts."""
    from mlxdistill.cli.people import exported_people
    from mlxdistill.store import SETTLED, LabelReader

    if people and (raw or teacher is not None):
        hint = "leave the other option out"
        raise UsageError("people's labels are nobody's answers", where="--people", hint=hint)
    folder = _folder(run)
    with LabelReader(folder.labels) as reader:
        if people:
            for each in exported_people(reader):
                sys.stdout.write(visible(json.dumps(each, ensure_ascii=False)) + "\n")
            return
        for labeller in _chosen(folder, reader.labellers(), teacher, raw=raw):
            for answer in reader.answers(labeller):
                if not raw and answer.sample not in SETTLED:
                    continue
                record = _record(labeller, answer)
                if raw:
                    record["sample"] = answer.sample
                sys.stdout.write(visible(json.dumps(record, ensure_ascii=False)) + "\n")


def stats(run: RunArgument, as_json: AsJson = False, debug: Debug = False) -> None:
    """Count the answers of every teacher (outcomes, classes, confidence, agreement, time), and people's labels."""
    from dataclasses import asdict

    from mlxdistill.cli.console import print_json
    from mlxdistill.cli.people import people_counts, print_people_counts
    from mlxdistill.store import LabelReader

    folder = _folder(run)
    with LabelReader(folder.labels) as reader:
        labellers = [each for each in reader.labellers() if not each.is_content_free]
        number = _figures(folder).get("labeller")
        records = [
            {
                "teacher": labeller.name,
                "labeller": labeller.number,
                "in_force": labeller.number == number,
                "description": dict(labeller.description),
                "settings": labeller.settings and dict(labeller.settings),
                **asdict(reader.statistics(labeller)),
            }
            for labeller in labellers
        ]
        people = people_counts(reader)
    if as_json:
        print_json({"run": str(folder.path), "labellers": records, "people": people})
    else:
        _print_stats(records)
        print_people_counts(people)


def _folder(run: Path) -> RunDir:
    """Raises DataError where the folder is not a run, or where nothing was labelled yet."""
    from mlxdistill.rundir.layout import RunDir

    folder = RunDir(run.absolute())
    if folder.labels.is_file():
        return folder
    if folder.config.is_file():
        raise DataError("nothing is labelled yet", where=str(run), hint="mlxdistill label CONFIG")
    places = [place for place in (run.absolute().parent, Path("runs").absolute()) if place.is_dir()]
    runs = {name: place / name for place in places for name in os.listdir(place) if _is_run(place / name)}
    near = difflib.get_close_matches(run.name, sorted(runs), 1)
    hint = (
        f"did you mean {os.path.relpath(runs[near[0]])}?" if near else "give the folder that `mlxdistill run` printed"
    )
    raise DataError("not a run folder", where=str(run), hint=hint)


def _is_run(folder: Path) -> bool:
    return (folder / "labels.sqlite").is_file()


def _figures(folder: RunDir) -> dict[str, Any]:
    """What the last finished labelling left in the manifest: which labels are in force."""
    from mlxdistill.rundir.manifest import Manifest

    return Manifest(folder).figures("label")


def _chosen(
    folder: RunDir, labellers: Sequence[StoredLabeller], teacher: str | None, *, raw: bool
) -> list[StoredLabeller]:
    """Whose answers are exported. Raises UsageError for a teacher that is not there."""
    figures = _figures(folder)
    by_number = {labeller.number: labeller for labeller in labellers}
    in_force = by_number.get(figures.get("labeller", 0))
    givers = _givers(in_force, by_number)
    # Of several with one name, that of the labels in force, or else the newest.
    teachers = {each.name: each for each in (*labellers, *givers) if not each.is_derived}
    usual = {name: each for name, each in teachers.items() if not each.is_content_free}
    if teacher is None:
        if raw:
            return givers or list(usual.values())
        if in_force is None:
            hint = f"name one with --teacher: {', '.join(usual)}" if usual else "wait for its first answers"
            raise DataError("labelling has not finished: no labels are in force", where=str(folder.path), hint=hint)
        return [in_force]
    if teacher not in teachers:
        near = difflib.get_close_matches(teacher, teachers, 1)
        hint = f"did you mean {near[0]}?" if near else f"the teachers are: {', '.join(usual) or 'none yet'}"
        raise UsageError("no teacher has this name", where=f"--teacher {teacher}", hint=hint)
    if not raw and in_force is not None and givers == [teachers[teacher]]:
        return [in_force]
    opinion = by_number.get(figures.get("teachers", {}).get(teacher, {}).get("labeller", 0))
    return [teachers[teacher] if raw or opinion is None else opinion]


def _givers(labeller: StoredLabeller | None, by_number: Mapping[int, StoredLabeller]) -> list[StoredLabeller]:
    """Those whose answers, as they gave them, the labeller's were made of; itself where they were not."""
    if labeller is None or not labeller.is_derived:
        return [] if labeller is None else [labeller]
    return [giver for number in labeller.made_of for giver in _givers(by_number.get(number), by_number)]


def _record(labeller: StoredLabeller, answer: Answer) -> dict[str, Any]:
    shares = answer.probabilities
    return {
        "id": answer.row_id,
        "label": answer.label,
        "probabilities": None
        if shares is None
        # float32, with as many digits as tell every one from its neighbours
        else {name: float(f"{share:.9g}") for name, share in zip(labeller.labels, shares, strict=True)},
        "outcome": answer.outcome,
        "agreement": answer.agreement,
        "teacher": labeller.name,
    }


def _find_row(folder: RunDir, row_id: str) -> dict[str, Any] | None:
    from mlxdistill.rundir.files import read_jsonl

    files = [
        path for path in (folder.pool, folder.synthetic, folder.valid, *folder.test_sets.values()) if path.exists()
    ]
    return next((record for path in files for record in read_jsonl(path) if record["id"] == row_id), None)


def _print_answers(answers: Sequence[dict[str, Any]]) -> None:
    from mlxdistill.cli.console import print_lines, print_table

    if not answers:
        print_lines(["", "no answer"])
        return
    rows = [
        (
            _numbered(record),
            str(record["sample"]),
            record["label"] or "–",
            _probabilities(record["probabilities"]),
            record["outcome"] + (f", copied from {record['copied_from']}" if record["copied_from"] else ""),
            _number(record["agreement"]),
            f"{record['seconds']:.3f}",
        )
        for record in answers
    ]
    print_table(("teacher", "sample", "label", "probabilities", "outcome", "agreement", "seconds"), rows)
    for record in answers:
        if record.get("written"):
            print_lines(["", f"{_numbered(record)}, sample {record['sample']}, wrote:", record["written"]])


def _print_decisions(decisions: Sequence[dict[str, Any]]) -> None:
    from mlxdistill.cli.console import print_table

    if decisions:
        last = max(record["filtering"] for record in decisions)
        rows = [
            (
                f"{record['filtering']}{', in force' if record['filtering'] == last else ''}",
                record["filter"],
                _decided(record),
                record["reason"],
                _number(record["score"]),
            )
            for record in decisions
        ]
        print_table(("filtering", "filter", "decision", "reason", "score"), rows)


def _decided(record: Mapping[str, Any]) -> str:
    parts = ["kept" if record["kept"] else "dropped"]
    if record["weight"] is not None:
        parts.append(f"counts {record['weight']:.2g}")
    if record["label"] is not None:
        parts.append(f"taught as {record['label']}")
    elif record["probabilities"] is not None:
        parts.append("softened")
    return ", ".join(parts)


def _print_stats(records: Sequence[dict[str, Any]]) -> None:
    from mlxdistill.cli.console import print_lines, print_table

    if not records:
        print_lines(["no answers yet"])
        return
    outcomes = dict.fromkeys(name for record in records for name in record["outcomes"])
    settings = dict.fromkeys(name for record in records for name in record["settings"] or () if name != "job_rows")
    table = [
        {
            "answers": f"{record['answers']:,}",
            "rows": f"{record['rows']:,}",
            **{outcome: f"{record['outcomes'].get(outcome, 0):,}" for outcome in outcomes},
            "copied": f"{record['copied']:,}",
            "mean confidence": _number(record["mean_confidence"]),
            "mean agreement": _number(record["mean_agreement"]),
            "seconds": f"{record['seconds']:,.1f}",
            **{name: str((record["settings"] or {}).get(name, "–")) for name in settings},
            **{f"label {label}": f"{count:,}" for label, count in record["classes"].items()},
        }
        for record in records
    ]
    names = dict.fromkeys(name for column in table for name in column)
    lines = [[name, *(column.get(name, "–") for column in table)] for name in names]
    print_table(("teacher", *map(_numbered, records)), lines)
    if any(record["in_force"] for record in records):
        print_lines(["* the labels in force"])


def _numbered(record: Mapping[str, Any]) -> str:
    """A teacher keeps its name when its settings change; the number tells the one from the other."""
    return f"{record['teacher']} #{record['labeller']}{' *' if record['in_force'] else ''}"


def _probabilities(shares: dict[str, float] | None) -> str:
    if shares is None:
        return "–"
    first = sorted(shares.items(), key=lambda item: -item[1])[:SHOWN_LABELS]
    return ", ".join(f"{name} {share:.4f}" for name, share in first) + (", …" if len(shares) > SHOWN_LABELS else "")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
