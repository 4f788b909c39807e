"""Files and folders that the documentation names are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOPS = ("autoflip_secure", "attacks", "defenses", "scenarios", "reports", "tests", "benchmarks", "docs", ".ci")
SEARCHED = [ROOT, *(ROOT / top for top in TOPS)]
INVENTED = {"attacks/poisoning/sign_flip.py"}  # what readers are shown how to write


def named(text: str) -> set[str]:
    """Python files in code spans, and folders with a slash at the end whose first part is one of ours."""
    spans = re.findall(r"`([^`\n]+)`", text)
    files = {span.partition("::")[0] for span in spans if re.fullmatch(r"[\w./]+\.py(::\w+)?", span)}
    return files | {span for span in spans if re.fullmatch(rf"({'|'.join(TOPS)})/[\w/]*", span)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    paths = named(page.read_text(encoding="utf-8")) - INVENTED
    lost = {path for path in paths if "/" in path and not any((folder / path).exists() for folder in SEARCHED)}
    assert not lost


def test_the_search_finds_what_it_looks_for() -> None:
    found = named("`a/b.py`, `tests/x/test_y.py::test_z` and `reports/figures/`, not `x = 1` or `a.b`")
    assert found == {"a/b.py", "tests/x/test_y.py", "reports/figures/"}
