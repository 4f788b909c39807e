"""The scenario file: what is asked, with which data, against whom, on which grid.

``Settings`` is one cell without its seed: what changes numbers. ``Scenario`` adds name, question, seeds and the sweep.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from autoflip_secure.files.canonical_json import digest
from autoflip_secure.interfaces import Config
from autoflip_secure.records.newer_keys import without_newer
from autoflip_secure.records.outcome import DEFAULT, PATTERN, SHAPE
from autoflip_secure.scenarios.config.comparing import Compare
from autoflip_secure.scenarios.config.compatibility import check
from autoflip_secure.scenarios.config.families import BEFORE
from autoflip_secure.scenarios.config.fields import Fields
from autoflip_secure.scenarios.config.grid import Sweep
from autoflip_secure.scenarios.config.seed_lists import FORMS, Seeds
from autoflip_secure.scenarios.config.sources import LONGEST_NAME
from autoflip_secure.scenarios.config.suites import Suite, expand_suite
from autoflip_secure.scenarios.config.tuning import Tune

DEFAULTS: dict[str, Any] = {
    "data": "digits", "partition": "iid", "model": "mlp", "algorithm": "autoflip", "attack": "none",
    "privacy": "none",
}  # fmt: skip


class Settings(Fields):
    """Everything that changes the numbers of a cell, its seed apart."""

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        check(self)
        return self

    def resolved(self, seed: int) -> dict[str, Any]:
        """The full configuration of a cell, as plain data; newer keys (:data:`.NEWER`) only off their default."""
        return without_newer({**self.model_dump(mode="json"), "seed": seed})


_FIRST_NAMES = {"replace_unsupported_layers": "fix_modules"}  # key -> what it was called when cells got their names


def _first_named(value: Any) -> Any:
    if isinstance(value, dict):
        return {_FIRST_NAMES.get(key, key): _first_named(one) for key, one in value.items()}
    return [_first_named(one) for one in value] if isinstance(value, list) else value


def content_hash(config: dict[str, Any]) -> str:
    """Name of a cell: 16 hexadecimal digits of the SHA-256 of its canonical JSON.

    A key that was renamed counts under its first name, so that finished cells, and draws that belong to them, stay.

    >>> content_hash({"b": 1, "a": 2}) == content_hash({"a": 2, "b": 1})
    True
    """
    return digest(_first_named(config), compact=True)


class Header(Config):
    """What a scenario says about itself and its grid."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=LONGEST_NAME,
        description="letters, digits, . _ -; names the results folder",
    )
    question: str = Field(default="", description="the question that the scenario asks; shown at the top of the report")
    seeds: Seeds = Field(
        default=(10, 11, 12, 13, 14), description="every cell is run once per seed; a list, or {first, count}"
    )
    outcome: str = Field(
        default=str(DEFAULT),
        pattern=PATTERN,
        description=f"{SHAPE}: which evaluations of a run make its outcome",
    )
    compare: Compare = Field(
        default=None,
        description="what the report compares: algorithm, privacy, secure_sum, attack, another axis of the sweep, or a "
        "list of these; left out, it is found from the sweep",
    )
    suite: Annotated[Suite | None, BeforeValidator(expand_suite)] = Field(
        default=None,
        description="attacks under which every algorithm is run; the report says what the worst of them does",
    )
    tune: Tune | None = Field(
        default=None,
        description="settings that every algorithm is given its best value of, on seeds that are not reported",
    )
    sweep: Sweep | None = Field(default=None, description="axes of the grid; a list is the union of its grids")
    small: dict[str, Any] | None = Field(
        default=None,
        description="config path (or sweep.PATH) -> value: what `sweep --small` changes, to ask the same in minutes",
    )
    form: Literal["full", "small"] = Field(
        default="full", description="small: what `sweep --small` made; the report says so"
    )


class Scenario(Header, Settings):
    """A whole scenario file; its JSON schema is what ``autoflip-secure schema`` prints."""


def json_schema() -> dict[str, Any]:
    """JSON schema of a scenario file, for editors. Keys that :data:`DEFAULTS` fills are not required."""
    schema: dict[str, Any] = _any_of(Scenario.model_json_schema())
    _list_before(schema)
    _name_inner(schema, schema["$defs"])
    schema["required"] = [key for key in schema.get("required", []) if key not in DEFAULTS and key != "name"]
    schema["$defs"]["AlgorithmConfig"].pop("required", None)
    for key, value in DEFAULTS.items():
        schema["properties"][key]["default"] = value
    for place in (schema["properties"], schema["$defs"]["Tune"]["properties"]):
        place["seeds"] = {"anyOf": [place["seeds"], FORMS]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _list_before(schema: dict[str, Any]) -> None:
    """What ``before`` of an aggregator takes: the class says no more than that they are pre-aggregators."""
    inner = _any_of(BEFORE.json_schema(ref_template="#/$defs/{model}"))
    schema["$defs"] |= inner.pop("$defs")

    def fill(node: Any) -> None:
        for one in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            fill(one)
        own = node.get("properties", {}).get("before", {}) if isinstance(node, dict) else {}
        if own.get("items", {}).get("$ref", "").endswith("/PreAggregator"):
            own["items"] = inner["items"]

    fill(schema)
    schema["$defs"].pop("PreAggregator", None)


def _name_inner(node: Any, defs: dict[str, Any]) -> None:
    """Plug-ins from outside stand in place; give each a name among the others."""
    if isinstance(node, list):
        for one in node:
            _name_inner(one, defs)
    if not isinstance(node, dict):
        return
    for one in [*node.values()]:
        _name_inner(one, defs)
    for number, one in enumerate(node.get("anyOf", [])):
        kind = one.get("properties", {}).get("kind", {}).get("const")
        if kind is not None:
            name = f"{one['title']}.{kind}"
            defs[name] = one
            node["anyOf"][number] = {"$ref": f"#/$defs/{name}"}


def _any_of(node: Any) -> Any:
    """A part of an algorithm may leave its kind out, so several alternatives may fit: ``anyOf``, not ``oneOf``."""
    if isinstance(node, dict):
        return {"anyOf" if k == "oneOf" else k: _any_of(v) for k, v in node.items() if k != "discriminator"}
    return [_any_of(item) for item in node] if isinstance(node, list) else node
