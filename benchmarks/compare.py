r"""Two runs of the benchmarks, compared by time / reference; exit code 1 on a slow-down beyond a stated ratio.

.. math:: r = \frac{t_{new} / t^{ref}_{new}}{t_{base} / t^{ref}_{base}}

t is the best processor time of a benchmark, t^ref that of the reference workload right beside it. A benchmark with one
round is shown and not judged: one measurement cannot be told from noise. Exit code 2: the input cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(".benchmarks")


class UnusableError(Exception):
    """The input cannot be compared; the message says why and what to do."""


@dataclass(frozen=True)
class Measured:
    """One benchmark of one run."""

    seconds: float  # best round, processor time
    reference: float  # seconds of the reference workload beside it
    rounds: int

    @property
    def units(self) -> float:
        """Time in units of the reference workload."""
        return self.seconds / self.reference


@dataclass(frozen=True)
class Change:
    """One benchmark in both runs."""

    name: str
    base: float  # units of the reference
    new: float
    judged: bool

    @property
    def ratio(self) -> float:
        """Above 1: slower than before."""
        return self.new / self.base


def read(path: Path) -> dict[str, Measured]:
    """The benchmarks of a saved run, by name.

    Raises:
        UnusableError: not a file of pytest-benchmark, or one that these suites did not write.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        entries = {entry["fullname"]: entry for entry in document["benchmarks"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableError(
            f"{path}: is not a saved run ({type(error).__name__}: {error}); make one with `make bench`"
        ) from error
    found = {}
    for name, entry in entries.items():
        try:
            seconds, reference = float(entry["stats"]["min"]), float(entry["extra_info"]["reference_seconds"])
            timer, rounds = entry["options"]["timer"], int(entry["stats"]["rounds"])
        except (KeyError, TypeError, ValueError) as error:
            raise UnusableError(
                f"{path}: {name} has no {error}; it was not run with benchmarks/conftest.py, run `make bench`"
            ) from error
        if timer != "process_time" or not seconds > 0 or not reference > 0:
            raise UnusableError(f"{path}: {name} was not timed in processor seconds ({timer}, {seconds}, {reference})")
        found[name] = Measured(seconds, reference, rounds)
    if not found:
        raise UnusableError(f"{path}: holds no benchmarks; run `make bench`")
    return found


def last_runs(folder: Path, count: int) -> list[Path]:
    """The newest ``count`` saved runs, oldest first, by the date inside.

    Raises:
        UnusableError: there are fewer.
    """
    dated = []
    for path in folder.rglob("*.json"):
        try:
            dated.append((str(json.loads(path.read_text(encoding="utf-8"))["datetime"]), str(path), path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnusableError(f"{path}: is not a saved run ({type(error).__name__}); remove it") from error
    if len(dated) < count:
        raise UnusableError(
            f"{folder}: holds {len(dated)} saved runs, {count} are needed; run `make bench`"
            + (", or name another run with BASE=file" if count > 1 else "")
        )
    return [path for _, _, path in sorted(dated)[-count:]]


def compare(base: dict[str, Measured], new: dict[str, Measured]) -> list[Change]:
    """What is in both, the largest slow-down first."""
    both = [
        Change(name, base[name].units, new[name].units, min(base[name].rounds, new[name].rounds) > 1)
        for name in new
        if name in base
    ]
    return sorted(both, key=lambda change: -change.ratio)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns in line; the first is text, the others are numbers."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if not i else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def show(path: Path) -> str:
    """One run, in units of the reference."""
    rows = [
        (name.removeprefix("benchmarks/"), f"{m.units:,.3g}", f"{1e3 * m.seconds:,.2f}", str(m.rounds))
        for name, m in sorted(read(path).items())
    ]
    return f"{path}\n" + table(("benchmark", "time / reference", "ms here", "rounds"), rows)


def verdict(base: Path, new: Path, limit: float) -> tuple[str, int]:
    """The table, and the exit code.

    Raises:
        UnusableError: a file is not a saved run, or the two have nothing in common.
    """
    if base.resolve() == new.resolve():
        raise UnusableError(f"{base}: is compared with itself; run `make bench` once more, or name another BASE=file")
    before, after = read(base), read(new)
    changes = compare(before, after)
    judged = [change for change in changes if change.judged]
    if not judged:
        raise UnusableError(
            f"{base} and {new} have no benchmark in common that has two rounds or more; run the same suites"
        )
    slower = [change for change in judged if change.ratio > limit]
    rows = []
    for change in changes:
        word = "" if change.judged else "one round, not judged"
        word = (
            f"SLOWER than {limit:g}"
            if change in slower
            else "faster"
            if change.judged and change.ratio * limit < 1
            else word
        )
        rows.append(
            (
                change.name.removeprefix("benchmarks/"),
                f"{change.base:,.3g}",
                f"{change.new:,.3g}",
                f"{change.ratio:.2f}",
                word,
            )
        )
    lines = [f"base: {base}", f"new:  {new}", "", table(("benchmark", "base", "new", "new / base", ""), rows), ""]
    for what, names in (("only in base", before.keys() - after.keys()), ("only in new", after.keys() - before.keys())):
        lines += [f"{what}, not judged: {name}" for name in sorted(names)]
    lines.append(
        f"{len(slower)} of {len(judged)} benchmarks are slower than {limit:g} times the base"
        if slower
        else f"none of {len(judged)} benchmarks is slower than {limit:g} times the base"
    )
    return "\n".join(lines), int(bool(slower))


def main(arguments: Sequence[str] | None = None) -> int:
    """``compare.py [--base FILE] [--new FILE] [--ratio 1.5] [--folder DIR]``, or ``compare.py --show``."""
    parser = argparse.ArgumentParser(description="Compare two saved runs of the benchmarks by time / reference.")
    parser.add_argument("--base", type=Path, help="the run to compare with (default: the last but one)")
    parser.add_argument("--new", type=Path, help="the run to judge (default: the last)")
    parser.add_argument("--ratio", type=float, default=1.5, help="a larger slow-down fails (default: 1.5)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where runs are saved (default: .benchmarks)")
    parser.add_argument("--show", action="store_true", help="print the last run, or the one of --new")
    given = parser.parse_args(arguments)
    try:
        if not given.ratio >= 1:
            raise UnusableError(f"--ratio {given.ratio:g}: give 1 or more; 1.5 allows half as much time again")
        if given.show:
            print(show(given.new or last_runs(given.folder, 1)[0]))
            return 0
        wanted = 2 - (given.base is not None) - (given.new is not None)
        runs = last_runs(given.folder, wanted) if wanted else []
        new = given.new or runs.pop()
        text, code = verdict(given.base or runs.pop(), new, given.ratio)
        print(text)
        return code
    except UnusableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
