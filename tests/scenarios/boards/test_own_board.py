"""The leaderboard of this project in the documentation is what its entries say, and they are of the board."""

from pathlib import Path

import pytest

from autoflip_secure.reports.leaderboard.markdown import LAST, first_mark, markdown
from autoflip_secure.reports.leaderboard.ranking import leaderboard
from autoflip_secure.scenarios.boards.boards import read_board
from autoflip_secure.scenarios.boards.checking import checked_entry, one_each

DOCS = Path(__file__).parents[3] / "docs"
NAME = "board-digits-1"


@pytest.mark.slow
def test_the_page_has_what_the_entries_say() -> None:
    board = read_board(NAME)
    files = sorted((DOCS / "board" / NAME).glob("*.json"))
    entries = one_each([(path.name, checked_entry(path, board)[1]) for path in files])
    made = leaderboard(board.terms, board.question, entries)
    page = (DOCS / "leaderboard.md").read_text(encoding="utf-8")
    shown = page.partition(first_mark(NAME))[2].partition(LAST)[0].strip()
    assert shown == markdown(made)
    assert {one.name.split(" · ")[0] for one in made.overall.standings} >= {"FedAvg", "norm clip", "AutoFLIP held"}
