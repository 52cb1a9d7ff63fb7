"""How well `mlxdistill plan` foresees a training's peak memory.

    python scripts/bench_plan.py --data ../shared/data [--cache FOLDER] [--only NAME ...]

Plans trainings of random models of several architectures and sizes, and of the embedded student, each with other
settings; then runs each of them, in a process of its own, and compares. Two figures count: what MLX says its peak was,
and the peak of the whole process. Prints a table; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_students import LABELS, PROMPT, BenchRow, jigsaw_rows, make_student, write_rows

from mlxdistill.config.models import LoraConfig, TrainConfig
from mlxdistill.student.planning import plan_training
from mlxdistill.student.requests import TrainRequest
from mlxdistill.student.trainer import train_student

ROWS, VALID_ROWS = 64, 16
WITHIN = 0.2
KINDS: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 32, "tie_word_embeddings": False, "max_position_embeddings": 2048, "rope_theta": 10000.0},
    "gemma2": {"head_dim": 32},
}


@dataclass(frozen=True)
class Case:
    """A training: `model` is a size of `bench_students`, a kind of `KINDS`, or a name that the product knows."""

    model: str
    train: dict[str, Any] = field(default_factory=dict)
    student: dict[str, Any] = field(default_factory=dict)
    lora: dict[str, Any] = field(default_factory=dict)
    repeat: int = 1


CASES = {
    "embedded": Case("embedded:student"),
    "embedded, 4 rows": Case("embedded:student", {"batch_size": 4}),
    "7m": Case("7m"),
    "7m, 4 rows": Case("7m", {"batch_size": 4}),
    "7m, 32 rows": Case("7m", {"batch_size": 32}),
    "7m, long rows": Case("7m", {"batch_size": 8}, repeat=3),
    "7m, 1024 tokens at once": Case("7m", {"batch_tokens": 1024}),
    "7m, checkpointing": Case("7m", {"gradient_checkpointing": True}),
    "7m, rank 64, dropout": Case("7m", lora={"rank": 64, "dropout": 0.05}),
    "7m, 2 layers": Case("7m", lora={"layers": 2}),
    "7m, DoRA": Case("7m", student={"fine_tune_type": "dora"}),
    "7m, full": Case("7m", student={"fine_tune_type": "full"}),
    "7m, 4 bits": Case("7m", {"batch_size": 4}, {"quantize": 4}),
    "23m": Case("23m"),
    "23m, full, 4 rows": Case("23m", {"batch_size": 4}, {"fine_tune_type": "full"}),
    "23m, checkpointing": Case("23m", {"gradient_checkpointing": True, "batch_size": 32}),
    "qwen3": Case("qwen3"),
    "gemma2": Case("gemma2"),
}


class Quiet:
    """Progress that nobody sees."""

    def advance(self, done: int, total: int, **figures: float) -> None:
        pass

    def note(self, message: str) -> None:
        print(f"  {message}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with jigsaw/")
    parser.add_argument("--cache", type=Path, help="where models are made, and kept")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = arguments.cache or Path(folder) / "models"
        found = {}
        titles = "".join(f"{which + ': plan':>15}{'run':>8}{'ratio':>7}" for which in ("MLX", "process"))
        print(f"{'training (MB)':<26}{titles}", flush=True)
        for name in arguments.only:
            work = Path(folder) / "work"
            found[name] = measure(CASES[name], arguments.data, cache, work)
            shutil.rmtree(work)
            print_line(name, found[name])
    ratios = [entry[which]["ratio"] for entry in found.values() for which in ("mlx", "process")]
    within = sum(abs(ratio - 1) <= WITHIN for ratio in ratios)
    print(f"{within} of {len(ratios)} within {WITHIN:.0%}")
    print(json.dumps({"within": within, "of": len(ratios), "least": min(ratios), "most": max(ratios), "cases": found}))


def measure(case: Case, data: Path, cache: Path, work: Path) -> dict[str, dict[str, float]]:
    rows = jigsaw_rows(data, ROWS + VALID_ROWS)
    rows = [BenchRow(row.id, " ".join([row.text] * case.repeat), row.label) for row in rows]
    train, valid = rows[:ROWS], rows[ROWS:]
    write_rows(work / "data" / "train.jsonl", train)
    write_rows(work / "data" / "valid.jsonl", valid)
    request = TrainRequest(
        model=find_model(case.model, cache, data),
        quantize=case.student.get("quantize"),
        fine_tune_type=case.student.get("fine_tune_type", "lora"),
        lora=LoraConfig(**case.lora),
        train=TrainConfig(**{"epochs": 1, "validations_per_epoch": 2, **case.train}),
        max_tokens=1024,
        data=work / "data",
        output=work / "adapters",
        checkpoints=work / "checkpoints",
        labels=LABELS,
        prompt=PROMPT,
    )
    memory = plan_training(request, Quiet()).memory
    result = train_student(request, Quiet(), lambda report: None)
    return {
        "mlx": compared(memory.mlx_peak, result.mlx_peak_bytes),
        "process": compared(memory.peak, result.peak_memory_bytes),
    }


def compared(planned: int, measured: int) -> dict[str, float]:
    return {"planned": planned, "measured": measured, "ratio": round(planned / measured, 3)}


def print_line(name: str, entry: dict[str, dict[str, float]]) -> None:
    def shown(which: str) -> str:
        planned, measured, ratio = (entry[which][key] for key in ("planned", "measured", "ratio"))
        return f"{planned / 1e6:>15,.0f}{measured / 1e6:>8,.0f}{ratio:>7.2f}"

    print(f"{name:<26}{shown('mlx')}{shown('process')}", flush=True)


def find_model(name: str, cache: Path, data: Path) -> str:
    if name.startswith("embedded:"):
        return name
    return str(make_kind(cache, name, data) if name in KINDS else make_student(cache, name, data))


def make_kind(cache: Path, kind: str, data: Path) -> Path:
    """A random model of another architecture, with the 7M Llama's tokenizer."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    folder = cache / f"kind-{kind}"
    if (folder / "config.json").is_file():
        return folder
    llama = make_student(cache, "7m", data)
    shutil.copytree(llama, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = {
        "model_type": kind,
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-5,
        "vocab_size": json.loads((llama / "config.json").read_text())["vocab_size"],
        **KINDS[kind],
    }
    architecture = importlib.import_module(f"mlx_lm.models.{kind}")
    model = architecture.Model(architecture.ModelArgs.from_dict(config))
    weights = {name: mx.random.normal(value.shape) * 0.02 for name, value in tree_flatten(model.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


if __name__ == "__main__":
    main()
