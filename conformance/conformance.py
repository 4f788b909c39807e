"""Holds functions of any project against exact vectors: ``python conformance.py my_package.rules:FUNCTIONS``.

It needs nothing but Python. FUNCTIONS is a mapping from names of rules to functions, which are called with what a case
says in ``input`` as keyword arguments (plain lists and numbers) and give numbers, or lists of numbers, of the shape of
``expected``. A rule that FUNCTIONS lacks is counted and passed over. What the files say is in README.md beside them.
"""

from __future__ import annotations

import copy
import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
FORMAT = 1


@dataclass(frozen=True)
class Case:
    """One vector: what a rule gives for an input."""

    file: str
    rule: str
    about: str
    input: Mapping[str, Any]
    expected: Any
    tolerance: float  # of each number, absolute plus relative


@dataclass(frozen=True)
class Finding:
    """How a function did; ``problem`` is empty where it gives what is expected, None where the rule is not offered."""

    case: Case
    problem: str | None

    def __str__(self) -> str:
        words = "not offered" if self.problem is None else self.problem or "ok"
        return f"{self.case.file}: {self.case.rule} ({self.case.about}): {words}"


def read(folder: Path = FOLDER) -> list[Case]:
    """The cases of every ``*.json`` of a folder.

    Raises:
        ValueError: a file is of a format that this runner does not know.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("format") != FORMAT:
            raise ValueError(f"{path.name}: format {document.get('format')!r} is not known here; expected {FORMAT}")
        for one in document["cases"]:
            tolerance = one.get("tolerance", document["tolerance"])
            found.append(Case(path.stem, one["rule"], one["about"], one["input"], one["expected"], tolerance))
    return found


def check(functions: Mapping[str, Callable[..., Any]], cases: Iterable[Case] | None = None) -> list[Finding]:
    """What each function gives for each case of its rule."""
    return [Finding(case, _problem(functions.get(case.rule), case)) for case in (read() if cases is None else cases)]


def _problem(function: Callable[..., Any] | None, case: Case) -> str | None:
    if function is None:
        return None
    given = copy.deepcopy(dict(case.input))
    try:
        found = list(_numbers(function(**given)))
    except Exception as error:  # functions of other projects may do anything
        return f"failed with {type(error).__name__}: {error}"
    expected = list(_numbers(case.expected))
    if len(found) != len(expected):
        return f"gives {len(found)} numbers, expected {len(expected)}"
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        if not abs(one - other) <= case.tolerance * (1 + abs(other)):
            return f"number {place} is {one:.9g}, expected {other:.9g}"
    return "changes its input in place" if given != dict(case.input) else ""


def _numbers(value: Any) -> Iterator[float]:
    """The numbers of nested sequences, in order."""
    if hasattr(value, "tolist"):  # of an array or a tensor
        value = value.tolist()
    if isinstance(value, int | float):
        yield float(value)
    else:
        for one in value:
            yield from _numbers(one)


def main(arguments: list[str]) -> int:
    """0: all that is offered is as expected; 1: something is not; 2: wrong arguments, or nothing is offered."""
    if len(arguments) != 1 or ":" not in arguments[0]:
        print("usage: python conformance.py package.module:FUNCTIONS", file=sys.stderr)
        return 2
    sys.path.insert(0, "")
    module, _, name = arguments[0].partition(":")
    findings = check(getattr(importlib.import_module(module), name))
    for finding in findings:
        print(finding)
    offered = [finding for finding in findings if finding.problem is not None]
    wrong = [finding for finding in offered if finding.problem]
    print(f"{len(offered)} of {len(findings)} cases are of rules that are offered, {len(wrong)} are not as expected")
    return 2 if not offered else int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
