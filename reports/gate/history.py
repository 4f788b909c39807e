"""The trend file: one line of JSON for each run of the gate, to be appended to for as long as a project lasts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.files.durable import unwritable
from autoflip_secure.files.regular_files import append_regular, gone, parse_json, read_regular
from autoflip_secure.reports.gate.gate import GateResult

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Point(BaseModel):
    """One metric of one configuration at one run; values are means over the seeds used."""

    model_config = _STRICT

    key: str  # of the configuration, as in the baseline
    algorithm: str
    condition: str
    metric: str
    value: float | None  # None: no guarantee, or not measured
    baseline: float | None
    change: float | None  # new minus baseline; ratio - 1 of costs
    low: float | None
    high: float | None
    margin: float
    decision: str
    advisory: bool
    seeds: int  # of the run


class Moment(BaseModel):
    """One run of the gate."""

    model_config = _STRICT

    history_schema: Literal[1] = 1
    time: str
    label: str  # a commit, or what the user calls the run
    decision: str
    baseline: str  # when it was made
    metrics: tuple[Point, ...]


def moment(result: GateResult, time: str, label: str) -> Moment:
    """A run of the gate as a line of the history."""
    points = [
        Point(
            key=line.key, algorithm=line.algorithm, condition=line.condition, metric=line.metric.name,
            value=line.judgement.comparison.new, baseline=line.judgement.comparison.baseline,
            change=line.judgement.change, low=line.judgement.low, high=line.judgement.high,
            margin=line.judgement.margin, decision=line.judgement.decision.value, advisory=line.advisory,
            seeds=line.judgement.comparison.seeds[1],
        )
        for line in result.lines
    ]  # fmt: skip
    return Moment(
        time=time,
        label=label.encode("utf-8", "backslashreplace").decode("utf-8"),  # bytes of a command line that are no text
        decision=result.decision.value,
        baseline=result.baseline.created,
        metrics=tuple(points),
    )


def read_history(path: Path) -> list[Moment]:
    """Every run in the file, in its order; none where there is no file.

    Raises:
        InputError: it cannot be read, or a line is of something else.
    """
    if gone(path):
        return []
    try:
        text = read_regular(path).decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give another file with --history") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no history of a gate (not text); give another file with --history") from error
    found = []
    for number, line in enumerate(text.split("\n"), start=1):  # alone: a label may hold other ends of lines
        if not line.strip():
            continue
        try:
            found.append(Moment.model_validate(parse_json(line)))
        except ValueError as error:  # a ValidationError is one
            raise InputError(
                f"{path}:{number}: is no line of a gate's history ({_why(error)}); give another file with --history, "
                "or remove the line"
            ) from error
    return found


def _why(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return f"not JSON: {error}"
    first = error.errors(include_url=False, include_input=False)[0]
    at = ".".join(map(str, first["loc"]))
    return f"{at + ': ' if at else ''}{first['msg']}"


def append_moment(path: Path, one: Moment) -> None:
    """Add a line; where the last one has no end, as an editor may leave it, after it.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = gone(path) or read_regular(path)[-1:] in (b"", b"\n")
        append_regular(path, f"{'' if whole else chr(10)}{one.model_dump_json()}\n")
    except OSError as error:
        raise StoreError(f"{path}: {unwritable(error, 'give another file with --history')}") from error
