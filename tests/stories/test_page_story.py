"""A page that is quick to read: the demo's report, from the wheel, opened in a browser, filtered and printed."""

import re
import shutil
from pathlib import Path

import pytest
from built_wheel import Program

SMALL = ("--set", "tune=null", "--set", "rounds=2", "--set", "seeds=[10,11]", "--workers", 1)


@pytest.mark.slow
@pytest.mark.browser
def test_the_report_is_read_filtered_and_printed(program: Program, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome"))
    chromium = next((path for path in found if path), None)
    if chromium is None:
        pytest.skip("no Chromium on the PATH")
    program("sweep", "demo", *SMALL, "--out", "out")
    report = tmp_path / "out" / "report.html"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page, errors = browser.new_page(viewport={"width": 390, "height": 844}), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(report.as_uri())
        assert page.locator(".question").inner_text().startswith("What do noisy and label-flipping clients do")
        assert page.locator(".key-numbers > div").count() == 3
        assert page.locator("#picture svg, #picture img").is_visible()
        page.locator("[data-open]").click()
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        assert page.locator("#cards-table tbody tr").count() == 2
        page.locator('input[name="words"]').fill("flipped")
        page.locator("form.tools output", has_text="rows shown").wait_for()
        page.locator('form.tools [type="reset"]').click()
        printed = page.pdf(format="A4")
        assert errors == []
        browser.close()
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", printed)) <= 12
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Threat card" in text
    assert "threat_card" in (tmp_path / "out" / "cells.csv").read_text().partition("\n")[0]
