"""What the page and the Markdown tables show, and that nothing of an entry becomes markup."""

from pathlib import Path

import pytest
from invented_board import TERMS, entry

from autoflip_secure.errors import InputError
from autoflip_secure.records.board import BoardEntry
from autoflip_secure.reports.leaderboard.markdown import LAST, first_mark, markdown, write_markdown
from autoflip_secure.reports.leaderboard.page import render
from autoflip_secure.reports.leaderboard.ranking import leaderboard
from autoflip_secure.reports.leaderboard.wording import NO_GUARANTEE, card, epsilon

MEANS = [{None: 0.9, "ipm": 0.8, "mimic": 0.85}, {None: 0.8, "ipm": 0.7, "mimic": 0.6}]
PLAIN = entry("plain", MEANS)
PROVEN = {"observer": "server", "relation": "zero out one client", "epsilon": 3.001, "delta": 1e-5}
PRIVATE = entry("private", MEANS, privacy=[PROVEN])
EVIL = "<script>alert(1)</script>|[x](http://e.vil) @you"


def rendered(*entries: BoardEntry) -> str:
    return render(leaderboard(TERMS, "which?", entries))


def test_epsilon_has_its_observer_and_is_rounded_up() -> None:
    assert epsilon(PRIVATE) == "ε ≤ 3.01 against the server (zero out one client, δ = 1e-05)"
    assert epsilon(PLAIN) == NO_GUARANTEE
    assert "No defence here proves privacy" in rendered(PLAIN)
    assert "No defence here proves privacy" not in rendered(PLAIN, PRIVATE)


def test_the_threat_card_of_the_worst_attack() -> None:
    told = "knows every update of the round; changes updates; untargeted; stateless"
    assert card(PLAIN.attacks[0].threat) == told
    assert told in rendered(PLAIN)


def test_all_rows_are_there_without_a_script() -> None:
    """Filters alone need it, and are hidden until it runs."""
    page = rendered(PLAIN, PRIVATE)
    before = page.partition("<script>")[0]
    assert before.count('<tr data-name="plain"') == 3
    assert '<form id="filters" class="filters" aria-label="Filters" hidden>' in page
    assert "<tr hidden" not in page


def test_nothing_becomes_markup() -> None:
    evil = entry(
        EVIL, MEANS, needs={"needs": EVIL, "memory": EVIL}, versions={EVIL: EVIL}, outside=[EVIL], sources={EVIL: EVIL}
    )
    page = rendered(evil, PLAIN)
    assert "<script>alert" not in page
    text = markdown(leaderboard(TERMS, "which?", [evil, PLAIN]))
    assert "<script>" not in text
    rows = [line for line in text.splitlines() if "alert" in line and line.startswith("|")]
    assert rows
    assert "[x](" not in text


def test_markdown_goes_between_its_marks_alone(tmp_path: Path) -> None:
    board, page = leaderboard(TERMS, "which?", [PLAIN]), tmp_path / "page.md"
    page.write_text(f"# Before\n\n{first_mark(TERMS.name)}\nold\n{LAST}\n\nafter\n", encoding="utf-8")
    write_markdown(board, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| plain |" in text
    write_markdown(board, page)
    assert page.read_text(encoding="utf-8") == text


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("mine\n", encoding="utf-8")
    with pytest.raises(InputError, match="without the lines"):
        write_markdown(leaderboard(TERMS, "which?", [PLAIN]), page)
    assert page.read_text(encoding="utf-8") == "mine\n"


def test_another_board_of_the_page_stays(tmp_path: Path) -> None:
    """Where the end of the first is gone, that of the second is none of it."""
    page = tmp_path / "page.md"
    text = f"{first_mark(TERMS.name)}\nold\n\n{first_mark('board-other-1')}\nkept\n{LAST}\n"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="without the lines"):
        write_markdown(leaderboard(TERMS, "which?", [PLAIN]), page)
    assert page.read_text(encoding="utf-8") == text
