"""A defence on a board: what others need to rank it, to show it, and to run it again.

A *board* is a scenario that never changes but for the defence, so that defences which different people ran can be
compared. :class:`BoardTerms` is what it fixes, :class:`BoardEntry` what one defence came to on it. Entries come from
strangers: they are plain data of bounded size, and nothing they name is imported because they name it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from autoflip_secure.errors import InputError, StoreError
from autoflip_secure.files.canonical_json import canonical, digest
from autoflip_secure.files.checksums import with_checksum, without_checksum
from autoflip_secure.files.regular_files import parse_json, read_regular
from autoflip_secure.records.privacy import Observer
from autoflip_secure.records.threats import ThreatRecord
from autoflip_secure.records.tuning import chosen_of

ENTRY_SCHEMA = 1
MOST_BYTES = 2**22  # of an entry's file
MOST_ATTACKS, MOST_SETTINGS, MOST_SEEDS, MOST_PARTS = 200, 100, 1000, 100
Text = Annotated[str, Field(max_length=500)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, le=1e30)]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
_REMAKE = "make it again with `autoflip-secure leaderboard DIR --entries FOLDER`"


_DEEPEST, _MOST_VALUES = 12, 2000  # of a configuration


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """A configuration that whatever walks through it comes to the end of."""
    here: list[Any] = [value]
    for _ in range(_DEEPEST):
        inner = (one for part in here if isinstance(part, dict | list) for one in _inside(part))
        here = list(islice(inner, _MOST_VALUES + 1))
        if len(here) > _MOST_VALUES:
            raise ValueError(f"has more than {_MOST_VALUES} values")
        if not here:
            return value
    raise ValueError(f"is nested more than {_DEEPEST} deep")


def _inside(part: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return part.values() if isinstance(part, dict) else part


Configuration = Annotated[dict[str, Any], AfterValidator(_plain)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BoardTerms(_Part):
    """What a board fixes: a run is one of the board if nothing but the defence differs."""

    name: Text
    settings: list[dict[str, Any]]  # configurations without defence, attack, seed, what is tuned and where data lie
    attacks: list[dict[str, Any]]  # that every defence meets
    shared: dict[str, Any]  # of all attacks: who is malicious, and when
    suites: list[str]
    seeds: list[int]
    outcome: str
    candidates: list[dict[str, Any]]  # of what is tuned: config path -> value; empty: nothing is
    tuning_seeds: list[int]

    @property
    def digest(self) -> str:
        """16 hexadecimal digits: equal for two boards only where they are the same."""
        return digest(self.model_dump(mode="json"))


class MetAttack(_Part):
    """An attack that a defence met, and its threat card."""

    config: Configuration
    threat: ThreatRecord


class AttackRuns(_Part):
    """Runs of one setting under one attack, in the order of the seeds."""

    attack: Annotated[int, Field(ge=0, lt=MOST_ATTACKS)] | None  # index among the entry's attacks; None: nobody attacks
    accuracies: Annotated[list[Share], Field(max_length=MOST_SEEDS)]  # by the board's outcome
    digests: Annotated[list[Hex], Field(max_length=MOST_SEEDS)]  # of every number of the run's record


class Amounts(_Part):
    """Means over the seeds of the runs without attack, of a whole run."""

    uplink_bytes: Amount
    downlink_bytes: Amount
    flops_dense: Amount | None
    flops_sparse: Amount | None
    flops_compacted: Amount | None


class TriedValues(_Part):
    """What was tried before, on seeds that are not reported."""

    values: Configuration  # config path -> value
    accuracies: Annotated[list[Share], Field(min_length=1, max_length=MOST_SEEDS)]  # one per tuning seed


class SettingRuns(_Part):
    """One defence in one setting of the board."""

    setting: Annotated[int, Field(ge=0, lt=MOST_SETTINGS)]  # index among the board's settings
    tried: Annotated[list[TriedValues], Field(max_length=10_000)]
    runs: Annotated[list[AttackRuns], Field(min_length=1, max_length=MOST_ATTACKS + 1)]  # without attack first
    costs: Amounts

    @property
    def chosen(self) -> dict[str, Any]:
        """The tuned settings that the runs have; empty: nothing was tuned."""
        if not self.tried:
            return {}
        means = [sum(one.accuracies) / len(one.accuracies) for one in self.tried]
        return self.tried[chosen_of(means)].values


class Proven(_Part):
    """What is proven of every run of a defence against one observer."""

    observer: Observer
    relation: Text
    epsilon: Amount
    delta: Share


class BoardEntry(_Part):
    """One defence on one board."""

    entry_schema: Literal[1] = 1
    board: Text
    terms: Hex  # digest of what the board fixes
    defence: Text  # its name
    algorithm: Configuration  # in full
    outside: Annotated[list[Text], Field(max_length=MOST_PARTS)]  # parts whose code is not of this package
    data: Hex  # fingerprint of all samples
    sources: Annotated[dict[Text, Text], Field(max_length=MOST_PARTS)]  # code from outside -> its fingerprint
    versions: Annotated[dict[Text, Text], Field(max_length=MOST_PARTS)]  # that the runs were made with
    bits: Literal["stack", "block"]  # a single run repeats to the last bit, or only together with those beside it
    needs: Annotated[dict[Text, Text], Field(max_length=MOST_PARTS)]  # heading -> what the defence needs
    parameters: Annotated[int, Field(ge=0)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=MOST_SEEDS)]
    attacks: Annotated[list[MetAttack], Field(min_length=1, max_length=MOST_ATTACKS)]
    settings: Annotated[list[SettingRuns], Field(min_length=1, max_length=MOST_SETTINGS)]
    privacy: Annotated[list[Proven], Field(max_length=10)]  # empty: no guarantee

    @model_validator(mode="after")
    def _complete(self) -> BoardEntry:
        """Every setting has runs under every attack and without, one per seed."""
        wanted = [None, *range(len(self.attacks))]
        if [one.setting for one in self.settings] != list(range(len(self.settings))):
            raise ValueError("settings: should be those of the board, each once, in its order")
        for one in self.settings:
            if [runs.attack for runs in one.runs] != wanted:
                raise ValueError(f"setting {one.setting}: should have runs without attack and under each, in order")
            if any(len(part) != len(self.seeds) for runs in one.runs for part in (runs.accuracies, runs.digests)):
                raise ValueError(f"setting {one.setting}: should have one run for each of {len(self.seeds)} seeds")
        return self

    @property
    def key(self) -> str:
        """Which defence it is: a digest of its configuration, its name left out, and of its code from outside."""
        own = {key: value for key, value in self.algorithm.items() if key != "name"}
        return digest([own, self.sources])

    def text(self) -> str:
        """The file's content, with a checksum; a line for each setting and attack, so that differences can be read."""
        return _in_lines(with_checksum(self.model_dump(mode="json"))) + "\n"


def _in_lines(value: Any, depth: int = 0) -> str:
    """JSON in which the outer levels have a line each."""
    inner = " " * (depth + 1)
    if isinstance(value, dict) and value and depth < 3 and any(isinstance(one, dict | list) for one in value.values()):
        parts = [f"{inner}{json.dumps(key)}: {_in_lines(one, depth + 1)}" for key, one in sorted(value.items())]
        return "{\n" + ",\n".join(parts) + "\n" + " " * depth + "}"
    if isinstance(value, list) and depth < 4 and any(isinstance(one, dict) for one in value):
        parts = [f"{inner}{_in_lines(one, depth + 1)}" for one in value]
        return "[\n" + ",\n".join(parts) + "\n" + " " * depth + "]"
    return canonical(value)


def read_entry(path: Path) -> BoardEntry:
    """Read an entry that anybody may have written.

    Raises:
        InputError: it is missing, too large, damaged, of another format, or no entry; the message says what to do.
    """
    try:
        content = read_regular(path, MOST_BYTES)
        if not content.lstrip().startswith(b"{"):
            raise InputError(f"{path}: is not a board entry, which is JSON; {_REMAKE}")
        data = parse_json(content)
        schema = data.get("entry_schema") if isinstance(data, dict) else None
        if schema is None:
            raise InputError(f"{path}: is not a board entry (it has no entry_schema); {_REMAKE}")
        if schema != ENTRY_SCHEMA:
            raise InputError(
                f"{path}: is an entry of format {schema!r:.40}, and this version reads format {ENTRY_SCHEMA}; {_REMAKE}"
            )
        return BoardEntry.model_validate(without_checksum(data, "leaderboard"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give a board entry, or a results folder"
        ) from error
    except (StoreError, ValidationError, ValueError) as error:
        why = str(error)
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False, include_input=False)[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        raise InputError(f"{path}: is damaged ({why[:300]}); {_REMAKE}") from error
