from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_report_prompts import candidate

from mlxdistill.report.data import ReportData
from mlxdistill.report.page import TEMPLATES, render_report
from mlxdistill.report.svg import shade

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
LONG = "w" * 300


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; what the page says is tested without it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a report with the network off: `opened(data, width)`; the page's `asked` and `said` are what went wrong."""
    contexts = []

    def opener(data: ReportData, width: int) -> tuple[Any, list[str], list[str]]:
        path = tmp_path / "report.html"
        path.write_text(render_report(data), "utf-8")
        context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
        contexts.append(context)
        page = context.new_page()
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        return page, asked, said

    yield opener
    for context in contexts:
        context.close()


def test_it_opens_offline_and_asks_for_nothing(report: ReportData, opened: Callable[..., Any]) -> None:
    page, asked, said = opened(report, 1200)
    assert asked == [page.url]
    assert said == []
    assert page.title() == "toxic-comments – mlxdistill report"
    for shown in ("h1", ".badge", ".sentence"):
        assert page.locator(shown).is_visible()
        box = page.locator(shown).bounding_box()
        assert box["y"] + box["height"] < 500


@pytest.mark.parametrize("kind", ["two labels", "many labels", "long names", "no gold"])
def test_a_phone_never_scrolls_sideways(
    kind: str,
    report: ReportData,
    report_without_gold: ReportData,
    report_with: Callable[..., ReportData],
    opened: Callable[..., Any],
) -> None:
    data = {
        "two labels": lambda: report,
        "many labels": lambda: report_with([f"label {number}" for number in range(11)], 110, 110),
        "long names": lambda: replace(
            report_with((LONG, f"{LONG}y"), 110, 110), name=LONG, verdict_sentence=LONG, versions={LONG: LONG}
        ),
        "no gold": lambda: report_without_gold,
    }[kind]()
    page, _, _ = opened(data, 375)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    outside = """[...document.querySelectorAll('main *')]
        .filter(each => !each.closest('.scroll, .drawing') && each.getBoundingClientRect().right > 375.5)
        .map(each => each.outerHTML.slice(0, 80))"""
    assert page.evaluate(outside) == []


def test_a_sheet_of_paper_holds_every_column(report: ReportData, opened: Callable[..., Any]) -> None:
    page, _, _ = opened(report, 680)
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    assert not page.locator("nav").is_visible()


def test_compared_prompts_fit_a_phone_and_a_sheet_of_paper(report: ReportData, opened: Callable[..., Any]) -> None:
    entries = [candidate(f"teacher{number} · {LONG[:20]} · generate · 0.7", 0.6 + number / 20) for number in range(7)]
    outcome = {"n": 200, "candidates": entries, "recommendations": [], "caveats": []}
    data = replace(report, prompts=outcome)
    assert opened(data, 375)[0].evaluate("document.documentElement.scrollWidth") == 375
    page, _, _ = opened(data, 680)
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 680


def test_a_keyboard_reaches_tables_and_folded_parts(report: ReportData, opened: Callable[..., Any]) -> None:
    page, _, _ = opened(report, 375)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    page.keyboard.press("Enter")
    assert page.locator("#margin-table").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "scroll"


def palettes() -> dict[str, dict[str, tuple[float, ...]]]:
    """The colours of the style sheet, by where they apply."""
    found = re.findall(r":root \{(.*?)\}", (TEMPLATES / "style.css.j2").read_text("utf-8"), flags=re.DOTALL)
    colours = [dict(re.findall(r"--([a-z-]+): #([0-9a-f]{6})", each)) for each in found]
    named = dict(zip(("light", "dark", "paper"), colours, strict=True))
    return {
        name: {key: tuple(int(value[at : at + 2], 16) / 255 for at in (0, 2, 4)) for key, value in each.items()}
        for name, each in named.items()
    }


def contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """The contrast ratio of WCAG 2."""

    def luminance(colour: tuple[float, ...]) -> float:
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["light", "dark", "paper"])
def test_text_stands_out_from_the_page(name: str) -> None:
    palette = palettes()[name]
    for ink in ("ink", "quiet", "accent", "yes", "no", "undecided", "none"):
        assert contrast(palette[ink], palette["paper"]) >= 4.5, ink


@pytest.mark.parametrize("name", ["light", "dark", "paper"])
@pytest.mark.parametrize("cell", ["accent", "wrong"])
def test_numbers_stand_out_from_every_shade(name: str, cell: str) -> None:
    palette = palettes()[name]
    for share in (step / 100 for step in range(101)):
        opacity = shade(share)
        behind = tuple(
            opacity * over + (1 - opacity) * under for over, under in zip(palette[cell], palette["paper"], strict=True)
        )
        ink = "accent-ink" if share > 0.5 else "ink" if share else "quiet"
        assert contrast(palette[ink], behind) >= 4.5, share


def test_the_bars_of_the_funnel_are_as_long_as_their_rows(report: ReportData, opened: Callable[..., Any]) -> None:
    page, _, said = opened(report, 1200)
    bars = "[aria-labelledby^='{}'] rect.{}"

    def widths(chart: str, kind: str) -> list[float]:
        found = page.locator(bars.format(chart, kind)).evaluate_all("all => all.map(each => each.width.baseVal.value)")
        return [float(width) for width in found]

    kept = widths("funnel-bars", "kept")
    assert kept[-1] / kept[0] == pytest.approx(8120 / 9990, abs=0.01)
    before, after = widths("class-bars", "dropped"), widths("class-bars", "kept")
    assert before[1] / before[0] == pytest.approx(1000 / 8990, abs=0.01)
    assert after[1] / after[0] == pytest.approx(20 / 8100, abs=0.01)
    folded = page.locator("#funnel details")
    assert folded.count() == 3
    for index in range(3):
        folded.nth(index).locator("summary").click()
        assert folded.nth(index).locator("table").is_visible()
    assert said == []
