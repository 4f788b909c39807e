"""The report in a real Chromium, driven by Playwright: what a reader presses and saves, and nothing else happens."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from opened_pages import HOSTILE, opened, unfold
from planted import moved as shifted
from playwright.sync_api import Browser, Page

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.comparison.side_by_side import Side, write_comparison

pytestmark = pytest.mark.browser


def test_nothing_is_complained_about_and_nothing_is_fetched(browser: Browser, report: Path):
    with opened(browser, report) as (page, seen):
        page.locator("[data-open]").click()
        sizes = page.eval_on_selector_all(
            "figure",
            """figures => figures.map(figure => {
                const box = figure.querySelector(".plot svg, .plot img, table").getBoundingClientRect();
                return [figure.id, Math.min(box.width, box.height)];
            })""",
        )
        for toggle in page.query_selector_all("details.how summary, details.data summary"):
            toggle.click()
        rows = page.eval_on_selector_all("details.data table", "tables => tables.map(t => t.rows.length)")
        assert page.evaluate("performance.getEntriesByType('resource').length") == 0
    assert (seen.errors, seen.requests) == ([], [])
    assert len(sizes) >= 14
    assert all(size > 100 for _, size in sizes), sizes
    assert len(rows) >= 11
    assert min(rows) > 1


def test_the_guards_would_notice(browser: Browser, report: Path, tmp_path: Path):
    broken = tmp_path / "broken.html"
    text = report.read_text().replace('"use strict";', '"use strict"; missing();')
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', '<img src="http://127.0.0.1:9/x.png">', text)
    broken.write_text(text)
    with opened(browser, broken) as (page, seen):
        assert page.query_selector("body[data-ready]") is None
    assert any("missing is not defined" in error for error in seen.errors)
    assert seen.requests == ["http://127.0.0.1:9/x.png"]


def column(page: Page, table: str, index: int) -> list[str]:
    script = (
        f"t => [...t.tBodies[0].rows].map(r => (r.cells[{index}].dataset.value ?? r.cells[{index}].textContent).trim())"
    )
    return page.eval_on_selector(table, script)


@pytest.mark.slow
def test_tables_sort_by_click_and_by_key(browser: Browser, report: Path):
    with opened(browser, report) as (page, _):
        table = "table.statistics"
        unfold(page)
        names, before = column(page, table, 2), column(page, table, 3)
        assert before != sorted(before, key=float)
        heading = page.locator(f"{table} thead th").nth(3)
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == "ascending"
        assert column(page, table, 3) == sorted(before, key=float)
        page.keyboard.press("Enter")  # the button has the focus
        assert heading.get_attribute("aria-sort") == "descending"
        assert column(page, table, 3) == sorted(before, key=float, reverse=True)
        page.locator(f"{table} thead th").nth(2).locator("button").focus()
        page.keyboard.press("Space")
        assert heading.get_attribute("aria-sort") is None
        assert column(page, table, 2) == sorted(names, key=str.lower)
        p_values = column(page, table, 7)
        page.locator(f"{table} thead th").nth(7).locator("button").click()
        numbers = [float(p) for p in column(page, table, 7) if p not in ("", "–")]
        assert numbers == sorted(numbers)
        assert sorted(p_values) == sorted(column(page, table, 7))  # nothing is lost by sorting


@pytest.mark.slow
def test_saved_csv_is_the_data(browser: Browser, report: Path):
    saved, embedded = {}, {}
    while not embedded or len(saved) < len(embedded):
        with opened(browser, report) as (page, _):
            embedded = dict(
                page.eval_on_selector_all(
                    "button.csv",
                    """buttons => buttons.map(b => [b.dataset.name,
                        JSON.parse(document.getElementById(b.getAttribute("aria-controls")).textContent)])""",
                )
            )
            unfold(page)
            page.locator("table.statistics thead button").nth(3).click()  # sorting the page changes no file
            left = [b for b in page.query_selector_all("button.csv") if b.get_attribute("data-name") not in saved]
            for button in left[:8]:  # Chromium lets one page save ten files, then asks
                with page.expect_download() as download:
                    button.click()
                assert download.value.suggested_filename == button.get_attribute("data-name")
                saved[download.value.suggested_filename] = Path(download.value.path()).read_bytes()
    assert len(saved) == len(embedded) >= 14
    for name, text in embedded.items():
        assert saved[name] == b"\xef\xbb\xbf" + text.encode()
        lines = list(csv.reader(io.StringIO(text)))
        assert len({len(line) for line in lines}) == 1
        assert len(lines) > 1


@pytest.mark.slow
def test_keyboard_alone_reaches_the_content(browser: Browser, report: Path):
    with opened(browser, report) as (page, _):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        section = page.locator("details.fold:has(#convergence)")
        assert not section.evaluate("d => d.open")
        section.locator("summary").first.focus()
        page.keyboard.press("Enter")
        assert section.evaluate("d => d.open")
        page.locator("#convergence details.data summary").focus()
        page.keyboard.press("Space")
        assert page.locator("#convergence details.data").evaluate("d => d.open")
        links = page.eval_on_selector_all(".contents a", "all => all.map(a => a.hash)")
        assert all(page.locator(link).count() == 1 for link in links)


@pytest.mark.slow
def test_hostile_strings_stay_text(browser: Browser, hostile: Path):
    with opened(browser, hostile) as (page, seen):
        unfold(page)
        assert page.evaluate("window.pwned") is None
        assert page.locator("main b, main script:not([type='application/json'])").count() == 0
        text = page.locator("body").inner_text()
        assert "<script>window.pwned = 1</script>" in text
        assert "{{ 7 * 7 }}" in text
        assert "שלום" in text
        assert "\u202e" not in text  # an override would turn the rest of the line around
        assert page.title().startswith("<script>")
        for name, content in page.eval_on_selector_all(
            "script[type='application/json']", "all => all.map(s => [s.id, s.textContent])"
        ):
            assert json.loads(content), name
    assert (seen.errors, seen.requests) == ([], [])


@pytest.mark.slow
def test_two_sweeps_side_by_side(browser: Browser, cells: list[RunRecord], tmp_path: Path):
    moved = [shifted(r, -0.03 - 0.001 * r.seed) for r in cells]
    sides = Side("A", HOSTILE[1], "runs/a", cells), Side("B", HOSTILE[0], "runs/b", moved[3:])
    path = write_comparison(*sides, tmp_path / "comparison.html")
    with opened(browser, path, viewport={"width": 390, "height": 844}) as (page, seen):
        assert page.locator("h1").inner_text() == "A against B: accuracy better in 17 of 17 comparisons"
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        assert page.locator("main b").count() == 0
        unfold(page)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        assert "seeds 0, 1, 2" in page.locator("#only").inner_text()
        with page.expect_download() as download:
            page.locator("#comparison-table button.csv").click()
        rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8-sig"))))
    assert (seen.errors, seen.requests) == ([], [])
    assert [float(r["change (points)"]) for r in rows] == pytest.approx([3.1] * 17)
