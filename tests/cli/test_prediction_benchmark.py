"""The benchmark of prediction runs from end to end, on made-up rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_everyone_labels_and_writes_and_is_measured(tmp_path: Path) -> None:
    jigsaw = tmp_path / "data" / "jigsaw"
    jigsaw.mkdir(parents=True)
    texts = [f"comment number {number} is {'mean' if number % 2 else 'kind'}" for number in range(24)]
    with (jigsaw / "train.5k.gpt4_log.jsonl").open("w") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps({"id": str(number), "text": text, "gold": bool(number % 2)}) + "\n")
    with (jigsaw / "comments_20k.jsonl").open("w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    few = {"sizes": "7m", "rows": 4, "written": 3, "tokens": 3, "rounds": 2}
    options = {"data": tmp_path / "data", "cache": tmp_path / "cache", **few}
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, str(SCRIPTS / "bench_predict.py"), *flags, "--only", "JSON labels", "texts"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])["7m"]
    assert min(found.pop("peak memory, MB").values()) > 50
    assert set(found) == {"JSON labels", "texts"}
    assert found["JSON labels"]["tokens"] > 3
    for part in found.values():
        for rival in ("mlx_lm.generate", "mlx_lm.batch_generate"):
            ratio, speeds = part[f"rows/s, times {rival}"], part["rows/s"]
            assert ratio["min"] <= ratio["median"] <= ratio["max"]
            # Of two rounds the median is the mean; a ratio of means lies between the ratios.
            assert (
                ratio["min"] * 0.99 <= speeds["mlxdistill"]["median"] / speeds[rival]["median"] <= ratio["max"] * 1.01
            )
