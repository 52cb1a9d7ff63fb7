"""The commented configuration that `mlxdistill init` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence

_TEMPLATE = """\
# {name}: fill in the three paths marked <-- and run
#     mlxdistill run {file}
# Every key with its meaning: mlxdistill config schema. Every value in force: mlxdistill config show {file}
name: {name}

task:
  type: classification
  # What the models are asked, in one sentence.
  instruction: {instruction}
  # Each label, and what it means: the better the description, the better the teacher.
  labels:
{labels}

data:
  # <-- 1. your rows: .jsonl, .csv, .parquet, a datasets folder, or an OpenAI-style request log
  source: rows.jsonl
  # The columns' names. Rows with a gold label (one you know to be right) make the test sets; without any gold, leave
  # the key out: student and teacher are then compared with each other only.
  fields: {{text: text, gold: label}}
  # If the gold column writes labels differently: gold_values: {{"0": {first}, "1": {second}}}
  # Rows held out of training; a number to draw, or a file each.
  valid: 200
  test: {{indist: 200, balanced: 200}}
  seed: 0

teacher:
  # <-- 2. a GGUF file, a hub id that was pulled (mlxdistill pull org/name), or ollama:name
  model: ~/models/teacher.gguf
  # Or answers already logged, instead of a model:
  # log: requests.jsonl
  # Several teachers, asked one after the other, are a list of such sections; what they say becomes one answer by
  # `combine: mean` (of their class probabilities), majority or dawid_skene (who agrees with whom tells whom to trust).

filter:
  # Labels the teacher is less sure of than this do not teach.
  min_confidence: 0.6

student:
  # <-- 3. a small MLX model: a folder, or a hub id that was pulled
  model: mlx-community/Qwen3-0.6B-4bit
  lora: {{rank: 8, scale: 20.0, layers: 16}}

train:
  epochs: 2
  batch_size: 16
  learning_rate: 1.0e-4
  # How much of the loss follows the teacher's class probabilities rather than its label alone.
  soft_weight: 0.5

evaluate:
  # The student may replace the teacher if it is at most this much worse.
  margin: 0.02
"""


def template(name: str, file: str, labels: Sequence[str]) -> str:
    """A YAML text that loads once its three paths exist."""
    quoted = [json.dumps(label, ensure_ascii=False) for label in labels]
    return _TEMPLATE.format(
        name=name,
        file=file,
        instruction=json.dumps(f"Decide which label fits the text: {', '.join(labels)}.", ensure_ascii=False),
        labels="\n".join(
            f"    {label}: {json.dumps('what ' + text + ' means')}" for label, text in zip(quoted, labels, strict=True)
        ),
        first=quoted[0],
        second=quoted[1],
    )
