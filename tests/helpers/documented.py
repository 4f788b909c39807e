"""What the documentation tells readers to type, read from its pages: blocks, commands, links and headings.

Pages are named by their path from the top of the repository. A block is fenced; one whose first line is a comment with
a file name (``# my_attacks.py``) is that file. Commands are lines of shell blocks and whole code spans that begin with
``autoflip-secure`` or ``make``.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHELLS = ("", "sh", "bash", "shell", "console")
PROGRAMS = ("autoflip-secure", "make")
NOT_RUN = "docs/reference/not_run.md"  # the table of what no test runs, whose commands have blanks of its own
_FENCE = re.compile(r"^(?P<margin> *)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=margin)```$", re.M | re.S)
_FILE = re.compile(r"^# ([\w./-]+\.(?:py|yaml|yml|csv|toml))\b")
_ENDS = re.compile(r"\s(?:&&|\|\||;|\|)\s")
_BLANK = re.compile(r"…|<\w+>|\b[A-Z]{2,}\b|SCENARIO")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``file`` is the name that its first line gives it, if it does."""

    page: str
    line: int
    language: str
    text: str
    file: str = ""

    @property
    def first(self) -> str:
        """What it is called in a table: its first line that is not empty."""
        return next((line.strip() for line in self.text.splitlines() if line.strip()), "")


@dataclass(frozen=True)
class Command:
    """``program arguments > into``, as it stands on a page."""

    page: str
    line: int
    words: tuple[str, ...]
    into: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    inline: bool = False  # a code span in a sentence

    @property
    def text(self) -> str:
        """As a shell would be given it."""
        return shlex.join(self.words)

    @property
    def is_form(self) -> bool:
        """It has a blank to fill in: ``DIR``, ``<name>``, ``…``."""
        return any(_BLANK.search(word) for word in self.words)


def pages() -> list[str]:
    """README, CONTRIBUTING and everything under docs."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in found]


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> tuple[Block, ...]:
    """Every fenced block, in order, without its margin."""
    return _blocks(page, text_of(page))


@cache
def _blocks(page: str, text: str) -> tuple[Block, ...]:
    found = []
    for match in _FENCE.finditer(text):
        margin = len(match["margin"])
        body = "".join(line[margin:] if line.strip() else "\n" for line in match["text"].splitlines(keepends=True))
        named = _FILE.match(body)
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(page, line, match["language"], body, named[1] if named else ""))
    return tuple(found)


def prose(page: str) -> str:
    """The page with its blocks emptied, lines where they were."""
    return _prose(text_of(page))


@cache
def _prose(text: str) -> str:
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)


def commands(page: str) -> list[Command]:
    """Every command of ours on a page, in order."""
    if page == NOT_RUN:
        return []
    found = [
        Command(page, block.line + number, *call)
        for block in blocks(page)
        if block.language in SHELLS
        for number, line in _lines(block.text)
        for call in calls(line)
    ]
    text = prose(page)
    for span in re.finditer(rf"(?<!`)`((?:{'|'.join(PROGRAMS)}) [^`]+)`(?!`)", text):
        line = text.count("\n", 0, span.start()) + 1
        found += [Command(page, line, *call, inline=True) for call in calls(" ".join(span[1].split()))]
    return sorted(found, key=lambda one: one.line)


def calls(line: str) -> Iterator[tuple[tuple[str, ...], str, tuple[tuple[str, str], ...]]]:
    """(words, file that standard output goes to, variables) of each command of ours in a line of shell."""
    for part in _ENDS.split(line):
        words = shlex.split(part, comments=True)
        variables = []
        while words and re.fullmatch(r"\w+=.*", words[0]):
            name, _, value = words.pop(0).partition("=")
            variables.append((name, value))
        if words and words[0] in PROGRAMS:
            into = words[words.index(">") + 1] if ">" in words[:-1] else ""
            yield tuple(words[: words.index(">")] if into else words), into, tuple(variables)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line of shell, continued ones as one; what stands three blanks away explains it."""
    held, start = "", 0
    for number, line in enumerate(text.splitlines()):
        start, held = (start, f"{held}\n{line}") if held else (number, line)
        if held.endswith("\\"):
            held = held[:-1]
            continue
        told = re.split(r"\s{3,}(?!.*['\"])", held)[0] if "\n" not in held else held
        try:
            shlex.split(told, comments=True)
        except ValueError:  # a quotation goes on in the next line
            continue
        yield start, " ".join(told.split("\n"))
        held = ""


@cache
def check_call(words: tuple[str, ...]) -> None:
    """Raises AssertionError when the command, an option or an argument does not exist or is missing."""
    if words[0] == "make":
        makefile = text_of("Makefile")
        targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
        variables = set(re.findall(r"^([A-Z_]+)\s*\??:?=", makefile, re.MULTILINE))
        for word in words[3:] if words[1:2] == ("-C",) else words[1:]:
            assert word.split("=")[0] in (variables if "=" in word else targets), f"make has no {word}"
        return
    group = _tree()
    if len(words) == 1 or words[1].startswith("--"):
        assert set(words[1:2]) <= {option for parameter in group.params for option in parameter.opts}, words
        return
    two = " ".join(words[1:3])
    name, rest = (two, words[3:]) if two in group.commands else (words[1], words[2:])
    assert name in group.commands, f"there is no command {name}"
    try:
        group.commands[name].make_context(name, list(rest))
    except Exception as error:
        raise AssertionError(f"{shlex.join(words)}: {error}") from error


@cache
def _tree() -> Any:
    import typer

    from autoflip_secure.cli import app

    return typer.main.get_command(app)


def slug(heading: str) -> str:
    """The anchor that GitHub and the site give a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    kept = "".join(c for c in text.lower() if c in " -_" or unicodedata.category(c)[0] in "LN")
    return kept.strip("\n").replace(" ", "-")


def anchors(page: str) -> set[str]:
    """Of every heading; the second of one name ends in -1."""
    return _anchors(text_of(page))


@cache
def _anchors(text: str) -> set[str]:
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+?)\s*#*$", _prose(text), re.MULTILINE):
        one, number = slug(heading), 0
        while (name := f"{one}-{number}" if number else one) in found:
            number += 1
        found.add(name)
    return found | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))


def links(page: str) -> list[tuple[int, str]]:
    """(line, target) of every link and picture."""
    text = prose(page)
    found = re.finditer(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", text)
    return [(text.count("\n", 0, match.start()) + 1, match[1]) for match in found]
