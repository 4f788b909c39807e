"""A reader follows each page in an empty folder, from top to bottom; what works there is what the page says."""

import doctest
from pathlib import Path

import documented
import followed
import pytest
from followed import Reader


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", documented.pages())
def test_a_page_works(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    Reader(page, tmp_path).follow()


def page_of(text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A page of this text, among the others."""
    known = documented.text_of
    monkeypatch.setattr(documented, "text_of", lambda name: text if name == "docs/tutorials/it.md" else known(name))
    return "docs/tutorials/it.md"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```\nautoflip-secure list no_such_family\n```\n", "exits 2"),
        ("```\nautoflip-secure list attacks ipm\n```\n```text\nsomething else\n```\n", "nobody wrote"),
        ("First `make clean`.\n", "not run by tests"),
        ("Try `autoflip-secure list no_such_family`.\n", "exits 2"),
        ("```python\nassert 1 == 2\n```\n", "^$"),
        ("```\nautoflip-secure sweep no_such.yaml --set rounds=many\n```\n", "exits 2"),
    ],
)
def test_a_page_that_does_not_work_is_noticed(
    text: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError, match=complaint):
        Reader(page_of(text, monkeypatch), tmp_path).follow()


def test_what_a_page_shows_is_compared_but_for_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of(
        "```\nautoflip-secure list attacks ipm\n```\n```text\n…\n  epsilon: 7  (number, 0 to 9)\n```\n", monkeypatch
    )
    Reader(page, tmp_path).follow()


@pytest.mark.parametrize("module", [documented, followed])
def test_examples_of_the_helpers(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
