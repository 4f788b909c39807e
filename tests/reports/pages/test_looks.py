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


DRAWN = """() => [...document.querySelectorAll("main svg")].flatMap(svg => {
    const box = svg.getBoundingClientRect(), figure = svg.closest("figure").id;
    const corners = text => {  // of the ink: the em box is higher
        const b = text.getBBox(), m = text.getScreenCTM(), cut = 0.18 * b.height;
        return [[b.x, b.y + cut], [b.x + b.width, b.y + cut], [b.x + b.width, b.y + b.height - cut],
                [b.x, b.y + b.height - cut]].map(([x, y]) => [m.a * x + m.c * y + m.e, m.b * x + m.d * y + m.f]);
    };
    const texts = [...svg.querySelectorAll("text")].filter(t => t.checkVisibility() && t.textContent.trim())
        .map(t => [t.textContent.trim(), corners(t)]);
    const apart = (a, b) => [a, b].some(p => [0, 1].some(side => {  // along one of the sides of one of the two
        const [dx, dy] = [p[side + 1][0] - p[side][0], p[side + 1][1] - p[side][1]], n = Math.hypot(dx, dy);
        const along = q => q.map(([x, y]) => (x * -dy + y * dx) / n);
        return Math.min(Math.max(...along(a)), Math.max(...along(b)))
            - Math.max(Math.min(...along(a)), Math.min(...along(b))) < 1;
    }));
    const outside = texts.filter(([, c]) => c.some(([x, y]) =>
        x < box.left - 1 || x > box.right + 1 || y < box.top - 1 || y > box.bottom + 1));
    const overlaps = texts.flatMap(([one, a], i) => texts.slice(i + 1)
        .filter(([, b]) => !apart(a, b)).map(([other]) => [figure, one, other]));
    return [...outside.map(([name]) => [figure, "outside", name]), ...overlaps];
})"""


@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.slow)])
def test_no_text_of_a_figure_is_outside_it_or_on_another(browser: Browser, report: Path, width: int):
    with opened(browser, report, viewport={"width": width, "height": 844}) as (page, _):
        unfold(page)
        assert page.locator("main svg text").count() > 200
        assert page.evaluate(DRAWN) == []
        page.evaluate("""() => {
            const [one, other] = document.querySelectorAll("#convergence svg text");
            one.replaceWith(Object.assign(other.cloneNode(true)));
        }""")
        assert page.evaluate(DRAWN) != []  # it would have been noticed


@pytest.mark.slow
def test_tables_fit_a_screen_and_are_blocks_on_a_phone(browser: Browser, report: Path):
    with opened(browser, report) as (page, _):
        unfold(page)
        wide = """all => all.map(t => [t.parentElement, t.className])
            .filter(([box]) => box.scrollWidth > box.clientWidth + 1).map(([, name]) => name)"""
        assert page.eval_on_selector_all("main table:not(details.data table)", wide) == []
        page.set_viewport_size({"width": 390, "height": 844})
        cells = page.eval_on_selector_all(
            "table.statistics tbody tr:nth-child(2) > *",
            """all => all.filter(one => one.checkVisibility()).map(one => {
                const box = one.getBoundingClientRect(), text = one.textContent.trim();
                const name = getComputedStyle(one, "::before").content.slice(1, -1);
                return [name, text, box.left >= 0 && box.right <= 390];
            })""",
        )
        buttons = page.locator("table.statistics thead button")
        assert all(buttons.nth(k).is_visible() for k in range(buttons.count()))  # it is still sorted by them
    assert [name for name, *_ in cells][:4] == ["Setting", "Attack", "Algorithm", "Accuracy (%)"]
    assert all(name and text and fits for name, text, fits in cells)


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
        sizes = page.eval_on_selector_all(
            ".plot svg", "els => els.map(el => el.getBoundingClientRect().height / Number(el.getAttribute('height')))"
        )
        assert min(sizes) >= 0.49  # letters of 8.5 points are half of that at least
        assert page.eval_on_selector_all(
            ".fold > summary", "els => els.every(el => getComputedStyle(el).breakAfter === 'avoid')"
        )
        assert page.pdf()[:5] == b"%PDF-"
        page.set_viewport_size({"width": 718, "height": 1000})  # A4 without its margins
        wide = "els => els.filter(e => e.getBoundingClientRect().right > 720).map(e => e.tagName + e.className)"
        assert page.eval_on_selector_all("main *", wide) == []  # else all of the print shrinks
