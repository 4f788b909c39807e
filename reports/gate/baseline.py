"""The baseline: one JSON file to be committed beside the code, readable in a diff; written whole, read with care."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.files.checksums import with_checksum, without_checksum
from autoflip_secure.files.first_bytes import instead
from autoflip_secure.files.regular_files import parse_json, read_regular
from autoflip_secure.records.outcome import DEFAULT, PATTERN, OutcomeRule
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.gate.baseline_file import BASELINE_SCHEMA, READABLE, document, fields
from autoflip_secure.reports.gate.choice import Choice, check_names
from autoflip_secure.reports.gate.entries import entries
from autoflip_secure.reports.gate.metrics import METRICS, Entry
from autoflip_secure.reports.gate.missing import no_baseline
from autoflip_secure.reports.gate.readable_json import readable

_CONFLICT = b"<<<<<<< "
_DIGITS = 16  # of a digest
_REMAKE = "restore it, or remove it and make it again with --update --reason"


class Baseline(BaseModel):
    """What later runs are held against. ``entries`` are keyed by the hash of the configuration without its seed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    baseline_schema: int = BASELINE_SCHEMA
    reason: str
    created: str
    versions: dict[str, str]
    outcome: Annotated[str, Field(pattern=PATTERN)] = "last"  # what accuracy is; formats 1 and 2 do not say
    choice: Choice = Choice()  # which metrics decide; formats 1 to 3 do not say
    margins: dict[str, Annotated[float, Field(ge=0, lt=1)]]
    inputs: dict[str, str] = {}  # what the runs read, as the sweep names it -> digest; formats 1 to 3 do not say
    entries: dict[str, Entry]

    @property
    def rule(self) -> OutcomeRule:
        """The outcome that its accuracies are, and that those of a sweep must be to be held against them."""
        return OutcomeRule.parse(self.outcome)

    @property
    def seeds(self) -> frozenset[int]:
        """Every seed that a configuration of it was run on."""
        return frozenset(seed for entry in self.entries.values() for seed in entry.digests)

    def text(self) -> str:
        """The file's content, with a checksum of all of it at its end."""
        return readable(with_checksum(document(self))) + "\n"


def make_baseline(
    records: Iterable[RunRecord],
    reason: str,
    created: str,
    margins: Mapping[str, float],
    outcome: OutcomeRule = DEFAULT,
    *,
    choice: Choice | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Baseline:
    """A baseline of all records of a finished sweep.

    Args:
        records: of every cell.
        reason: why it is made, for anybody who reads the history.
        created: when.
        margins: metric -> margin.
        outcome: what accuracy is.
        choice: which metrics decide.
        inputs: what the runs read -> digest; see :func:`.input_digests`.

    Raises:
        InputError: a record that cannot be compared, or no reason.
    """
    if not reason.strip():
        raise InputError("--reason: is empty; say in a few words why the baseline changes")
    known = list(records)
    return Baseline(
        reason=reason.strip(),
        created=created,
        versions=versions(known),
        outcome=str(outcome),
        choice=choice or Choice(),
        margins=dict(margins),
        inputs={what: found[:_DIGITS] for what, found in (inputs or {}).items()},
        entries=entries(known, outcome=outcome),
    )


def read_baseline(path: Path) -> Baseline:
    """Read a baseline; one without a checksum, from an older version, is taken as it is.

    Raises:
        InputError: it is missing, unreadable, damaged or of another format; the message says what to do.
    """
    data = _document(path)
    try:
        baseline = Baseline.model_validate(fields(without_checksum(data, "--update")))
        check_names([*(baseline.choice.metrics or ()), *(baseline.choice.advisory or ())], "choice")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InputError(
            f"{path}: is damaged ({'.'.join(map(str, first['loc']))}: {first['msg']}); {_REMAKE}"
        ) from error
    except (InputError, StoreError, ValueError) as error:
        raise InputError(f"{path}: is damaged ({error}); {_REMAKE}") from error
    for key, entry in baseline.entries.items():
        if entry.key != key:
            raise InputError(f"{path}: is damaged (entry {key}: its configuration has another hash); {_REMAKE}")
        for name, values in entry.metrics.items():
            _check(path, key, name, values)
    for name in baseline.margins:
        _check(path, "margins", name, {})
    return baseline


def _document(path: Path) -> dict[str, Any]:
    """The JSON object in the file, of a format that can be read."""
    content = b""
    try:
        content = read_regular(path)
        data = parse_json(content, _unique)
    except FileNotFoundError:
        raise no_baseline(path) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); --baseline needs a baseline file") from error
    except InputError as error:
        raise InputError(f"{path}: is damaged ({error}); {_REMAKE}") from error
    except ValueError as error:
        raise InputError(f"{path}: {_not_json(content, error)}") from error
    schema = data.get("baseline_schema") if isinstance(data, dict) else None
    if schema is None:
        raise InputError(
            f"{path}: is not a baseline (it has no baseline_schema); give a file that --update has written"
        )
    if type(schema) is not int or schema not in READABLE:
        raise InputError(
            f"{path}: is a baseline of format {schema!r}, but this version reads format {BASELINE_SCHEMA}; {_REMAKE}"
        )
    return dict(data)


def _not_json(content: bytes, error: Exception) -> str:
    """What a file is that should be JSON and is not."""
    what = instead(content, "a baseline", _REMAKE, "text")
    if what is None and (content.startswith(_CONFLICT) or b"\n" + _CONFLICT in content):
        what = f"contains the conflict markers of an unfinished merge; {_REMAKE}"
    elif what is None and content.strip() and not content.lstrip().startswith((b"{", b"[")):
        what = "is not a baseline, which is JSON; give a file that --update has written"
    return what or f"is damaged (not JSON: {error}); {_REMAKE}"


def effective_margins(stored: Mapping[str, float], overrides: Iterable[str]) -> dict[str, float]:
    """Margin of every metric: what ``name=value`` says, else what the baseline holds, else the default.

    Raises:
        InputError: an unknown name, or a value that is not a number in [0, 1).

    >>> effective_margins({"bytes": 0.1}, ["clean_accuracy=0.5%"])["clean_accuracy"]
    0.005
    """
    margins = {name: metric.margin for name, metric in METRICS.items()} | dict(stored)
    for override in overrides:
        name, _, text = (part.strip() for part in override.partition("="))
        if name not in METRICS:
            raise InputError(f"--margin {override}: there is no metric '{name}'; there are {', '.join(METRICS)}")
        try:
            value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            value = math.nan
        if not 0 <= value < 1:
            usual = METRICS[name].margin
            way_out = f"{name}={100 * usual:g}%" if METRICS[name].relative else f"{name}={usual}"
            raise InputError(f"--margin {override}: '{text}' is not a number from 0 to below 1; write {way_out}")
        margins[name] = value
    return margins


def versions(records: Iterable[RunRecord]) -> dict[str, str]:
    """What the records ran on; several versions of one thing are joined by "and"."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for name, version in record.versions.items():
            found.setdefault(name, {})[version] = None
    return {name: " and ".join(sorted(values)) for name, values in found.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different: of two, nobody can say which one was meant (two merged branches?)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(f"the key '{twice}' appears twice in one object")
    return found


def _check(path: Path, key: str, name: str, values: Mapping[Any, float]) -> None:
    if name not in METRICS:
        raise InputError(
            f"{path}: {key}: this version has no metric '{name}' (it has {', '.join(METRICS)}); use the version that "
            "wrote the baseline, or remove it and make it again"
        )
    if METRICS[name].relative and any(value <= 0 for value in values.values()):
        raise InputError(f"{path}: is damaged ({key}: {name} must be positive); {_REMAKE}")
