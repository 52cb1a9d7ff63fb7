"""Pictures of `mlxdistill review` for the README: the page over the demo's messages, labelled by the demo's teacher.

python scripts/screenshots.py [--output docs] [--rows 400] [--run RUN]

Labels and filters some of the demo's messages (two orders of the labels, so that there are other opinions; the noise
filter names what it doubts), opens the page in Chromium, decides a few rows by keyboard and writes review.png and
review-dark.png. With --run the page is that of a run there is, of a copy of it: nothing in it changes.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from mlxdistill.demo import HERE

CONFIG = """\
name: bank-messages
task:
  instruction: Decide whether a message to the bank must be seen by a person today.
  labels:
    report: a theft or misuse that is happening or not yet dealt with
    other: everything else
data: {source: rows.jsonl, fields: {text: text, id: id}, valid: 20, test: {indist: 20, balanced: 20}}
teacher: {model: embedded:teacher, n_ctx: 512, label_orders: 2}
filter: {noise: 0.05}
student: {model: embedded:student}
"""
SIZE = {"width": 1200, "height": 640}
KEYS = ("Enter", "Enter", "2", "Enter", "Enter", "u", "Enter", "1", "Enter", "Enter", "Enter")
FLAGS = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
STILL = "!document.body.classList.contains('busy')"
ROW = "() => document.getElementById('position').textContent"


def labelled_run(folder: Path, rows: int) -> Path:
    """A run as far as `filter`, of the demo's messages."""
    lines = (HERE / "messages.jsonl").read_text("utf-8").splitlines()[:rows]
    records = [json.loads(line) for line in lines]
    texts = ({"id": record["id"], "text": record["text"]} for record in records)
    (folder / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in texts), "utf-8")
    (folder / "config.yaml").write_text(CONFIG, "utf-8")
    for stage in ("ingest", "label", "filter"):
        command = [sys.executable, "-m", "mlxdistill", stage, "config.yaml", "--run-dir", "run"]
        subprocess.run(command, cwd=folder, check=True)
    return folder / "run"


def take(run: Path, output: Path) -> None:
    """Opens the page of a run, and writes what it looks like."""
    command = [sys.executable, "-m", "mlxdistill", "review", str(run), "--no-open", "--n", "60"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            link = re.search(r"http://\S+", server.stderr.readline())
            assert link is not None
            photograph(link.group(), output)
        finally:
            server.send_signal(signal.SIGINT)


def photograph(link: str, output: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport=SIZE)
        page.goto(link)
        page.wait_for_selector(".choice")
        keys = list(KEYS)
        while keys or page.locator("#text").text_content().isupper():  # some of the demo's customers shout
            before = page.evaluate(ROW)
            page.keyboard.press(keys.pop(0) if keys else "j")
            page.wait_for_function(f"before => {STILL} && ({ROW})() !== before", arg=before)
        for scheme, name in (("light", "review.png"), ("dark", "review-dark.png")):
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=output / name)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Takes pictures of the review page.")
    parser.add_argument("--output", type=Path, default=Path("docs"))
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    options.output.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.run is None:
            run = labelled_run(folder, options.rows)
        else:
            run = folder / "run"
            shutil.copytree(options.run, run)
        take(run, options.output)
    for path in sorted(options.output.glob("review*.png")):
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
