"""The page of a board in a real Chromium: filters hide rows, and without a script everything is there."""

from pathlib import Path

import pytest
from invented_board import TERMS, entry
from opened_pages import opened
from playwright.sync_api import Browser, Page

from autoflip_secure.reports.leaderboard.page import write_leaderboard
from autoflip_secure.reports.leaderboard.ranking import leaderboard

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MEANS = [{None: 0.9, "ipm": 0.8, "mimic": 0.85}, {None: 0.8, "ipm": 0.7, "mimic": 0.6}]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clean = {"needs": "a weighted sum of the updates", "clean data": "the server owns clean samples"}
    entries = [entry("plain", MEANS), entry("rooted", MEANS, needs=clean), entry("pruned", MEANS)]
    path = tmp_path_factory.mktemp("board") / "board.html"
    return write_leaderboard(leaderboard(TERMS, "which?", entries), path)


def shown(page: Page) -> list[list[str]]:
    """Names in each table that is shown."""
    script = """views => views.filter(view => !view.hidden).map(
        view => [...view.querySelectorAll("table.board tbody tr")]
        .filter(row => row.offsetParent !== null).map(row => row.cells[1].textContent.trim()))"""
    found: list[list[str]] = page.eval_on_selector_all(".view", script)
    return [sorted(names) for names in found]


def test_filters_hide_rows(browser: Browser, board: Path) -> None:
    with opened(browser, board) as (page, seen):
        assert shown(page) == [["plain", "pruned", "rooted"]] * 3
        page.fill("#filter-text", "PL")
        assert shown(page) == [["plain"]] * 3
        assert page.text_content("#filter-count") == "3 of 9 rows"
        page.fill("#filter-text", "")
        page.select_option("#filter-sees", "every update")
        assert shown(page) == [["plain", "pruned"]] * 3
        page.select_option("#filter-sees", "")
        page.check("#filter-clean")
        page.select_option("#filter-view", label="IID")
        assert shown(page) == [["plain", "pruned"]]
        assert (seen.errors, seen.requests) == ([], [])


def test_without_a_script_everything_is_there(browser: Browser, board: Path) -> None:
    with opened(browser, board, java_script_enabled=False) as (page, _):
        assert page.is_hidden("#filters")
        assert len(page.query_selector_all(".view table.board tbody tr")) == 9
        assert all(row.is_visible() for row in page.query_selector_all(".view table.board tbody tr"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_the_page_sideways(browser: Browser, board: Path, scheme: str) -> None:
    with opened(browser, board, viewport={"width": 390, "height": 800}, color_scheme=scheme) as (page, _):
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.screenshot(path=str(board.with_name(f"{scheme}.png")), full_page=True)
