"""``verify``: run some of the runs of a board entry again."""

from __future__ import annotations

import secrets
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoflip_secure.commands.leaderboard import BoardFile
from autoflip_secure.commands.session import Json, exit_codes, prepare, results_folder, tell
from autoflip_secure.errors import InputError
from autoflip_secure.terminal.counting import count_of, listed, some
from autoflip_secure.terminal.notes import remark

if TYPE_CHECKING:
    from autoflip_secure.records.board import BoardEntry
    from autoflip_secure.scenarios.boards.verifying import Again, Verification

_NAMED = 3
_CODES = {"verified": 0, "differs": 1, "cannot tell": 2}


def verify(
    entry: Annotated[Path, typer.Argument(metavar="ENTRY", help="An entry that `leaderboard --entries` has written.")],
    cells: Annotated[int, typer.Option("--cells", min=1, max=100_000, help="Runs to run again.")] = 6,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of their choice.", show_default="drawn, and printed"),
    ] = None,
    tuned: Annotated[
        int, typer.Option("--tuned", min=1, max=100_000, help="Settings in which all that tuning tried is run again.")
    ] = 1,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="DIR", help="Results folder that counts private runs.", show_default="runs/verify-ENTRY"
        ),
    ] = None,
    board_file: BoardFile = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="data.root=DIR", help="Where the data lie here; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a sample of an entry's runs again. Exit code 0 verified, 1 it differs, 2 cannot tell.

    With the same versions on the same kind of processor every number has to be equal to the last bit. What differs
    here is named; on another kind of processor accuracies have to be within 5 points, and not be higher in the entry
    on average. What was not run again is taken from the entry, and named.
    """
    with exit_codes(None, as_json):
        places, folder = _places(overrides or []), results_folder(out) or Path("runs") / f"verify-{entry.stem}"
        if not entry.is_file():
            raise InputError(f"{entry}: is not a file; give an entry that `leaderboard --entries` has written")
        prepare()
        from autoflip_secure.scenarios.boards.boards import read_board
        from autoflip_secure.scenarios.boards.checking import checked_entry
        from autoflip_secure.scenarios.boards.verifying import sample, settings_to_tune
        from autoflip_secure.scenarios.boards.verifying import verify as again

        board, read = checked_entry(entry, None if board_file is None else read_board(board_file))
        number = secrets.randbelow(10**6) if seed is None else seed
        chosen = sample(read, cells, number)
        remark(f"{count_of(len(chosen), 'run')} of {read.defence}, chosen by --seed {number}")
        settings = settings_to_tune(read, number, tuned)
        done = again(read, board, chosen, settings, places, folder, lambda one: remark(_line(read, one)))
        counted = folder if done.private else None
        tell(_summary(entry, number, done, read, counted), as_json, _told(entry, done, read, counted))
        raise typer.Exit(_CODES[done.verdict])


def _places(overrides: list[str]) -> dict[str, Any]:
    """Where data lie, as ``--set`` says.

    Raises:
        InputError: it sets something else, which the board fixes.
    """
    from autoflip_secure.scenarios.boards.boards import PLACES
    from autoflip_secure.scenarios.config.documents import parse_value

    found = {}
    for text in overrides:
        path, _, value = text.partition("=")
        if path.strip() not in PLACES:
            raise InputError(f"--set {text:.200}: an entry is of a board, which fixes all but {', '.join(PLACES)}")
        found[path.strip()] = parse_value(value, tuple(path.strip().split(".")))
    return found


def _what(entry: BoardEntry, one: Again) -> str:
    attack = "no attack" if one.attack is None else str(entry.attacks[one.attack].config.get("kind"))[:100]
    return f"setting {one.setting + 1}, {attack}, seed {one.seed}"


def _line(entry: BoardEntry, one: Again) -> str:
    same = "equal to the last bit" if one.equal else f"{100 * one.found:.2f} % here, last bits differ"
    return f"{_what(entry, one)}: {100 * one.claimed:.2f} % in the entry, {same}"


def _told(entry: Path, done: Verification, read: BoardEntry, counted: Path | None) -> list[str]:
    """The verdict with its reason, what tuning again came to, and what nobody has looked at."""
    same = sum(one.claimed == one.found for one in done.tuned)
    told = [f"{entry}: {_why(done)}"]
    if done.tuned:
        where = listed([str(one + 1) for one in dict.fromkeys(one.setting for one in done.tuned)])
        count, settings = count_of(len(done.tuned), "run"), "setting" if where.isdecimal() else "settings"
        told.append(f"tuned again in {settings} {where}: {same} of {count} came to the same accuracy as in the entry")
    if counted is not None:
        runs = count_of(done.private, "private run")
        told.append(f"{runs} counted in {counted}: {shlex.join(['autoflip-secure', 'budget', str(counted)])}")
    return [*told, f"taken from the entry: {'; '.join(_unchecked(done, read))}"]


def _unchecked(done: Verification, read: BoardEntry) -> list[str]:
    """What the verdict does not speak of."""
    left = sum(len(runs.accuracies) for one in read.settings for runs in one.runs) - len(done.runs)
    untuned = len(read.settings) - len({one.setting for one in done.tuned}) if done.tuned else 0
    found = [f"{count_of(left, 'other run')} (--cells)"] if left else []
    found += [f"tuning in {count_of(untuned, 'other setting')} (--tuned)"] if untuned else []
    return [*found, "means of costs"]


def _why(done: Verification) -> str:
    from autoflip_secure.scenarios.boards.verifying import TOLERANCE

    equal, near, count = sum(one.equal for one in done.runs), sum(one.near for one in done.runs), len(done.runs)
    other = "; ".join(f"{what}: {then} in the entry, {now} here" for what, (then, now) in done.other.items())
    bits = f"{equal} of {count_of(count, 'run')} equal to the last bit"
    within = f"{near} of {count} within {100 * TOLERANCE:g} points"
    tuned = all(one.claimed == one.found for one in done.tuned)
    if done.unmet:
        named = f"as its code here names them, the defence meets {some(done.unmet, _NAMED)} too, and the entry does not"
        return f"{done.verdict}: {named}; {bits}{f'; what differs is {other}' if other else ''}"
    if done.verdict == "verified":
        return f"verified: {bits}{'' if equal == count and tuned else f', {within}, with {_leeway(done, other)}'}"
    if not all(one.proven for one in done.runs):
        return f"differs: it states an epsilon that is not proven of every run; {bits}, {within}"
    if done.excused and not set(done.other):
        return f"cannot tell: {bits}, {within}; the entry says of its {_TOGETHER}, and here they do"
    if done.verdict == "differs":
        if all(one.near for one in done.runs) and done.surplus > done.allowed and (done.other or not done.alone):
            within += f", but {100 * done.surplus:.1f} points higher in the entry on average"
        why = (
            f"with {other}"
            if other
            else "with the same versions on the same kind of processor"
            if done.alone
            else _TOGETHER
        )
        tuning = "" if tuned else ", and tuning came to something else"
        return f"differs: {bits}, {within}, {why}{tuning}"
    return f"cannot tell: {bits}, {within}; equal bits cannot be expected, since what differs is {other}"


def _leeway(done: Verification, other: str) -> str:
    """What was not the same here, and how much it lets pass."""
    from autoflip_secure.scenarios.boards.verifying import PROCESSOR

    much = f"accuracies of the entry may all be {100 * done.allowed:.1f} points too high and pass"
    if PROCESSOR & set(done.other):
        much += ", and the processor is the entry's own word: on one of its kind every bit has to be equal"
    return f"{other or _TOGETHER}; {much}"


_TOGETHER = "runs that do not repeat to the last bit by themselves"


def _summary(entry: Path, seed: int, done: Verification, read: BoardEntry, counted: Path | None) -> dict[str, Any]:
    return {
        "entry": str(entry), "verdict": done.verdict, "seed": seed, "unmet": done.unmet,
        "unchecked": _unchecked(done, read), "ledgers": None if counted is None else str(counted),
        "other": {what: {"entry": then, "here": now} for what, (then, now) in done.other.items()},
        "runs": [
            {
                "run": _what(read, one), "entry": one.claimed, "here": one.found, "equal": one.equal,
                "near": one.near, "proven": one.proven,
            }
            for one in done.runs
        ],
        "tuned": [
            {
                "setting": one.setting + 1, "values": read.settings[one.setting].tried[one.candidate].values,
                "seed": one.seed, "entry": one.claimed, "here": one.found,
            }
            for one in done.tuned
        ],
    }  # fmt: skip
