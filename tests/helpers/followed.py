"""A reader who follows a page of the documentation in an empty folder: files, commands and Python in order.

What pages leave out so that they can be read comes from tables (:mod:`page_tables`), and so does what makes a long
command short. Tutorials are short, and are followed as they stand. A results folder or a scenario that a command names
and that is not there is made, small.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from shutil import copytree
from types import ModuleType
from typing import Any

import documented
import forked
import yaml
from documented import NOT_RUN, SHELLS, Block, Command
from page_tables import (
    EXITS,
    INPUTS,
    PRELUDES,
    PREPARED,
    PRIVATE,
    REPLACED,
    SMALL,
    excepted,
    shortening,
)

from autoflip_secure.scenarios.config.sources import presets


@dataclass
class Reader:
    """Follows ``page`` in ``folder``; :meth:`follow` raises AssertionError at what does not work as it says."""

    page: str
    folder: Path
    program: Callable[..., Any] = forked.run  # (*arguments, cwd=…, env=…) -> a completed process
    names: dict[str, Any] = field(default_factory=dict)
    said: str = ""  # what the last command wrote
    refused: tuple[int, ...] = ()  # lines below which the page shows that a command is refused

    @property
    def short(self) -> bool:
        """Long commands are made short."""
        return not self.page.startswith("docs/tutorials/")

    def follow(self) -> None:
        """The page from top to bottom."""
        told = [command for command in documented.commands(self.page) if not command.is_form]
        shown = [block for block in documented.blocks(self.page) if block.language == "text"]
        self.refused = tuple(block.line for block in shown if block.first.startswith("error: "))
        typed, wrote = set(), False
        self.put_files()
        for item in sorted(
            [*documented.blocks(self.page), *told], key=lambda one: (one.line, isinstance(one, Command))
        ):
            if isinstance(item, Command):
                if item.inline and (item.words in typed or not complete(item)):
                    continue
                typed.add(item.words)
                if not excepted(self.page, item.text):
                    self.type(item)
            elif item.language in SHELLS or excepted(self.page, item.first):
                wrote = item.language in SHELLS
            else:
                if item.language == "text" and wrote:
                    self.compare(item)
                else:
                    self.read(item)
                wrote = item.language == "python" and not item.file

    def put_files(self) -> None:
        """Modules that a page's scenarios name and that stand on it under no name of their own."""
        PREPARED.get(self.page, lambda folder: None)(self.folder)
        for block in documented.blocks(self.page):
            known = (self.folder / block.file).exists()
            if block.file.endswith(".py") and not known and not excepted(self.page, block.first):
                self.read(block)

    def read(self, block: Block) -> None:
        """Write the file that a block is; run Python."""
        name = block.file
        if block.language == "yaml" and not name and re.match(r"name: [\w-]+\n", block.text):
            name = f"{block.text.split()[1]}.yaml"
        if name:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self.execute(block)

    def execute(self, block: Block) -> None:
        text = block.text
        for long, short in REPLACED.get(self.page, {}).items():
            text = text.replace(long, short)
        if not self.names:
            self.names["__name__"] = "followed"
            exec(PRELUDES.get(self.page, ""), self.names)
        code = compile("\n" * (block.line - 1) + text, f"{self.page}", "exec")
        said = io.StringIO()
        with here(self.folder), warnings.catch_warnings(), contextlib.redirect_stdout(said):
            warnings.simplefilter("ignore")
            exec(code, self.names)
        self.said = said.getvalue()

    def type(self, command: Command) -> None:
        """Run it, made short; what it needs is made first."""
        where = f"{self.page}:{command.line}: {command.text}"
        assert command.words[0] != "make", f"{where} is not run by tests: list it in {NOT_RUN}"
        words = self.shortened(command.words)
        self.provide(command.words)
        done = self.program(*words[1:], cwd=self.folder, env={"COLUMNS": "100", **dict(command.variables)})
        self.said = done.stdout + done.stderr
        where = f"{self.page}:{command.line}: {shlex.join(words)}"  # as it was run
        assert done.returncode in self.exits(command), f"{where} exits {done.returncode}\n{self.said}"
        assert "Traceback" not in self.said, f"{where}\n{self.said}"
        if command.into and not command.into.startswith(("/", "~")):
            (self.folder / command.into).write_text(done.stdout, encoding="utf-8")

    def exits(self, command: Command) -> tuple[int, ...]:
        """The exit codes that are as they should be."""
        if not command.inline and any(0 < line - command.line <= 3 for line in self.refused):
            return (2,)
        kind = command.words[1] if self.short and len(command.words) > 1 else ""
        return EXITS.get(f"{self.page}: {command.text}", EXITS.get(kind, (0,)))

    def shortened(self, words: tuple[str, ...]) -> tuple[str, ...]:
        """With the settings that make it short."""
        if len(words) < 2 or not self.short:
            return words
        if words[1] == "demo":
            words = (words[0], "sweep", "demo", *words[2:])
        if words[1] == "gate" and "--update" in words:
            return (*words, "--allow-unlearned")
        if words[1] not in ("sweep", "audit"):
            return words
        small = shortening(words[2])
        keys = {one.partition("=")[0] for one in small}
        settings = [word.partition("=")[0] if flag == "--set" else "" for flag, word in pairwise(words)]
        given = {number for number, key in enumerate(settings) if key in keys}
        kept = (word for n, word in enumerate(words) if n not in given and n - 1 not in given)
        return (*kept, *(part for one in small for part in ("--set", one)))

    def provide(self, words: tuple[str, ...]) -> None:
        """Scenario files and results folders that a command reads and that no command before has made."""
        for word in words[2:]:
            if word.endswith(".yaml") and words[1] in ("sweep", "audit") and not (self.folder / word).exists():
                privacy = PRIVATE if words[1] == "audit" else ""
                (self.folder / word).write_text(SMALL.format(name=Path(word).stem) + privacy, encoding="utf-8")
        for word in words[2:]:
            ours = documented.ROOT / word
            if "/" in word and ours.is_file() and not (self.folder / word).exists():  # as in a clone
                copytree(ours.parent, (self.folder / word).parent, dirs_exist_ok=True)
        if words[1:2] and words[1] in INPUTS:
            for word in words[2:]:
                if word.startswith("runs/") and not (self.folder / word).exists():
                    self.make(word, words[1])
        if words[1:2] == ("gate",) and "--update" not in words and "--baseline" in words:
            file = words[words.index("--baseline") + 1]
            if not (self.folder / file).exists():
                first = ("--baseline", file, "--update", "--reason", "first", "--allow-unlearned")
                assert forked.run("gate", words[2], *first, cwd=self.folder).returncode == 0

    def make(self, results: str, reader: str) -> None:
        """A small sweep in the folder ``results``."""
        name = Path(results).name
        if name in presets():
            source, small = name, [part for one in shortening(name) for part in ("--set", one)]
        else:
            text = SMALL.format(name=name) + (PRIVATE if reader == "budget" else "")
            (self.folder / f"made-{name}.yaml").write_text(text, encoding="utf-8")
            source, small = f"made-{name}.yaml", []
        more = ["--keep-models"] if reader == "export" else []
        done = forked.run("sweep", source, *small, *more, "--out", results, "--no-report", cwd=self.folder)
        assert done.returncode == 0, done.stderr

    def compare(self, block: Block) -> None:
        """Each line that a page shows is one that was written, but for its numbers; … is anything."""
        wrote = [" ".join(line.split()) for line in self.said.splitlines()]
        for number, line in enumerate(block.text.splitlines()):
            shown = " ".join(line.split())
            if shown.strip("… "):
                found = any(pattern(shown).fullmatch(one) for one in wrote)
                assert found, f"{self.page}:{block.line + number}: nobody wrote {shown!r}\n{self.said}"


def pattern(shown: str) -> re.Pattern[str]:
    """What a line that is shown stands for: other numbers, and anything where it has …

    >>> bool(pattern("16 cells: … in 3.1 s").fullmatch("8 cells: 8 run in 12 s"))
    True
    """
    parts = re.split(r"(…|[-+−]?\d[\d.,]*)", shown)
    return re.compile("".join(
        re.escape(part) if number % 2 == 0 else ".*" if part == "…" else r"[-+−]?\d[\d.,]*"
        for number, part in enumerate(parts)
    ))  # fmt: skip


def complete(command: Command) -> bool:
    """Whether a code span has all that its command needs, so that it can be run."""
    try:
        documented.check_call(command.words)
    except AssertionError:
        return False
    return True


@contextlib.contextmanager
def here(folder: Path) -> Iterator[None]:
    """In ``folder``, from which modules are imported and afterwards forgotten."""
    before = set(sys.modules)
    with contextlib.chdir(folder):
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            for name in set(sys.modules) - before:
                if _inside(sys.modules[name], folder):
                    del sys.modules[name]


def _inside(module: ModuleType, folder: Path) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(str(folder))


def is_workflow(block: Block) -> bool:
    """Of GitHub or GitLab, which tests/project/test_workflows.py is about."""
    return bool(re.search(r"^(jobs|  script):", block.text, re.MULTILINE))


def variants(text: str, apart: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """What a block of YAML shows: keys written several times are alternatives, and each is seen with the other keys.

    Args:
        text: of the block.
        apart: keys that go with the first alternative only.

    >>> variants("a: 1\\nb: 2\\na: 3\\n")
    [{'a': 1, 'b': 2}, {'a': 3, 'b': 2}]
    >>> variants("a: 1\\nb: 2\\na: 3\\n", ("b",))
    [{'a': 1, 'b': 2}, {'a': 3}]
    """
    parts: dict[str, list[str]] = {}
    for part in re.split(r"^(?=[\w.]+:)", text, flags=re.MULTILINE):
        if found := re.match(r"([\w.]+):", part):
            parts.setdefault(found[1], []).append(part)
    found = []
    for number in range(max((len(ways) for ways in parts.values()), default=0)):
        with_it = [ways[min(number, len(ways) - 1)] for key, ways in parts.items() if not number or key not in apart]
        found.append(yaml.safe_load("".join(with_it)))
    return found
