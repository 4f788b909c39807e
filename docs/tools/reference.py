"""Reference pages from the code: ``make catalogue`` writes docs/reference/ anew, and a test fails until it does.

What is here only lays out; every word of it stands in a class, a command or a docstring.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))  # of this repository, whatever else is installed

import command_pages
import component_pages
import key_page
import python_pages

PLACE = Path(__file__).resolve().parents[1] / "reference"
MARK = "<!-- from the code: make catalogue -->"
PAGES: dict[str, Callable[[], str]] = {
    "scenario.md": key_page.scenario,
    **component_pages.PAGES,
    "commands.md": command_pages.commands,
    "python.md": python_pages.running,
    "interfaces.md": python_pages.interfaces,
}


def text(name: str) -> str:
    """A page as it should be: its title first, then that it is not written by hand."""
    title, _, rest = PAGES[name]().partition("\n")
    return f"{title}\n\n{MARK}\n{rest.rstrip()}\n"


def stale() -> list[Path]:
    """Pages that are not as they should be, and generated ones that have no source any more."""
    made = [path for path in PLACE.glob("*.md") if path.name not in PAGES and MARK in path.read_text(encoding="utf-8")]
    old = [PLACE / name for name in PAGES if not _is(PLACE / name, text(name))]
    return [*old, *made]


def _is(path: Path, wanted: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == wanted


if __name__ == "__main__":
    for path in stale():
        if path.name in PAGES:
            path.write_text(text(path.name), encoding="utf-8")
        else:
            path.unlink()
        print(path)
