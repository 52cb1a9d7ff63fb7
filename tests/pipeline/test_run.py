"""A whole run: complete, private, recomputable, skipped when nothing changed."""

from __future__ import annotations

import csv
import io
import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from mlxdistill.config.load import load_config
from mlxdistill.evaluation.evaluate import recompute
from mlxdistill.platform.cores import blas_threads
from mlxdistill.rundir.files import file_sha256
from mlxdistill.rundir.layout import RunDir

SYSTEMS = {"teacher", "student", "student_base", "majority", "tfidf_logreg", "tfidf_logreg_gold"}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_run_folder_is_complete(finished: Path) -> None:
    expected = [
        "config.yaml",
        "manifest.json",
        "rows/pool.jsonl",
        "rows/valid.jsonl",
        "rows/test_indist.jsonl",
        "rows/test_balanced.jsonl",
        "labels.sqlite",
        "student/data/train.jsonl",
        "student/data/valid.jsonl",
        "student/adapters/adapters.safetensors",
        "student/adapters/adapter_config.json",
        "evaluation/metrics.json",
        "evaluation/predictions.jsonl",
        "report.html",
        "log.jsonl",
    ]
    assert [name for name in expected if not (finished / name).is_file()] == []


def test_everything_in_it_is_private(finished: Path) -> None:
    for path in finished.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_no_text_of_a_row_is_in_the_log_the_manifest_or_the_report(finished: Path) -> None:
    texts = [
        row["text"]
        for name in ("pool", "valid", "test_indist", "test_balanced")
        for row in lines(finished / f"rows/{name}.jsonl")
    ]
    for name in ("log.jsonl", "manifest.json", "report.html", "evaluation/predictions.jsonl"):
        content = (finished / name).read_text("utf-8")
        assert not any(text[:40] in content for text in texts), name


def test_no_row_is_in_two_sets(finished: Path) -> None:
    ids = [
        row["id"]
        for name in ("pool", "valid", "test_indist", "test_balanced")
        for row in lines(finished / f"rows/{name}.jsonl")
    ]
    assert len(ids) == len(set(ids)) == 240


def test_metrics_recompute_from_the_predictions(finished: Path) -> None:
    written = json.loads((finished / "evaluation/metrics.json").read_text("utf-8"))
    assert recompute(RunDir(finished)) == written
    assert set(written["systems"]) == SYSTEMS


def test_metrics_are_those_of_scikit_learn(finished: Path) -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, roc_auc_score

    metrics = json.loads((finished / "evaluation/metrics.json").read_text("utf-8"))
    predictions = lines(finished / "evaluation/predictions.jsonl")
    labels = metrics["labels"]
    for system, of_system in metrics["systems"].items():
        for name, scores in of_system["sets"].items():
            rows = [row for row in predictions if (row["system"], row["set"]) == (system, name)]
            gold, predicted = [row["gold"] for row in rows], [row["prediction"] for row in rows]
            probabilities = np.array([row["probabilities"] for row in rows])
            assert scores["answered"] == len(rows)
            assert scores["accuracy"]["value"] == accuracy_score(gold, predicted)
            assert scores["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(gold, predicted))
            assert scores["macro_f1"]["value"] == pytest.approx(
                f1_score(gold, predicted, average="macro", labels=labels)
            )
            auroc = roc_auc_score([label == labels[1] for label in gold], probabilities[:, 1])
            assert scores["auroc"]["value"] == pytest.approx(auroc)
            assert np.array_equal(
                np.array(scores["confusion"])[:, :2], confusion_matrix(gold, predicted, labels=labels)
            )


def test_speed_and_memory_of_both_models_are_measured(finished: Path) -> None:
    systems = json.loads((finished / "evaluation/metrics.json").read_text("utf-8"))["systems"]
    for name in ("teacher", "student", "student_base"):
        assert systems[name]["rows_per_second"] > 0
        assert systems[name]["peak_memory_bytes"] > 30_000_000


def test_the_manifest_says_what_each_stage_did(finished: Path) -> None:
    stages = json.loads((finished / "manifest.json").read_text("utf-8"))["stages"]
    assert list(stages) == ["ingest", "label", "filter", "train", "eval", "report"]
    for record in stages.values():
        assert record["finished"]
        assert record["seconds"] >= 0
        assert record["started"] <= record["finished"]
        assert record["inputs"]
        assert record["versions"]["mlx-lm"]
    pool, valid, tested = 130, 40, 70
    kept = len(lines(finished / "student/data/train.jsonl"))
    rows = {name: (record["rows_in"], record["rows_out"]) for name, record in stages.items()}
    shown = rows.pop("report")
    assert rows == {
        "ingest": (240, 240),
        "label": (240, 240),
        "filter": (pool, kept),
        "train": (kept + valid // 2, kept + valid // 2),
        "eval": (tested, tested),
    }
    assert shown[0] == tested
    assert 0 <= shown[1] <= tested
    threads = {name: record["threads"] for name, record in stages.items()}
    settings = stages["label"]["settings"]
    assert {"n_ctx", "n_batch", "n_seq", "threads"} <= set(settings)
    assert 1 <= threads.pop("label") == settings["threads"]
    student = blas_threads()
    assert threads == {"ingest": 1, "filter": 1, "train": student, "eval": student, "report": 1}
    seeds = {name: record["seed"] for name, record in stages.items()}
    assert seeds == {"ingest": 11, "label": None, "filter": None, "train": 12, "eval": 13, "report": None}


def test_a_second_run_skips_everything_and_says_so(finished: Path, cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file() and path.name != ".lock"}
    result = cli("run", finished.parent / "config.yaml", "--run-dir", finished)
    assert result.returncode == 0
    assert result.stderr.count("unchanged, skipped") == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_changed_setting_repeats_only_what_depends_on_it(finished: Path, cli, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    config = finished.parent / "config.yaml"
    result = cli("run", config, "--run-dir", tmp_path / "run", "--json", "--set", "evaluate.margin=0.1")
    summary = json.loads(result.stdout)
    assert summary["skipped"] == ["ingest", "label", "filter", "train"]
    assert summary["done"] == ["eval", "report"]
    assert summary["metrics"]["replacement"]["margin"] == 0.1


def test_a_damaged_output_is_made_again(finished: Path, cli, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run/report.html").write_text("edited")
    result = cli("run", finished.parent / "config.yaml", "--run-dir", tmp_path / "run", "--json")
    assert json.loads(result.stdout)["done"] == ["report"]
    assert (tmp_path / "run/report.html").read_bytes() == (finished / "report.html").read_bytes()


def test_texts_are_shown_in_the_report_only_when_asked_for(finished: Path, cli, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    config = finished.parent / "config.yaml"
    assert cli("report", config, "--run-dir", tmp_path / "run", "--set", "report.show_text=true").returncode == 0
    page = (tmp_path / "run/report.html").read_text("utf-8")
    wrong = [
        row["id"]
        for row in lines(finished / "evaluation/predictions.jsonl")
        if row["system"] == "student" and not row["correct"]
    ]
    texts = {
        row["id"]: row["text"]
        for name in ("test_indist", "test_balanced")
        for row in lines(finished / f"rows/{name}.jsonl")
    }
    assert any(texts[row][:20].split("'")[0] in page for row in wrong)


def test_predict_gives_what_evaluation_measured(finished: Path, cli) -> None:
    result = cli("predict", finished, finished / "rows/test_balanced.jsonl")
    assert result.returncode == 0, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    rows = lines(finished / "rows/test_balanced.jsonl")
    assert [answer["id"] for answer in answers] == [row["id"] for row in rows]
    measured = {
        row["id"]: row
        for row in lines(finished / "evaluation/predictions.jsonl")
        if (row["system"], row["set"]) == ("student", "test_balanced")
    }
    for answer in answers:
        assert list(answer["probabilities"]) == ["report", "other"]
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert list(answer["probabilities"].values()) == pytest.approx(
            measured[answer["id"]]["probabilities"], abs=1e-5
        )


def test_predict_reads_standard_input_and_writes_csv(finished: Path, cli, tmp_path: Path) -> None:
    rows = '{"text": "my card is gone and someone is using it"}\nbroken\n{"text": "when do you open?", "id": "b"}\n'
    result = cli("predict", finished, "-", "--output", tmp_path / "out.csv", stdin=rows)
    assert result.returncode == 0, result.stderr
    assert "-:2 is left out" in result.stderr
    assert result.stdout == ""
    table = list(csv.reader(io.StringIO((tmp_path / "out.csv").read_text("utf-8"))))
    assert table[0] == ["id", "label", "p(report)", "p(other)"]
    assert len(table) == 3
    assert table[2][0] == "b"


@pytest.mark.parametrize("content", ["", "broken\n"])
def test_predict_without_a_usable_row_fails_and_writes_nothing(
    finished: Path, cli, tmp_path: Path, content: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    result = cli("predict", finished, tmp_path / "rows.jsonl", "--output", tmp_path / "out.jsonl")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_the_adapter_works_in_mlx_lm(finished: Path) -> None:
    from mlx_lm import generate, load

    from mlxdistill.demo import models_folder

    model, tokenizer = load(str(models_folder() / "student"), adapter_path=str(finished / "student/adapters"))
    example = lines(finished / "student/data/train.jsonl")[0]
    prompt = tokenizer.apply_chat_template(example["messages"][:1], add_generation_prompt=True)
    assert generate(model, tokenizer, prompt, max_tokens=4).strip()


def test_the_training_files_are_read_by_mlx_lm(finished: Path) -> None:
    from types import SimpleNamespace

    from mlx_lm.tuner.datasets import load_local_dataset
    from mlx_lm.utils import load_tokenizer

    from mlxdistill.demo import models_folder

    tokenizer = load_tokenizer(models_folder() / "student")
    train, valid, _ = load_local_dataset(finished / "student/data", tokenizer, SimpleNamespace(mask_prompt=True))
    assert len(train) == len(lines(finished / "student/data/train.jsonl"))
    assert len(valid) == 20
    tokens, _ = train.process(train[0])
    assert len(tokens) > 10


def test_a_stage_alone_wants_those_before_it_finished(finished: Path, cli, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    config = finished.parent / "config.yaml"
    result = cli("train", config, "--run-dir", tmp_path / "run", "--set", "filter.min_confidence=0.9")
    assert result.returncode == 1
    assert "filter comes first" in result.stderr


def test_predict_refuses_a_configuration_that_is_not_the_students(finished: Path, cli, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    saved = tmp_path / "run/config.yaml"
    saved.write_text(saved.read_text("utf-8").replace("a message to the bank", "a letter"), "utf-8")
    result = cli("predict", tmp_path / "run", "-", stdin='{"text": "hello"}\n')
    assert result.returncode == 1
    assert "changed since this student was trained" in result.stderr


def test_an_edited_test_set_is_refused_and_left_alone(finished: Path, cli, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    frozen = tmp_path / "run/rows/test_balanced.jsonl"
    edited = frozen.read_text("utf-8").replace('"report"', '"other"')
    frozen.write_text(edited, "utf-8")
    result = cli("run", finished.parent / "config.yaml", "--run-dir", tmp_path / "run")
    assert result.returncode == 2
    assert "test_balanced.jsonl: the file was changed after it was frozen" in result.stderr
    assert frozen.read_text("utf-8") == edited


def test_a_lost_label_store_is_filled_again(finished: Path, cli, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    for file in (tmp_path / "run").glob("labels.sqlite*"):
        file.unlink()
    result = cli("run", finished.parent / "config.yaml", "--run-dir", tmp_path / "run", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["done"][:2] == ["label", "filter"]


def test_strict_after_a_loose_run_still_stops(cli, tmp_path: Path) -> None:
    from tests_pipeline import write_task

    config = write_task(tmp_path)
    with (tmp_path / "rows.jsonl").open("a") as rows:
        rows.write("broken\n")
    assert cli("ingest", config).returncode == 0
    strict = cli("ingest", config, "--strict")
    assert strict.returncode == 1
    assert "rows.jsonl:241" in strict.stderr


def test_a_failed_ingest_freezes_nothing(cli, tmp_path: Path) -> None:
    from tests_pipeline import CONFIG, write_task

    config = write_task(tmp_path, CONFIG.replace("text: text", "text: txt"))
    assert cli("ingest", config).returncode == 1
    config.write_text(CONFIG, "utf-8")
    assert cli("ingest", config).returncode == 0


def test_a_page_is_not_drawn_of_a_number_that_does_not_follow_from_the_predictions(
    finished: Path, cli, tmp_path: Path
) -> None:
    """The manifest is made to agree with the edited file, so that only the numbers themselves can tell."""
    shutil.copytree(finished, tmp_path / "run")
    metrics, manifest = tmp_path / "run/evaluation/metrics.json", tmp_path / "run/manifest.json"
    content = json.loads(metrics.read_text("utf-8"))
    content["systems"]["student"]["sets"]["test_balanced"]["accuracy"]["value"] = 0.987
    metrics.write_text(json.dumps(content))
    record = json.loads(manifest.read_text("utf-8"))
    record["stages"]["eval"]["outputs"]["evaluation/metrics.json"] = file_sha256(metrics)
    manifest.write_text(json.dumps(record))
    result = cli("report", finished.parent / "config.yaml", "--run-dir", tmp_path / "run")
    assert result.returncode == 1
    assert "systems.student.sets.test_balanced.accuracy.value is 0.987, and predictions.jsonl gives" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_page_names_the_models_it_judged(finished: Path) -> None:
    page = (finished / "report.html").read_text("utf-8")
    config = load_config(finished / "config.yaml", ()).config
    assert "Models and settings" in page
    assert Path(config.teacher.model).name in page
    assert f"rank {config.student.lora.rank}, scale {config.student.lora.scale:g}" in page
    assert " in training" in page
