"""The review page in a real Chromium: a person goes through rows by keyboard, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from review_runs import answer, make_run, people_in, reviewing, rows_of

from mlxdistill.rundir.layout import RunDir
from mlxdistill.tasks.rows import Row

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
HERE = "Number(document.getElementById('position').textContent.split(' ')[0])"
IS_STILL = "!document.body.classList.contains('busy')"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; what the server does is tested without it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture
def visitor(browser: Any) -> Iterator[Any]:
    """A browser of its own; `said` of each page is what went wrong on it."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    yield context
    context.close()


def open_page(visitor: Any, address: str) -> Any:
    page = visitor.new_page()
    page.said = []
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#position:not(:empty)")
    return page


def press(page: Any, key: str) -> None:
    """A key, and the row after it."""
    before = page.evaluate(HERE), page.locator("#said").text_content(), page.locator("#end").is_visible()
    page.keyboard.press(key)
    changed = f"""([here, said, end]) => {IS_STILL} && ({HERE} !== here
        || document.getElementById('said').textContent !== said || !document.getElementById('end').hidden !== end)"""
    page.wait_for_function(changed, arg=list(before))


def place(page: Any) -> int:
    return int(page.evaluate(HERE))


def make(
    folder: Path, count: int = 50, labels: tuple[str, ...] = ("ok", "toxic"), rows: list[Row] | None = None
) -> RunDir:
    rows = rows or rows_of(count)
    return make_run(folder, {"pool": rows}, [answer(row.id, labels[0], 0.6, labels) for row in rows], labels=labels)


def test_fifty_rows_by_keyboard_with_a_reload_and_undo(visitor: Any, tmp_path: Path) -> None:
    run = make(tmp_path)
    with reviewing(run) as server:
        page = open_page(visitor, server.link)
        assert page.url == f"http://127.0.0.1:{server.port}/#1"
        decided: dict[str, str | None] = {}
        for number in range(50):
            if number == 20:
                page.reload()
                page.wait_for_function(f"() => {HERE} === 21")
            row_id = page.locator("#id").text_content().removeprefix("Row ")
            key, label = (("Enter", "ok"), ("2", "toxic"), ("u", None))[number % 3]
            press(page, key)
            decided[row_id] = label
            assert people_in(run) == decided  # in the store before the next row is there
            if number % 10 == 9:  # thinks better of it
                press(page, "z" if number % 20 == 9 else "Backspace")
                assert page.locator("#id").text_content() == f"Row {row_id}"
                assert row_id not in people_in(run)
                press(page, key)
        assert len(decided) == 50
        assert people_in(run) == decided
        assert page.locator("#end-title").text_content() == "All 50 rows of this queue are decided."
        assert "17 of 34 of the teacher's answers changed: 50.0 %" in page.locator("#findings").text_content()
        assert page.said == []
        assert all(url.startswith((f"http://127.0.0.1:{server.port}/", "data:")) for url in page.asked)
        out, _ = server.end()
    assert "50 of 50 rows decided (50 now): 17 accepted, 17 changed, 0 labelled, 16 unsure" in out
    assert f"next     mlxdistill run {run.path}/config.yaml --run-dir {run.path}" in out


def test_two_windows_never_decide_one_row_twice(visitor: Any, tmp_path: Path) -> None:
    run = make(tmp_path, 6)
    with reviewing(run) as server:
        one = open_page(visitor, server.link)
        other = open_page(visitor, f"http://127.0.0.1:{server.port}/")
        assert (place(one), place(other)) == (1, 1)
        press(one, "2")
        press(one, "2")
        other.keyboard.press("Enter")  # on the row that the first window has decided
        other.wait_for_function("() => document.getElementById('said').textContent.includes('another window')")
        assert list(people_in(run).values()) == ["toxic", "toxic"]
        assert place(other) == 1
        press(other, "Enter")  # now it knows, and means it; the next row is the third
        assert sorted(map(str, people_in(run).values())) == ["ok", "toxic"]
        assert place(other) == 3
        press(other, "u")
        press(one, "Enter")  # decided in the other window meanwhile: it moves on to what is left
        assert len(people_in(run)) == 3
        one.wait_for_function(f"() => {HERE} === 3")
        press(one, "n")
        assert place(one) == 4
        press(one, "z")  # takes back what the other window did last
        assert len(people_in(run)) == 2
        for window in (one, other):
            window.wait_for_function("() => document.getElementById('tally').textContent.includes('1 accepted')")


def test_a_server_that_is_killed_loses_nothing(visitor: Any, tmp_path: Path) -> None:
    run = make(tmp_path, 10)
    with reviewing(run) as server:
        page = open_page(visitor, server.link)
        for _ in range(3):
            press(page, "2")
        server.kill()
        page.keyboard.press("2")
        told = "() => document.getElementById('trouble').textContent.includes('last decision is kept in this window')"
        page.wait_for_function(told)
        again = f"mlxdistill review {run.path}/config.yaml --run-dir {run.path}"
        page.wait_for_function("again => document.getElementById('trouble').textContent.includes(again)", arg=again)
        assert place(page) == 4
        assert len(people_in(run)) == 3
        with reviewing(run):  # the page goes on by itself
            page.wait_for_function(f"() => {HERE} === 5 && document.getElementById('trouble').hidden", timeout=20_000)
            press(page, "Enter")
            assert list(people_in(run).values()).count("toxic") == 4
            assert len(people_in(run)) == 5


def test_an_answer_that_was_lost_on_its_way_is_not_decided_twice(visitor: Any, tmp_path: Path) -> None:
    run = make(tmp_path, 4)
    with reviewing(run) as server:
        page = open_page(visitor, server.link)
        lost = []

        def lose(route: Any) -> None:
            if lost:
                route.continue_()
            else:
                lost.append(route.fetch().status)  # saved, and the page never hears of it
                route.abort()

        page.route("**/decide", lose)
        page.keyboard.press("2")
        page.wait_for_function(f"() => {HERE} === 2", timeout=20_000)
        assert lost == [200]
        assert list(people_in(run).values()) == ["toxic"]
        assert page.locator("#said").text_content() == "Row 1: toxic"


def test_a_store_that_cannot_be_written_is_said_and_tried_again(visitor: Any, tmp_path: Path) -> None:
    run = make(tmp_path, 3)
    with reviewing(run) as server, contextlib.closing(sqlite3.connect(run.labels, isolation_level=None)) as other:
        page = open_page(visitor, server.link)
        other.execute("BEGIN IMMEDIATE")  # another program, for longer than anybody waits
        page.keyboard.press("2")
        page.wait_for_selector("#trouble:not([hidden])", timeout=20_000)
        assert page.locator("#trouble").text_content().startswith("Not saved: cannot use the label store: ")
        assert people_in(run) == {}
        other.execute("ROLLBACK")
        page.wait_for_function(f"() => {HERE} === 2 && document.getElementById('trouble').hidden", timeout=20_000)
        assert list(people_in(run).values()) == ["toxic"]


def test_news_that_come_late_change_nothing(visitor: Any, tmp_path: Path) -> None:
    run = make(tmp_path, 5)
    with reviewing(run) as server:
        page = open_page(visitor, server.link)
        press(page, "Enter")
        held: list[Any] = []

        def hold(route: Any) -> None:
            held.append((route, route.fetch()))

        page.route("**/state?*", hold)
        while not held:
            page.wait_for_timeout(100)
        press(page, "2")
        route, old = held[0]
        route.fulfill(response=old)  # from before the decision
        page.wait_for_timeout(200)
        press(page, "z")
        assert page.locator("#said").text_content() == "Row 2: taken back"
        assert list(people_in(run).values()) == ["ok"]


HOSTILE = (
    "<img src=x onerror=alert(1)><script>document.title='hacked'</script></div></main>",
    "</script><style>*{display:none}</style>{{ 7 * 7 }}",
    "\u202eright to left\u202c and \u2066isolated",
    "zero\u200bwidth\u200b\u200b\u200bspaces",
    "controls \x00 \x1b[31m",
    "👨‍👩‍👧‍👦 ❤️‍🔥 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "\u05d0\u05d1\u05d2 123 (\u05d3)",
    "Z" + "\u0335\u0336\u0337" * 200 + "algo",
)


def test_hostile_text_does_nothing(visitor: Any, tmp_path: Path) -> None:
    rows = [Row(f"row-{number}<b>\u202e", text) for number, text in enumerate(HOSTILE)]
    labels = ("<i>ok</i>", "</script><b>")
    run = make(tmp_path, labels=labels, rows=rows)
    with reviewing(run) as server:
        page = open_page(visitor, server.link)
        texts = {}
        for _ in rows:
            page.wait_for_selector(".choice")
            name = page.locator("#id").text_content()
            texts[int(name[8])] = page.locator("#text").text_content()
            assert name.endswith("<b>[RLO]")
            assert page.locator("#text img, #text script, #text style, #main b, #main i").count() == 0
            assert page.locator(".choice bdi").all_text_contents() == list(labels)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.locator("#accept").is_visible()
            press(page, "Enter")
        assert page.title() == "Review – small"
        assert page.said == []
    assert texts[0] == HOSTILE[0]
    assert texts[1] == HOSTILE[1]
    assert texts[2] == "RLOright to leftPDF and LRIisolated"
    assert texts[3] == "zeroZWSPwidthZWSP ×3spaces"
    assert texts[4] == "controls U+0000 U+001B[31m"
    assert texts[5] == HOSTILE[5]
    assert len(people_in(run)) == len(rows)


def test_a_megabyte_of_one_letter(visitor: Any, tmp_path: Path) -> None:
    run = make(tmp_path, rows=[Row("long", "a" * 1_000_000), *rows_of(1)])
    with reviewing(run) as server:
        page = open_page(visitor, server.link)
        while page.locator("#id").text_content() != "Row long":
            press(page, "j")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("#more").text_content() == "Show more of 1,000,000 characters"
        page.locator("#more").click()
        page.wait_for_function("() => document.getElementById('text').textContent.length === 40000")
        page.locator("#text").focus()
        press(page, "2")
    assert people_in(run) == {"long": "toxic"}


def test_many_labels_are_found_by_typing(visitor: Any, tmp_path: Path) -> None:
    labels = (*(f"topic {number}" for number in range(75)), "card arrival", "lost card")
    run = make(tmp_path, 4, labels)
    with reviewing(run) as server:
        page = open_page(visitor, server.link)
        first = page.locator("#id").text_content().removeprefix("Row ")
        page.keyboard.press("c")
        page.keyboard.type("ard")
        assert page.locator("#found li").all_text_contents() == ["card arrival", "lost card"]
        page.keyboard.press("ArrowDown")
        assert page.locator("#search").get_attribute("aria-activedescendant") == "found-76"
        press(page, "Enter")
        assert people_in(run) == {first: "lost card"}
        page.keyboard.press("/")
        page.keyboard.type("unknown")
        assert page.locator("#found").text_content() == "no such label"
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        assert len(people_in(run)) == 1
        press(page, "Enter")
        assert sorted(map(str, people_in(run).values())) == ["lost card", "topic 0"]


def test_by_mouse_and_a_key_after_it(visitor: Any, tmp_path: Path) -> None:
    run = make(tmp_path, 5)
    with reviewing(run) as server:
        page = open_page(visitor, server.link)
        page.locator(".choice").nth(1).click()
        page.wait_for_function(f"() => {HERE} === 2")
        press(page, "Enter")  # accepts the teacher's answer, and does not press the same button again
        page.locator("#unsure").click()
        page.wait_for_function(f"() => {HERE} === 4")
        page.locator("#undo").click()
        page.wait_for_function(f"() => {HERE} === 3")
        assert sorted(map(str, people_in(run).values())) == ["ok", "toxic"]


def test_a_key_held_down_decides_once(visitor: Any, tmp_path: Path) -> None:
    run = make(tmp_path, 20)
    with reviewing(run) as server:
        page = open_page(visitor, server.link)
        page.keyboard.down("Enter")
        page.wait_for_function(f"() => {HERE} === 2")
        for _ in range(5):
            page.keyboard.down("Enter")  # repeats, as the browser sends them
        page.keyboard.up("Enter")
        page.wait_for_timeout(300)
        assert len(people_in(run)) == 1


def test_a_used_link_says_so(browser: Any, visitor: Any, tmp_path: Path) -> None:
    with reviewing(make(tmp_path, 2)) as server:
        open_page(visitor, server.link)
        second = browser.new_context()
        page = second.new_page()
        assert page.goto(server.link).status == 403
        assert page.locator("h1").text_content() == "This link has been used"
        assert page.locator("h1").is_visible()
        second.close()


READ = ("#text", ".choice .name", ".choice .share", ".choice .about", "#tally", ".question", "#why", "#accept", ".fine")


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1100), ("dark", 360)])
def test_it_fits_the_window_and_can_be_read(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    run = make(tmp_path, 3, rows=[Row("w" * 200, "w" * 3000), *rows_of(2)])
    with reviewing(run) as server:
        visitor = browser.new_context(viewport={"width": width, "height": 740}, color_scheme=scheme)
        page = open_page(visitor, server.link)
        for _ in range(3):
            page.wait_for_selector(".choice")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.locator("#accept").bounding_box()["y"] < 740  # without scrolling
            for shown in READ:
                assert contrast(page, shown) >= 4.5, shown
            press(page, "Enter")
        assert contrast(page, "#end-title") >= 4.5
        visitor.close()


def contrast(page: Any, selector: str) -> float:
    """The contrast ratio of WCAG 2 between an element's text and what is behind it."""
    ink, paper = page.evaluate(
        """selector => {
            let at = document.querySelector(selector);
            const ink = getComputedStyle(at).color;
            while (at && /, 0\\)$|transparent/.test(getComputedStyle(at).backgroundColor)) at = at.parentElement;
            const colours = [ink, getComputedStyle(at).backgroundColor];
            return colours.map(each => each.match(/[0-9.]+/g).slice(0, 3).map(Number));
        }""",
        selector,
    )

    def luminance(colour: list[float]) -> float:
        parts = (part / 255 for part in colour)
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(ink), luminance(paper)))
    return (high + 0.05) / (low + 0.05)


def test_a_screen_reader_hears_what_happened(visitor: Any, tmp_path: Path) -> None:
    with reviewing(make(tmp_path, 3)) as server:
        page = open_page(visitor, server.link)
        press(page, "2")
        assert page.locator("[role=status]").text_content() == "Row 1: toxic"
        assert page.evaluate("document.activeElement.id") == "text"
        names = page.evaluate(
            "[...document.querySelectorAll('button:not([hidden]), [role=img], [role=combobox], section')]"
            ".filter(each => each.checkVisibility() && !each.textContent && !each.getAttribute('aria-label'))"
            ".map(each => each.outerHTML)"
        )
        assert names == []
        page.keyboard.press("?")
        assert page.locator("#keys").is_visible()
        page.keyboard.press("u")  # not a decision while the keys are shown
        page.keyboard.press("Escape")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "choice teacher"
