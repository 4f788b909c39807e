"""The tables of ``docs/defenses.md``, from the classes; ``make catalogue`` writes them, and a test fails until it does.

What stands between the two marks of a page is written anew, everything else is by hand.
"""

from __future__ import annotations

from pathlib import Path

from autoflip_secure.files.durable import write_whole
from autoflip_secure.files.regular_files import read_regular
from autoflip_secure.interfaces import Plugin
from autoflip_secure.scenarios.catalogue.capabilities import capabilities
from autoflip_secure.scenarios.config.tables import AGGREGATORS, PRE_AGGREGATORS
from autoflip_secure.terminal.docstrings import docstring

PAGE = Path(__file__).resolve().parents[2] / "docs" / "defenses.md"
FIRST, LAST = "<!-- from the classes: make catalogue -->", "<!-- end of what is from the classes -->"


def tables() -> str:
    """Markdown: every rule with its equation and source, then what each needs."""
    return "\n".join(
        [
            "### Aggregators: rows -> a step",
            "",
            *_rules(AGGREGATORS),
            "",
            "### Pre-aggregators: rows -> rows",
            "",
            *_rules(PRE_AGGREGATORS),
            "",
            "### What they need",
            "",
            *_needs({**AGGREGATORS, **PRE_AGGREGATORS}),
        ]
    )


def page() -> str:
    """The page as it should be.

    Raises:
        ValueError: a mark is missing.
    """
    before, _, rest = read_regular(PAGE).decode("utf-8").partition(FIRST)
    if LAST not in rest:
        raise ValueError(f"{PAGE.name}: the marks {FIRST} and {LAST} are missing")
    return f"{before}{FIRST}\n\n{tables()}\n\n{LAST}{rest.partition(LAST)[2]}"


def _rules(classes: dict[str, type[Plugin]]) -> list[str]:
    lines = ["| kind | what it does | equation | source |", "|---|---|---|---|"]
    for kind, cls in classes.items():
        source, _, equation = cls.source.partition(": ")
        summary = docstring(cls).partition("\n")[0]
        rule = f"`{equation}`" if equation else ""
        lines.append(f"| `{kind}` | {_cell(summary)} | {_cell(rule)} | {_cell(source)} |")
    return lines


def _needs(classes: dict[str, type[Plugin]]) -> list[str]:
    found = {kind: capabilities(cls) for kind, cls in classes.items()}
    columns = list(dict.fromkeys(heading for one in found.values() for heading in one))
    lines = [f"| kind | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    return lines + [
        f"| `{kind}` | {' | '.join(_cell(one.get(column, '')) for column in columns)} |" for kind, one in found.items()
    ]


def _cell(text: str) -> str:
    """Text that a bar does not end."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write_whole(PAGE, page())
    print(PAGE)
