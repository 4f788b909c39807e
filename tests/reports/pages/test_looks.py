"""How the report looks in a real Chromium: dark, with enough contrast, as wide as the window, and in print."""

import io
from pathlib import Path

import numpy as np
import pytest
from opened_pages import opened, unfold
from PIL import Image
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


def shot(page: Page, selector: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("L"), dtype=float)


@pytest.mark.slow
def test_dark_pages_are_dark_and_figures_stay_legible(browser: Browser, report: Path):
    ink = {}
    for scheme in ("light", "dark"):
        with opened(browser, report, color_scheme=scheme) as (page, _):
            unfold(page)
            ink[scheme] = {s: shot(page, s) for s in ("#verdict", "#convergence", "#degradation-gaussian-noise-sigma")}
    for selector, light in ink["light"].items():
        dark = ink["dark"][selector]
        assert np.median(light) > 240, selector
        assert np.median(dark) < 40, selector
        assert (light < 130).mean() > 0.005, selector
        assert (dark > 130).mean() > 0.005, selector


def contrast(one: list[float], other: list[float]) -> float:
    """WCAG 2 contrast ratio of two sRGB colours."""

    def luminance(rgb: list[float]) -> float:
        linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(browser: Browser, report: Path, scheme: str):
    assert contrast([0, 0, 0], [255, 255, 255]) == pytest.approx(21)
    with opened(browser, report, color_scheme=scheme) as (page, _):
        script = """els => els.map(el => {
            let back = el;
            while (getComputedStyle(back).backgroundColor === "rgba(0, 0, 0, 0)") back = back.parentElement;
            const numbers = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
            return [el.className || el.tagName, numbers(getComputedStyle(el).color),
                    numbers(getComputedStyle(back).backgroundColor)];
        })"""
        unfold(page)
        found = page.eval_on_selector_all(
            "h1, p, dt, dd, label, .card, .gist, figcaption, td, thead th, summary, .chip, .quiet, .note, a, button",
            script,
        )
    assert len(found) > 200
    weak = {name: round(contrast(a, b), 2) for name, a, b in found if contrast(a, b) < 4.5}
    assert not weak


WIDER = [("report", 768), ("report", 1280), ("hostile", 390)]


@pytest.mark.parametrize(
    ("which", "width"), [("report", 390), *(pytest.param(*one, marks=pytest.mark.slow) for one in WIDER)]
)
def test_no_width_scrolls_the_page_sideways(browser: Browser, which: str, width: int, request: pytest.FixtureRequest):
    path = request.getfixturevalue(which)
    with opened(browser, path, viewport={"width": width, "height": 844}) as (page, _):
        unfold(page)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        hidden = page.eval_on_selector_all(
            "h1, h2, h3, figcaption, .answer p, .key-numbers div, form.tools > *",
            f"els => els.filter(el => el.getBoundingClientRect().right > {width} + 1).map(el => el.textContent)",
        )
    assert hidden == []


@pytest.mark.slow
def test_print_shows_the_record_and_hides_the_controls(browser: Browser, report: Path):
    with opened(browser, report, color_scheme="dark") as (page, _):
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.eval_on_selector_all("details.fold", "els => els.every(el => el.open)")
        visible = "els => els.some(el => el.checkVisibility())"
        assert not page.eval_on_selector_all(
            ".contents, button.csv, details.data, details.how, form.tools, .permalink", visible
        )
        assert page.eval_on_selector_all(
            "#reproducibility .printed pre", "els => els.every(el => el.checkVisibility())"
        )
        assert page.eval_on_selector("body", "el => getComputedStyle(el).backgroundColor") == "rgb(255, 255, 255)"
        plots = page.eval_on_selector_all(
            ".plot svg, .plot img", "els => els.map(el => el.getBoundingClientRect().width)"
        )
        assert min(plots) > 100
        assert page.pdf()[:5] == b"%PDF-"
