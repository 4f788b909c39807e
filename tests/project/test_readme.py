"""The README is a page for somebody who is new: it begins with how to start, and is quick to read."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = TEXT.splitlines()
BEGINS = (
    "all clients are simulated", "](docs/report.png)", "make demo  ", "pip install .",
    "uv pip install --torch-backend=cpu .", "On disk", "3.11, 3.12, 3.13, 3.14", "Linux is tested", "macOS or Windows",
)  # fmt: skip


def test_line_three_says_what_it_is_for_and_that_clients_are_simulated() -> None:
    assert LINES[2].startswith("**How far can you trust federated pruning when some clients are malicious?")
    assert LINES[2].endswith("all clients are simulated.**")


def test_it_begins_with_a_picture_and_how_to_start_in_this_order() -> None:
    places = [TEXT.index(words) for words in BEGINS]
    assert all(first < second for first, second in pairwise(places)), dict(zip(BEGINS, places, strict=True))
    assert TEXT[: places[-1]].count("\n") < 60, "on the first two screens"


def test_no_line_is_long() -> None:
    prose, table = ([line for line in LINES if line.startswith("|") is tables] for tables in (False, True))
    assert [line for line in prose if len(line) > 180] == []
    assert [line for line in table if len(line) > 200] == []


@pytest.mark.parametrize("page", ["README.md", "docs/install.md", "docs/findings.md"])
def test_what_it_links_to_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 5
    for link in links:
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}, link


def test_sizes_and_pythons_are_those_of_the_page_about_installing() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    on_disk = next(line for line in LINES if line.startswith("| On disk"))
    sizes = dict(re.findall(r"^\| `(.*?)` \|.*?\| ([\d.]+ GB) \|$", page, re.MULTILINE))
    for command in ("pip install .", "uv pip install --torch-backend=cpu .", "make test"):
        assert sizes[command] in on_disk
    promised = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert ", ".join(promised) in TEXT
    assert ", ".join(promised[:-1]) + f" and {promised[-1]}" in page


def test_every_extra_is_explained() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8").partition("## Extras")[2]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)) == set(extras)


def test_numbers_that_differ_between_machines_say_so_and_by_how_much() -> None:
    table = TEXT.partition("## What the demo shows")[2].partition("\n## ")[0]
    assert "moves by up to 4 points" in " ".join(table.split())
    findings = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    shared = [re.split(r"\s*\|\s*", line)[2:6] for line in table.splitlines() if re.match(r"\| (IID|2 classes)", line)]
    assert len(shared) == 6
    for _, *numbers in shared:
        assert " | ".join(numbers) in findings
