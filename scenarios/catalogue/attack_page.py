"""The table of ``docs/attacks.md``, from the classes; ``make catalogue`` writes it between the marks of the file."""

from __future__ import annotations

from pathlib import Path

from autoflip_secure.files.durable import write_whole
from autoflip_secure.files.regular_files import read_regular
from autoflip_secure.interfaces import Attack
from autoflip_secure.scenarios.config.tables import ATTACKS
from autoflip_secure.terminal.docstrings import docstring

BEGIN = "<!-- written from the classes: make catalogue -->"
END = "<!-- end of what is written from the classes -->"
_GOALS = {
    "untargeted": "accuracy", "targeted": "one class", "backdoor": "inputs with a trigger",
    "denial": "pruning and scores",
}  # fmt: skip


def attack_table() -> str:
    """A row for every attack: what it does, the equation, the source, and the threat card."""
    head = ["kind", "what malicious clients do", "what is sent", "knows", "changes", "against", "memory", "source"]
    lines = [head, ["---"] * len(head)]
    for kind, cls in ATTACKS.items():
        if not issubclass(cls, Attack):
            continue
        threat = cls.threat
        lines.append(
            [
                f"`{kind}`",
                docstring(cls).partition("\n")[0],
                f"`{cls.equation}`",
                threat.knowledge,
                ", ".join(threat.means),
                _GOALS[threat.goal],
                "yes" if threat.memory else "no",
                cls.source,
            ]
        )
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def with_table(page: str) -> str:
    """``page`` with the table as it is now between its marks.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{attack_table()}\n\n{END}{after}"


def renew(path: Path) -> None:
    """Write the table into the page, where there is one: an installed package has no ``docs``."""
    if path.is_file():
        write_whole(path, with_table(read_regular(path).decode("utf-8")))
