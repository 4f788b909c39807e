"""The scenario file: what is asked, with which data, against whom, on which grid.

``Settings`` is one cell without its seed: what changes numbers. ``Scenario`` adds name, question, seeds and the sweep.
Short forms: ``data: mnist`` for ``{kind: mnist}``, ``model: "package.module:factory"`` for a model of your own,
``algorithm: autoflip`` for its pruner and aggregator, ``{name: autoflip, pruner: {threshold: 0.2}}`` to change a part.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from autoflip_secure.exploration import ExplorationConfig
from autoflip_secure.guidance import GuidanceConfig
from autoflip_secure.interfaces import (
    Aggregator,
    Attack,
    ClientPrivacy,
    Config,
    NoAttack,
    NoPrivacy,
    Plugin,
    Pruner,
    Schedule,
)
from autoflip_secure.outcome import DEFAULT, PATTERN, SHAPE
from autoflip_secure.secure_sum import SecureSumConfig
from scenarios.datasets import DataSource
from scenarios.grid import OWN, Sweep
from scenarios.messages import suggest
from scenarios.models import Model
from scenarios.partitions import Partition
from scenarios.secure_sums import impossible
from scenarios.tables import AGGREGATORS, ALGORITHMS, ATTACKS, DATASETS, MODELS, PARTITIONS, PRIVACY, PRUNERS

DEFAULTS: dict[str, Any] = {
    "data": "digits", "partition": "iid", "model": "mlp", "algorithm": "autoflip", "attack": "none",
    "privacy": "none",
}  # fmt: skip


class _Short:
    """JSON schema of a short form: a name, or the full mapping."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "examples": self.names}, handler(core)]}


def expand(key: str, value: Any) -> Any:
    """The mapping that a short form stands for; anything else as it is.

    >>> expand("data", "mnist"), expand("model", "mine.nets:small"), expand("algorithm", "fedavg")
    ({'kind': 'mnist'}, {'kind': 'custom', 'factory': 'mine.nets:small'}, {'name': 'fedavg'})
    """
    if not isinstance(value, str):
        return value
    if key == "algorithm":
        return {"name": value}
    if key == "model" and ":" in value:
        return {"kind": "custom", "factory": value}
    if key in ("data", "partition", "model", "attack", "privacy", "pruner", "aggregator"):
        return {"kind": value}
    return value


if TYPE_CHECKING:
    AnyData: TypeAlias = DataSource
    AnyPartition: TypeAlias = Partition
    AnyModel: TypeAlias = Model
    AnyAttack: TypeAlias = Attack | NoAttack
    AnyPrivacy: TypeAlias = ClientPrivacy | NoPrivacy
    AnyPruner: TypeAlias = Pruner
    AnyAggregator: TypeAlias = Aggregator
else:

    def _family(key: str, table: dict[str, type[Plugin]]) -> Any:
        union = Annotated[Union[tuple(table.values())], Field(discriminator="kind")]  # noqa: UP007 - made from a table
        return Annotated[union, BeforeValidator(lambda value: expand(key, value)), _Short(sorted(table))]

    AnyData, AnyPartition, AnyModel = (
        _family("data", DATASETS),
        _family("partition", PARTITIONS),
        _family("model", MODELS),
    )
    AnyAttack = _family("attack", ATTACKS)
    AnyPrivacy = _family("privacy", PRIVACY)
    AnyPruner, AnyAggregator = _family("pruner", PRUNERS), _family("aggregator", AGGREGATORS)


class AlgorithmConfig(Config):
    """A pruner × an aggregator, under the name that reports show."""

    name: str = Field(
        default="autoflip", min_length=1, description="a name of the table, or your own with pruner and aggregator"
    )
    pruner: AnyPruner
    aggregator: AnyAggregator

    @model_validator(mode="before")
    @classmethod
    def _merge(cls, value: Any) -> Any:
        """Fill in what the table says about ``name``; a part whose kind differs from the table's replaces it."""
        if not isinstance(value, dict):
            return value
        name = value.get("name", "autoflip")
        known = ALGORITHMS.get(name) if isinstance(name, str) else None
        merged = dict(value)
        for part in ("pruner", "aggregator"):
            given = expand(part, value.get(part))
            if known is not None and (given is None or isinstance(given, dict)):
                base: dict[str, Any] = getattr(known, part)
                given = given or {}
                merged[part] = {**base, **given} if given.get("kind", base["kind"]) == base["kind"] else given
            elif given is None:
                raise PydanticCustomError(
                    "algorithm", "algorithm: unknown name {name}; {hint}; or give it a pruner and an aggregator",
                    {"name": repr(name), "hint": suggest(name, ALGORITHMS), "path": "algorithm"},
                )  # fmt: skip
        return merged


def _none_in_words(value: Any) -> Any:
    return None if value == "none" else value


class Settings(Config):
    """Everything that changes the numbers of a cell, its seed apart."""

    data: AnyData = Field(description="what is learned")
    partition: AnyPartition = Field(description="who owns which samples")
    model: AnyModel = Field(description="which network")
    clients: Annotated[int, Field(ge=1, le=100_000, description="how many clients there are")] = 20
    cohort: Annotated[int, Field(ge=1, le=100_000, description="how many of them take part in a round")] = 5
    rounds: Annotated[int, Field(ge=1, le=100_000, description="rounds of training")] = 60
    evaluate_every: Annotated[
        int, Field(ge=1, le=100_000, description="test accuracy is measured every so many rounds")
    ] = 1
    training: Schedule = Schedule()
    exploration: ExplorationConfig = ExplorationConfig()
    guidance: GuidanceConfig = GuidanceConfig()
    algorithm: Annotated[
        AlgorithmConfig, BeforeValidator(lambda value: expand("algorithm", value)), _Short(sorted(ALGORITHMS))
    ] = Field(description="pruner × aggregator")
    attack: AnyAttack = Field(description="what bad clients do")
    privacy: AnyPrivacy = Field(description="what is done so that updates reveal little")
    secure_sum: Annotated[SecureSumConfig | None, BeforeValidator(_none_in_words), _Short(["none"])] = Field(
        default=None, description="rows pass through party processes in shares, so that the server sees sums only"
    )
    sampling: Literal["fixed", "poisson"] = Field(
        default="fixed", description="cohorts of a fixed size, or every client by itself with chance cohort / clients"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="cpu", description="where tensors live; auto = a GPU if there is one"
    )
    trainer: Literal["auto", "stacked", "sequential"] = Field(
        default="auto", description="many clients in one program, or in turn"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        self._private_enough()
        obstacle = impossible(self)
        if obstacle is not None:
            _refuse(*obstacle, "secure_sum")
        if self.cohort > self.clients:
            _refuse(
                "cohort",
                f"{self.cohort}: is larger than clients = {self.clients}; lower cohort or raise clients",
                "clients",
            )
        explorers = self.exploration.explorers
        if explorers is not None and explorers > self.clients:
            _refuse(
                "exploration.explorers",
                f"{explorers}: is larger than clients = {self.clients}; lower it, or leave it out for all clients",
                "clients",
            )
        if isinstance(self.attack, Attack):
            unknown = [client for client in self.attack.clients or () if client >= self.clients]
            if unknown:
                _refuse("attack.clients", f"{unknown}: no such client; ids are 0 to {self.clients - 1}", "clients")
            self._somebody_is_bad(self.attack)
            if self.attack.window.first > self.rounds:
                _refuse(
                    "attack.window.first",
                    f"{self.attack.window.first}: the attack begins after the last round, {self.rounds}; begin earlier",
                    "rounds",
                )
        return self

    def _private_enough(self) -> None:
        """What can be said of privacy without the data; the ledger says the rest before anything runs."""
        privacy = self.privacy
        if not isinstance(privacy, ClientPrivacy) or privacy.unit != "client":
            return
        if privacy.delta is not None and privacy.delta >= 1 / self.clients:
            _refuse(
                "privacy.delta",
                f"{privacy.delta:g}: is not below 1/clients = {1 / self.clients:g}, so one client could be published "
                f"whole; give less, or leave it out for {0.1 / self.clients:g}",
                "clients",
            )
        if self.sampling == "poisson" and not privacy.trusted_server:
            _refuse(
                "sampling",
                "poisson: with distributed noise nobody knows how many shares of noise will come together; "
                "set sampling: fixed, or privacy.noise: central",
                "privacy",
            )

    def _somebody_is_bad(self, attack: Attack) -> None:
        """An attack by nobody would pass for a defence."""
        if attack.clients == ():
            _refuse("attack.clients", "[]: names nobody; give ids, leave it out for scope, or set attack: none")
        if attack.clients is None and attack.scope > 0 and round(attack.scope * self.clients) == 0:
            _refuse(
                "attack.scope",
                f"{attack.scope:g}: of {self.clients} clients that is nobody; give at least {1 / self.clients:.4g}, "
                f"0 for nobody, or more clients",
                "clients",
            )

    def resolved(self, seed: int) -> dict[str, Any]:
        """The full configuration of a cell, as plain data."""
        return {**self.model_dump(mode="json"), "seed": seed}


def _refuse(path: str, message: str, other: str = "") -> None:
    raise PydanticCustomError("cross_check", "{text}", {"text": f"{path} = {message}", "path": path, "other": other})


def content_hash(config: dict[str, Any]) -> str:
    """Name of a cell: 16 hexadecimal digits of the SHA-256 of its canonical JSON.

    >>> content_hash({"b": 1, "a": 2}) == content_hash({"a": 2, "b": 1})
    True
    """
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_MOST_SEEDS = 100_000
LONGEST_NAME = 100  # characters; file systems take 255 bytes


def _seed_list(value: Any) -> Any:
    """``{first: 10, count: 5}`` -> ``[10, …, 14]``."""
    if isinstance(value, dict) and set(value) == {"first", "count"}:
        first, count = value["first"], value["count"]
        if type(first) is int and type(count) is int and count >= 1:
            if count > _MOST_SEEDS or not 0 <= first <= 2**63 - count:
                raise PydanticCustomError(
                    OWN, "should have first >= 0, first + count <= 2^63 and count <= {most}", {"most": _MOST_SEEDS}
                )
            return list(range(first, first + count))
    if not isinstance(value, list | tuple):
        raise PydanticCustomError(OWN, "should be a list of whole numbers, or {first: 10, count: 5} with count >= 1")
    if len(set(map(str, value))) < len(value):
        raise PydanticCustomError(OWN, "the same seed stands twice; every seed is run once")
    return value


class Header(Config):
    """What a scenario says about itself and its grid."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=LONGEST_NAME,
        description="letters, digits, . _ -; names the results folder",
    )
    question: str = Field(default="", description="what the scenario asks; stands at the top of the report")
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], BeforeValidator(_seed_list), Field(min_length=1)
    ] = Field(default=(10, 11, 12, 13, 14), description="every cell is run once per seed; a list, or {first, count}")
    outcome: str = Field(
        default=str(DEFAULT),
        pattern=PATTERN,
        description=f"{SHAPE}: which evaluations of a run make its outcome",
    )
    sweep: Sweep | None = Field(default=None, description="axes of the grid; a list is the union of its grids")


class Scenario(Header, Settings):
    """A whole scenario file; its JSON schema is what ``autoflip-secure schema`` prints."""


def json_schema() -> dict[str, Any]:
    """JSON schema of a scenario file, for editors. Keys that :data:`DEFAULTS` fills are not required."""
    schema: dict[str, Any] = _any_of(Scenario.model_json_schema())
    schema["required"] = [key for key in schema.get("required", []) if key not in DEFAULTS and key != "name"]
    schema["$defs"]["AlgorithmConfig"].pop("required", None)
    for key, value in DEFAULTS.items():
        schema["properties"][key]["default"] = value
    seeds = schema["properties"]["seeds"]
    pair = {"type": "object", "properties": {"first": {"type": "integer"}, "count": {"type": "integer", "minimum": 1}}}
    schema["properties"]["seeds"] = {
        "anyOf": [seeds, {**pair, "required": ["first", "count"], "additionalProperties": False}]
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _any_of(node: Any) -> Any:
    """A part of an algorithm may leave its kind out, so several alternatives may fit: ``anyOf``, not ``oneOf``."""
    if isinstance(node, dict):
        return {"anyOf" if k == "oneOf" else k: _any_of(v) for k, v in node.items() if k != "discriminator"}
    return [_any_of(item) for item in node] if isinstance(node, list) else node
