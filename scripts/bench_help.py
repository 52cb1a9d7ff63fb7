"""How much longer `mlxdistill --help` takes than a bare typer app's: both in turn, the ratio and its spread.

python scripts/bench_help.py [--runs 15]
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys

BARE = """\
import typer
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
@app.command()
def one(): pass
@app.command()
def two(): pass
app()
"""


def cpu_seconds(*command: str) -> float:
    """Processor seconds of `python COMMAND --help`: steadier than the clock on a shared machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command, "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    ratios = [cpu_seconds("-m", "mlxdistill") / cpu_seconds("-c", BARE) for _ in range(runs + 1)][1:]
    figures = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "runs": runs}
    print(json.dumps({"ratio_to_bare_typer": {name: round(value, 2) for name, value in figures.items()}}))


if __name__ == "__main__":
    main()
