"""Which models were judged, and with which settings they were made.

Files are named without their folders: a report is made to be passed on, and a path tells of the machine it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from mlxdistill.report.blocks import Cell, Column, Table
from mlxdistill.report.data import ReportData
from mlxdistill.report.numbers import finite, read_estimate, size, whole

MOST_LOGS_NAMED = 3
FINE_TUNING = {"lora": "LoRA", "dora": "DoRA", "full": "Full fine-tuning"}
SCHEDULES = {"linear": "falling linearly", "constant": "held level"}
COMBINATIONS = {"mean": "mean probability", "majority": "majority", "dawid_skene": "Dawid and Skene’s model"}
# As llama.cpp's quantize tool names them, at the end of the file's name: `Q4_K_M`, `IQ3_XXS`, `F16`.
_QUANTIZATION = re.compile(r"[-._]((?:IQ|TQ|Q)\d\w*|BF16|F16|F32|MXFP4)(?:-\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE)


def settings_table(data: ReportData) -> Table | None:
    """Models, training and filters; None where no configuration was given."""
    if not data.config:
        return None
    student, train = _section(data.config, "student"), _section(data.config, "train")
    facts = [
        *_teachers(data),
        ("Student", shown_name(student.get("model"))),
        ("Student quantized", f"to {student['quantize']} bits" if student.get("quantize") else "no"),
        (FINE_TUNING.get(str(student.get("fine_tune_type")), "LoRA"), _adapter(student)),
        ("Training", _training(train, data)),
        ("Threads", _threads(data)),
        ("Filters", _filters(_section(data.config, "filter"))),
        ("Student’s peak memory", _memory(data)),
    ]
    rows = tuple((Cell(name), Cell(value)) for name, value in facts if value)
    return Table("settings", "Models and settings", (Column("What", False), Column("Value", False)), rows)


def shown_name(model: Any) -> str:
    """A model's name as configured, of a file or folder on this machine only the last part."""
    name = str(model or "")
    is_path = name.startswith((".", "/", "~")) or (name.endswith(".gguf") and ":" not in name)
    return PurePath(name).name if is_path else name


def quantization(file: str) -> str:
    """The quantization that a GGUF file's name tells, or nothing."""
    found = _QUANTIZATION.search(file)
    return found[1].upper() if found else ""


def _section(place: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = place.get(name)
    return found if isinstance(found, Mapping) else {}


def _teachers(data: ReportData) -> list[tuple[str, str]]:
    """Each teacher, and of several, how their answers became one."""
    named = _named_teachers(data.config)
    if len(named) == 1:
        ((name, teacher),) = named.items()
        return [("Teacher", _joined([str(teacher.get("name") or ""), _teacher(data, name, teacher)]))]
    facts = [(f"Teacher {name}", _teacher(data, name, teacher)) for name, teacher in named.items()]
    return [*facts, ("Teachers combined by", COMBINATIONS.get(str(data.config.get("combine")), ""))]


def _named_teachers(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    teachers = config.get("teacher")
    if not isinstance(teachers, Sequence):
        own = _section(config, "teacher")
        return {str(own.get("name") or "teacher"): own}
    return {str(own.get("name") or f"teacher{number}"): own for number, own in enumerate(teachers, start=1)}


def _teacher(data: ReportData, own: str, teacher: Mapping[str, Any]) -> str:
    if teacher.get("model") is None:
        logs = [PurePath(str(path)).name for path in teacher.get("log") or ()]
        more = f" and {len(logs) - MOST_LOGS_NAMED} more" if len(logs) > MOST_LOGS_NAMED else ""
        return f"answers recorded in {', '.join(logs[:MOST_LOGS_NAMED])}{more}"
    name, file = shown_name(teacher["model"]), data.teacher_files.get(own)
    parts = [name, quantization(name)]
    if file is not None:
        parts = [name, file.name if file.name not in name else "", size(file.bytes), quantization(file.name)]
    return _joined([*parts, *_opinion(teacher)])


def _opinion(teacher: Mapping[str, Any]) -> list[str]:
    """How its answers to a row become one."""
    orders, samples = finite(teacher.get("label_orders")) or 1, finite(teacher.get("samples")) or 1
    return [
        f"{whole(samples)} samples a row" if samples > 1 else "",
        f"{whole(orders)} label orders" if orders > 1 else "",
        "corrected by content-free texts" if teacher.get("calibrate") else "",
        "temperature scaled" if teacher.get("scale_temperature") else "",
    ]


def _adapter(student: Mapping[str, Any]) -> str:
    lora = _section(student, "lora")
    if not lora:
        return ""
    layers = "all layers" if lora.get("layers") == -1 else f"top {lora.get('layers')} layers"
    if student.get("fine_tune_type") == "full":
        return layers
    scale = f"scale {finite(lora.get('scale')) or 0:g}{' over the root of the rank' if lora.get('rslora') else ''}"
    dropout = f"dropout {lora['dropout']:g}" if finite(lora.get("dropout")) else ""
    keys = " and ".join(str(key) for key in lora.get("keys") or ())
    return _joined([f"rank {lora.get('rank')}", scale, layers, dropout, f"on {keys}" if keys else ""])


def _training(train: Mapping[str, Any], data: ReportData) -> str:
    if not train:
        return ""
    epochs = finite(train.get("epochs"))
    rate = finite(train.get("learning_rate"))
    rows = finite(train.get("batch_size")) or finite(_recorded(data.manifest, "train", "batch_size"))
    return _joined(
        [
            f"{whole(epochs)} epoch{'' if epochs == 1 else 's'}",
            f"{whole(rows)} rows a batch" if rows else "",
            f"at most {whole(train['batch_tokens'])} tokens at once" if finite(train.get("batch_tokens")) else "",
            f"learning rate {rate:g}" if rate else "",
            SCHEDULES.get(str(train.get("schedule")), ""),
            "gradient checkpointing" if train.get("gradient_checkpointing") else "",
            f"seed {train.get('seed')}",
        ]
    )


def _threads(data: ReportData) -> str:
    named = _named_teachers(data.config)
    models = [name for name, teacher in named.items() if teacher.get("model") is not None]
    counts = {"teacher": _recorded(data.manifest, "label", "threads")} if models else {}
    if len(named) > 1:
        settings = _recorded(data.manifest, "label", "settings") or {}
        counts = {f"teacher {name}": (settings.get(name) or {}).get("threads") for name in models}
    counts["student"] = _recorded(data.manifest, "train", "threads")
    return _joined([f"{name} {whole(count)}" for name, count in counts.items() if finite(count)])


def _filters(filters: Mapping[str, Any]) -> str:
    """Those that are on, with their limits."""
    on = {name: value for name, value in filters.items() if value not in (None, False, [], 0) and name != "seed"}
    if not (filters.get("noise") or filters.get("dynamics")):
        on = {name: value for name, value in on.items() if not name.startswith("noise_")}
    return _joined([_filter(name, value) for name, value in on.items()]) or "none"


def _filter(name: str, value: Any) -> str:
    if name == "rules":
        return f"{whole(len(value))} rule{'s' if len(value) > 1 else ''}"
    if name == "judge" and isinstance(value, Mapping):
        if finite(value.get("least")):
            return f"judge (grades under {value['least']:g})"
        of_what = "each class" if value.get("per_class") else "all rows"
        return f"judge (the worst {100 * (finite(value.get('drop')) or 0):g} % of {of_what})"
    return name if value is True else f"{name} {value}"


def _memory(data: ReportData) -> str:
    student = _section(_section(data.metrics, "systems"), "student")
    peaks = {
        "in training": finite(_recorded(data.manifest, "train", "peak_memory_bytes")),
        "in prediction": read_estimate(student.get("peak_memory_bytes")).value,
    }
    planned = finite(_recorded(data.manifest, "train", "predicted_peak_bytes"))
    beside = {"in training": f" ({size(planned)} planned)" if planned else ""}
    return _joined([f"{size(peak)} {when}{beside.get(when, '')}" for when, peak in peaks.items() if peak])


def _recorded(manifest: Mapping[str, Any], stage: str, name: str) -> Any:
    """What the manifest holds of a stage's work, beside its seconds or among its figures."""
    record = _section(_section(manifest, "stages"), stage)
    return record[name] if record.get(name) is not None else _section(record, "figures").get(name)


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(part for part in parts if part)
