"""The report in a real Chromium, driven by Playwright: what a reader sees, presses and saves, and nothing else."""

import contextlib
import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from planted import moved as shifted
from playwright.sync_api import Browser, Page, sync_playwright
from sizes import sized

from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.comparison.side_by_side import Side, write_comparison
from autoflip_secure.reports.figures.style import Picture
from autoflip_secure.reports.pages.report import write_report

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ARGUMENTS += ["--no-first-run", "--disable-sync"]
HOSTILE = (
    "<script>window.pwned = 1</script>",
    "\"quoted\" 'single' `tick` | pipe & <b>bold</b> </script></style>--> {{ 7 * 7 }}",
    "very-long-" * 60,
    "שלום עולם \u202eevil مرحبا",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no Chromium on the PATH (looked for {', '.join(NAMES)})")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@dataclass
class Seen:
    """What a page did besides being looked at."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def opened(browser: Browser, path: Path, **options: Any) -> Iterator[tuple[Page, Seen]]:
    """The page, with everything it asks for beyond itself refused and noted."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    seen = Seen()
    own = path.as_uri()

    def guard(route: Any) -> None:
        if route.request.url == own:
            route.continue_()
        else:
            seen.requests.append(route.request.url)
            route.abort()

    page = context.new_page()
    page.route("**/*", guard)
    page.on(
        "console", lambda message: seen.errors.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.goto(own)
    yield page, seen
    context.close()


@pytest.fixture(scope="module")
def cells(sweep: Callable[..., list[RunRecord]], partition: dict[str, Any], attack: dict[str, Any]) -> list[RunRecord]:
    return sweep(
        ("fedavg", "autoflip", "autoflip_plus"),
        (partition["iid"], partition["two_classes"]),
        [attack["clean"](), attack["noise"](0.1), attack["noise"](0.5)],
        3,
        rounds=12,
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, made: tuple[str, list[Picture]]) -> Path:
    path = tmp_path_factory.mktemp("browser") / "report.html"
    path.write_text(made[0], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory,
    record: Callable[..., RunRecord],
    partition: dict[str, Any],
    attack: dict[str, Any],
) -> Path:
    """Every name, note, version, axis and setting is hostile: all at once, and in full also each alone."""
    texts = ["\n".join(HOSTILE), *HOSTILE][: sized(1, 5)]
    runs = [
        record(
            name,
            place,
            malicious,
            seed,
            rounds=3,
            label="fedavg" if name == "fedavg" else text,
            axes={text: text},
            extra=text,
        ).model_copy(update={"events": [text], "versions": {text: text}})
        for text in texts
        for name in ("fedavg", "autoflip")
        for place in ({"kind": "by_group", "note": HOSTILE[0]},)
        for malicious in (attack["clean"](), attack["noise"](0.5) | {"note": text})
        for seed in range(2)
    ]
    text = " ".join(HOSTILE)
    missing = [{"cell": text, "algorithm": text, "seed": None, "axes": {text: text}, "config": None}]
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    return write_report(runs, {"name": text, "question": text}, path, missing=missing, notes=[text], command=text)


def test_nothing_is_complained_about_and_nothing_is_fetched(browser: Browser, report: Path):
    with opened(browser, report) as (page, seen):
        sizes = page.eval_on_selector_all(
            "figure",
            """figures => figures.map(figure => {
                const box = figure.querySelector(".plot svg, .plot img, table").getBoundingClientRect();
                return [figure.id, Math.min(box.width, box.height)];
            })""",
        )
        for toggle in page.query_selector_all("summary"):
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


def test_tables_sort_by_click_and_by_key(browser: Browser, report: Path):
    with opened(browser, report) as (page, _):
        table = "table.statistics"
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
            page.locator("table.statistics thead button").nth(3).click()  # sorting the page changes no file
            page.eval_on_selector_all("details.data", "all => all.forEach(d => d.open = true)")
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


def test_keyboard_alone_reaches_the_content(browser: Browser, report: Path):
    with opened(browser, report) as (page, _):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        summary = page.locator("#convergence summary")
        summary.focus()
        page.keyboard.press("Enter")
        assert page.locator("#convergence details").evaluate("d => d.open")
        links = page.eval_on_selector_all(".contents a", "all => all.map(a => a.hash)")
        assert all(page.locator(link).count() == 1 for link in links)


def shot(page: Page, selector: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("L"), dtype=float)


@pytest.mark.slow
def test_dark_pages_are_dark_and_figures_stay_legible(browser: Browser, report: Path):
    ink = {}
    for scheme in ("light", "dark"):
        with opened(browser, report, color_scheme=scheme) as (page, _):
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


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.slow), "dark"])
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
        found = page.eval_on_selector_all(
            "h1, p, figcaption, td, thead th, summary, .chip, .quiet, .note, a, button", script
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
        page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        hidden = page.eval_on_selector_all(
            "h1, h2, h3, figcaption, .answer p",
            f"els => els.filter(el => el.getBoundingClientRect().right > {width} + 1).map(el => el.textContent)",
        )
    assert hidden == []


@pytest.mark.slow
def test_print_shows_the_record_and_hides_the_controls(browser: Browser, report: Path):
    with opened(browser, report, color_scheme="dark") as (page, _):
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        visible = "els => els.some(el => el.checkVisibility())"
        assert not page.eval_on_selector_all(".contents, button.csv, details.data", visible)
        assert page.eval_on_selector_all("#reproducibility pre", "els => els.every(el => el.checkVisibility())")
        assert page.eval_on_selector("body", "el => getComputedStyle(el).backgroundColor") == "rgb(255, 255, 255)"
        plots = page.eval_on_selector_all(
            ".plot svg, .plot img", "els => els.map(el => el.getBoundingClientRect().width)"
        )
        assert min(plots) > 100
        assert page.pdf()[:5] == b"%PDF-"


def test_hostile_strings_stay_text(browser: Browser, hostile: Path):
    with opened(browser, hostile) as (page, seen):
        page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
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


def test_two_sweeps_side_by_side(browser: Browser, cells: list[RunRecord], tmp_path: Path):
    moved = [shifted(r, -0.03 - 0.001 * r.seed) for r in cells]
    sides = Side("A", HOSTILE[1], "runs/a", cells), Side("B", HOSTILE[0], "runs/b", moved[3:])
    path = write_comparison(*sides, tmp_path / "comparison.html")
    with opened(browser, path, viewport={"width": 390, "height": 844}) as (page, seen):
        assert page.locator("h1").inner_text() == "A against B: accuracy better in 17 of 17 comparisons"
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        assert page.locator("main b").count() == 0
        assert "seeds 0, 1, 2" in page.locator("#only").inner_text()
        with page.expect_download() as download:
            page.locator("#comparison-table button.csv").click()
        rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8-sig"))))
    assert (seen.errors, seen.requests) == ([], [])
    assert [float(r["change (points)"]) for r in rows] == pytest.approx([3.1] * 17)
