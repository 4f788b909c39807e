"""The documentation as a site: every page has its place, and nothing of it comes from elsewhere while it is read."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which
from typing import Any

import documented
import pytest
import yaml
from documented import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WITH_SITE = pytest.mark.skipif(
    importlib.util.find_spec("material") is None, reason="the extra `docs` is not installed: make docs"
)


class _Loader(yaml.SafeLoader):
    """Reads tags of mkdocs as nothing."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
CONFIG: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=_Loader)


def leaves(nav: Any) -> list[str]:
    """The pages of a navigation, in order."""
    if isinstance(nav, str):
        return [nav]
    values = nav if isinstance(nav, list) else nav.values()
    return [page for one in values for page in leaves(one)]


def test_every_page_has_one_place_in_the_navigation() -> None:
    pages = [page.removeprefix("docs/") for page in documented.pages() if page.startswith("docs/")]
    placed = leaves(CONFIG["nav"])
    assert sorted(placed) == sorted(set(placed)), "a page has two places"
    assert set(pages) - set(placed) == set(), "pages without a place: give them one under `nav` in mkdocs.yml"
    assert set(placed) - set(pages) == set(), "places without a page"


def test_there_are_four_groups() -> None:
    groups = [name for one in CONFIG["nav"] for name, inner in one.items() if isinstance(inner, list)]
    assert groups == ["Tutorials", "How-to", "Reference", "Explanation"]


def test_every_page_can_be_reached_from_the_first() -> None:
    """By links alone, as on GitHub, where there is no navigation; generated pages by those of their family."""
    found, new = {"docs/index.md"}, ["docs/index.md"]
    while new:
        page = new.pop()
        for _, target in documented.links(page):
            if "://" not in target and (path := target.partition("#")[0]).endswith(".md"):
                name = ((ROOT / page).parent / path).resolve().relative_to(ROOT).as_posix()
                if name not in found:
                    found.add(name)
                    new.append(name)
    assert set(documented.pages()) - found == set(), "link to them from a page that is about the same"


def test_no_page_needs_a_program_from_elsewhere() -> None:
    """A browser would fetch what draws Mermaid and formulas; pictures are files."""
    languages = {block.language for page in documented.pages() for block in documented.blocks(page)}
    assert not languages & {"mermaid", "math"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    place = tmp_path_factory.mktemp("site") / "built"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


class _Fetched(HTMLParser):
    """Addresses that a browser asks for when it shows a page, links that a reader clicks on left out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        known = {"script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data", "embed": "src"}
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.found.append(given.get("href") or "")
        elif tag in known:
            self.found.append(given.get(known[tag]) or "")


@WITH_SITE
@pytest.mark.slow
def test_nothing_in_the_site_is_fetched_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= len(leaves(CONFIG["nav"]))
    for page in pages:
        parser = _Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.found
        assert not [address for address in parser.found if re.match(r"(\w+:)?//", address)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """The site behind a server of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@WITH_SITE
@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("by_server", [False, True], ids=["folder", "server"])
def test_it_is_read_and_searched_without_network(site: Path, served: str, by_server: bool) -> None:
    """In a real browser: no request leaves, no error is logged, and a search leads to a page."""
    from playwright.sync_api import TimeoutError as Late
    from playwright.sync_api import sync_playwright

    program = next((found for name in BROWSERS if (found := which(name))), None)
    if program is None:
        pytest.skip("no Chromium on the PATH")
    start = served if by_server else site.as_uri()
    left: list[str] = []
    errors: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=ARGUMENTS)
        page = browser.new_page()

        def guard(route: Any) -> None:
            if route.request.url.startswith(start):
                route.continue_()
            else:
                left.append(route.request.url)
                route.abort()

        page.route("**/*", guard)
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name in ("index", "architecture", "reference/attacks", "tutorials/first_sweep"):
            page.goto(f"{start}/{name}.html", wait_until="load")
            assert page.locator("h1").count() == 1, name
        page.goto(f"{start}/index.html", wait_until="load")
        hits = page.locator("a.md-search-result__link")
        for _ in range(12):  # what is typed before the index is read is not looked for
            page.locator("input.md-search__input").fill("")
            page.locator("input.md-search__input").press_sequentially("coverage mean")
            with contextlib.suppress(Late):
                hits.first.wait_for(timeout=5_000)
                break
        found = hits.evaluate_all("all => all.map(a => a.href)")
        assert any("glossary" in address for address in found), found
        page.goto(f"{start}/gate.html#what-it-promises", wait_until="load")
        assert page.locator("#what-it-promises").is_visible()
        browser.close()
    assert not left
    assert not errors
