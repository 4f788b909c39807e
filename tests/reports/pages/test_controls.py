"""What a page does when it is pressed: it folds, links unfold, rows and series are filtered; and without script."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opened_pages import opened
from playwright.sync_api import Browser, Page, expect

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.pages.report import write_report

pytestmark = pytest.mark.browser
expect.set_options(timeout=30_000)  # a busy machine
PLOT = "#degradation-gaussian-noise-sigma .plot"


def shown(page: Page, selector: str) -> int:
    seen = "one => one.checkVisibility() && getComputedStyle(one).display !== 'none'"
    return page.locator(selector).evaluate_all(f"all => all.filter({seen}).length")


@pytest.mark.slow
def test_a_link_unfolds_its_section(browser: Browser, report: Path):
    with opened(browser, report) as (page, seen):
        assert not page.locator("#layers").evaluate("f => f.closest('details').open")
        page.locator('.contents a[href="#layers"]').click()
        assert page.locator("#layers h3").is_visible()
        page.locator("details.fold:has(#layers) > summary").click()
        page.locator('.contents a[href="#layers"]').click()  # the address is the same
        assert page.locator("#layers h3").is_visible()
        page.goto(f"{report.as_uri()}#cost-bytes")
        page.reload()
        assert page.locator("#cost-bytes h3").is_visible()
        links = page.eval_on_selector_all(".permalink", "all => all.map(a => a.hash)")
        named = page.eval_on_selector_all("main figure[id]:not(#picture), .inside", "all => all.map(f => '#' + f.id)")
        assert set(named) <= set(links)
        alone = "all => all.filter(h => !h.closest('.heading, section').querySelector('.permalink')).length"
        heads = page.eval_on_selector_all("main :is(h1, h2, h3)", alone)
        assert heads == 0
    assert seen.errors == []


@pytest.mark.slow
def test_rows_and_series_are_filtered_by_keyboard_alone(browser: Browser, report: Path):
    with opened(browser, report) as (page, seen):
        page.locator("[data-open]").focus()
        page.keyboard.press("Enter")
        assert page.eval_on_selector_all("details.fold", "all => all.every(d => d.open)")
        rows = shown(page, "table.statistics tbody tr")
        strokes = shown(page, f'{PLOT} [data-series="AutoFLIP"]')
        page.locator(".pick summary").first.focus()
        page.keyboard.press("Enter")
        page.locator('input[name="algorithm"][value="AutoFLIP"]').focus()
        page.keyboard.press("Space")
        expect(page.locator("form.tools output")).to_contain_text("rows shown")
        assert shown(page, "table.statistics tbody tr") == rows * 3 // 4
        assert strokes > 0 == shown(page, f'{PLOT} [data-series="AutoFLIP"]')
        assert "AutoFLIP" not in page.locator("table.scoreboard tbody").inner_text().split("\n")
        page.locator('input[name="words"]').focus()
        page.keyboard.type("FLIPPED 2 classes")
        expect(page.locator("table.statistics tbody tr:visible")).to_have_count(3)
        assert re.match(r"\d+ of \d+ table rows shown", page.locator("form.tools output").inner_text())
        page.locator('form.tools [type="reset"]').focus()
        page.keyboard.press("Enter")
        expect(page.locator("form.tools output")).to_have_text("")
        assert shown(page, "table.statistics tbody tr") == rows
        assert shown(page, f'{PLOT} [data-series="AutoFLIP"]') == strokes
    assert seen.errors == []


@pytest.mark.slow
def test_a_legend_hides_a_series_of_its_figure(browser: Browser, report: Path):
    with opened(browser, report) as (page, seen):
        page.locator("[data-open]").click()
        entry = page.locator(f'{PLOT} [data-entry="FedAvg"][role="button"]').first
        others = shown(page, '#convergence [data-series="FedAvg"]')
        for press, state in (("Enter", "false"), ("Space", "true")):
            entry.focus()
            page.keyboard.press(press)
            assert entry.get_attribute("aria-pressed") == state
            assert bool(shown(page, f'{PLOT} [data-series="FedAvg"]')) == (state == "true")
        entry.click()
        assert shown(page, f'{PLOT} [data-series="FedAvg"]') == 0
        assert shown(page, '#convergence [data-series="FedAvg"]') == others > 0
    assert seen.errors == []


@pytest.mark.slow
def test_of_many_curves_a_legend_shows_those_that_are_off_at_first(
    browser: Browser,
    tmp_path: Path,
    record: Callable[..., RunRecord],
    partition: dict[str, Any],
    attack: dict[str, Any],
    scenario: dict[str, Any],
):
    names = ["fedavg", "autoflip", *(f"rival_{n}" for n in range(8))]
    cells = [
        record(n if n[0] != "r" else "random_weights", partition["iid"], attacked, s, rounds=3, label=n)
        for n in names
        for attacked in (attack["clean"](), attack["noise"](0.1), attack["noise"](0.5))
        for s in (0, 1)
    ]
    write_report(cells, scenario, tmp_path / "report.html")
    curves = "#convergence .plot [data-series]"
    with opened(browser, tmp_path / "report.html") as (page, seen):
        page.locator("[data-open]").click()
        off = "#picture .plot [data-series].off"
        assert page.locator(off).count() > 0  # nobody can switch them on there
        assert shown(page, off) == 0
        before = shown(page, curves)
        name = page.locator("#convergence .plot [data-entry].faded").last.get_attribute("data-entry")
        last = page.locator(f'#convergence .plot [data-entry="{name}"][role="button"]').first
        assert last.get_attribute("aria-pressed") == "false"
        assert shown(page, f'#convergence [data-series="{name}"]') == 0
        last.click()
        assert last.get_attribute("aria-pressed") == "true"
        assert shown(page, f'#convergence [data-series="{name}"]') > 0
        assert shown(page, curves) > before
        page.locator('form.tools [type="reset"]').click()
        expect(page.locator(f'#convergence [data-series="{name}"]').first).to_be_hidden()
        assert shown(page, curves) == before
    assert seen.errors == []


@pytest.mark.slow
def test_badges_and_points_say_what_they_are(browser: Browser, report: Path):
    with opened(browser, report) as (page, seen):
        page.locator("[data-open]").click()
        tip = page.locator("#tip")
        assert not tip.is_visible()
        page.locator("table.statistics abbr.card").first.hover()
        assert tip.inner_text().startswith("knows its own data and update; changes")
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        page.locator(f'{PLOT} [data-series="FedAvg"] use').first.dispatch_event("pointerover")
        assert re.match(r"FedAvg: \d+\.\d % \[\d+\.\d, \d+\.\d\], 3 seeds", tip.inner_text())
    assert seen.errors == []


def test_everything_is_reached_without_script(browser: Browser, report: Path):
    with opened(browser, report, java_script_enabled=False) as (page, seen):
        assert page.locator("h1").is_visible()
        assert page.locator("#picture svg").is_visible()
        assert not page.locator("form.tools").is_visible()  # a control that would do nothing
        assert not page.locator("#statistics-table").is_visible()
        page.locator("details.fold:has(#statistics) > summary").click()
        assert page.locator("#statistics-table table").is_visible()
        page.goto(f"{report.as_uri()}#layers")
        assert page.locator("#layers svg").is_visible()  # Chromium unfolds what a link leads into
    assert seen.errors == []


def test_the_first_screen_has_the_summary(browser: Browser, report: Path):
    for width, height in ((1200, 900), (390, 844)):
        with opened(browser, report, viewport={"width": width, "height": height}) as (page, _):
            for part in (".question", "h1", ".answer", ".key-numbers", "#picture svg", "#caveats"):
                box = page.locator(part).first.bounding_box()
                assert box is not None
                assert box["y"] >= 0
                assert box["y"] + box["height"] <= height, (part, width)


def test_the_script_is_a_few_kilobytes(report: Path):
    (script,) = re.findall(r"<script>(.*?)</script>", report.read_text(), flags=re.DOTALL)
    assert len(script.encode()) < 13_000


@pytest.mark.slow
def test_print_has_every_section_with_and_without_script(browser: Browser, report: Path):
    pages = []
    for script in (True, False):
        with opened(browser, report, java_script_enabled=script) as (page, _):
            pages.append(len(re.findall(rb"/Type\s*/Page\b(?!s)", page.pdf(format="A4"))))
    assert 4 <= pages[0] <= 14
    assert abs(pages[0] - pages[1]) <= 1
