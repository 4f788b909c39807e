"""Where docs say what secure sums hide, they say in the same place that all of it is simulated."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOO_STRONG = re.compile(r"sums that nobody sees into|nobody sees (a|any) client|the server (learns|sees|knows) nothing")


def section(path: str, heading: str) -> str:
    """From a heading to the next one."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.split(r"^#+ ", text.partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize(
    ("path", "heading"),
    [
        ("README.md", "## Privacy, and secure sums"),
        ("docs/secure_sums.md", "# Secure sums"),
        ("docs/threat_model.md", "## Secure sums: who sees what"),
    ],
)
def test_the_simulation_is_named_where_the_claim_stands(path: str, heading: str) -> None:
    found = " ".join(section(path, heading).split())
    assert "one process plays the server and every client" in found.lower()
    assert re.search(r"a deployment would (need|have to add)", found, re.IGNORECASE)


@pytest.mark.parametrize(
    "path", ["README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").glob("*.md")))]
)
def test_no_page_claims_what_a_simulator_cannot(path: str) -> None:
    assert TOO_STRONG.search((ROOT / path).read_text(encoding="utf-8")) is None
