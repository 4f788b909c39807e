"""Which plug-in a key of a scenario names: short forms, one union per family, and algorithms by name.

Short forms: ``data: mnist`` for ``{kind: mnist}``, ``model: "package.module:factory"`` for a model of your own,
``algorithm: autoflip`` for its pruner, aggregator and local rule, ``{name: autoflip, pruner: {threshold: 0.2}}`` to
change a part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    SerializeAsAny,
    TypeAdapter,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from autoflip_secure.interfaces import (
    Aggregator,
    Attack,
    ClientPrivacy,
    Config,
    LocalRule,
    NoAttack,
    NoLocalRule,
    NoPrivacy,
    PreAggregator,
    Pruner,
    SeveralAttacks,
)
from autoflip_secure.scenarios.config.algorithms import ALGORITHMS
from autoflip_secure.scenarios.config.plugin_families import FAMILIES, installed
from autoflip_secure.scenarios.config.plugin_options import located, outside_first
from autoflip_secure.scenarios.data.datasets import DataSource
from autoflip_secure.scenarios.data.partitions import Partition
from autoflip_secure.scenarios.models.chains import Model
from autoflip_secure.scenarios.plugins.entry_points import TARGET
from autoflip_secure.terminal.near_names import suggest


class Short:
    """JSON schema of a short form: a name, or the full mapping; of a family of plug-ins also those from outside."""

    def __init__(self, names: list[str], family: str = "") -> None:
        self.names, self.family = names, family

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        forms = [handler(core)]
        if self.family:
            others = {kind: cls for kind, cls in installed(self.family).items() if kind not in self.names}
            forms += [handler(cls.__pydantic_core_schema__) for cls in others.values()]
            named = {"type": "string", "pattern": f"^{TARGET}$", "description": "package.module:Class"}
            forms.append({"type": "object", "properties": {"kind": named}, "required": ["kind"]})
            return {"anyOf": [{"type": "string", "examples": [*self.names, *sorted(others)]}, *forms]}
        return {"anyOf": [{"type": "string", "examples": self.names}, *forms]}


def expand(key: str, value: Any) -> Any:
    """The mapping that a short form stands for; anything else as it is.

    >>> expand("data", "mnist"), expand("model", "mine.nets:small"), expand("algorithm", "fedavg")
    ({'kind': 'mnist'}, {'kind': 'custom', 'factory': 'mine.nets:small'}, {'name': 'fedavg'})
    """
    if not isinstance(value, str):
        return value
    if key in ("algorithm", "suite"):
        return {"name": value}
    if key == "model" and ":" in value:
        return {"kind": "custom", "factory": value}
    if key in FAMILIES and key != "tracker":
        return {"kind": value}
    return value


class Several:
    """JSON schema of an attack that may also be a list of attacks."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        one = handler(core)
        more = {"type": "array", "items": one, "minItems": 2, "maxItems": 16, "description": "several, in order"}
        return {"anyOf": [*one["anyOf"], more]}


def several(value: Any, handler: Callable[[Any], Any]) -> Any:
    """A list of attacks (or how it is written down, ``{kind: several, attacks: […]}``) as one; ``handler``: of one."""
    if isinstance(value, dict) and value.get("kind") == "several" and set(value) == {"kind", "attacks"}:
        value = value["attacks"]
    if not isinstance(value, list | tuple):
        return handler(value)
    found: list[Any] = []
    problems: list[InitErrorDetails] = []
    for number, one in enumerate(value):
        try:
            found.append(handler(one))
        except ValidationError as error:
            problems += [located(problem, number) for problem in error.errors()]
    if problems:
        raise ValidationError.from_exception_data("attack", problems)
    idle = [number for number, one in enumerate(found) if isinstance(one, NoAttack)]
    if idle or not 2 <= len(found) <= 16:
        what = f"its attack {idle[0] + 1} is none; leave it out" if idle else "should be 2 to 16 attacks"
        raise PydanticCustomError("several", "several attacks: {text}", {"text": f"{what}; one alone needs no list"})
    return SeveralAttacks(attacks=tuple(found))


def _with_before(value: Any) -> Any:
    """An aggregator as it is given, its pre-aggregators made.

    Raises:
        ValidationError: one of them cannot be made; with the place below the aggregator.
    """
    value = expand("aggregator", value)
    if not isinstance(value, dict) or "before" not in value:
        return value
    try:
        return {**value, "before": BEFORE.validate_python(value["before"])}
    except ValidationError as error:
        kind = str(value.get("kind", ""))
        found = [located(one, kind, "before") for one in error.errors(include_url=False)]
        raise ValidationError.from_exception_data(error.title, found) from None


if TYPE_CHECKING:
    AnyData: TypeAlias = DataSource
    AnyPartition: TypeAlias = Partition
    AnyModel: TypeAlias = Model
    AnyAttack: TypeAlias = Attack | SeveralAttacks | NoAttack
    AnyPrivacy: TypeAlias = ClientPrivacy | NoPrivacy
    AnyPruner: TypeAlias = Pruner
    AnyAggregator: TypeAlias = Aggregator
    AnyPreAggregator: TypeAlias = PreAggregator
    AnyLocalRule: TypeAlias = LocalRule | NoLocalRule
else:

    def _family(key: str) -> Any:
        table = FAMILIES[key].builtin
        union = Annotated[Union[tuple(table.values())], Field(discriminator="kind")]  # noqa: UP007 - made from a table
        outside, short_form = WrapValidator(outside_first(key)), BeforeValidator(lambda value: expand(key, value))
        return Annotated[union, outside, short_form, SerializeAsAny(), Short(sorted(table), key)]

    AnyData, AnyPartition, AnyModel = _family("data"), _family("partition"), _family("model")
    AnyAttack, AnyPrivacy = Annotated[_family("attack"), WrapValidator(several), Several()], _family("privacy")
    AnyPruner, AnyLocalRule = _family("pruner"), _family("local_rule")
    AnyPreAggregator = _family("pre_aggregator")
    AnyAggregator = Annotated[_family("aggregator"), BeforeValidator(_with_before)]

BEFORE: TypeAdapter[tuple[PreAggregator, ...]] = TypeAdapter(tuple[AnyPreAggregator, ...])
"""Reads what ``before`` of an aggregator says."""


class AlgorithmConfig(Config):
    """A pruner × an aggregator × a local rule, under the name that reports show."""

    name: str = Field(
        default="autoflip", min_length=1, description="a name of the table, or your own with pruner and aggregator"
    )
    pruner: AnyPruner
    aggregator: AnyAggregator
    local_rule: AnyLocalRule = Field(
        default=NoLocalRule(), description="what clients do besides plain steps of the optimiser"
    )

    @model_validator(mode="before")
    @classmethod
    def _merge(cls, value: Any) -> Any:
        """Fill in what the table says about ``name``; a part whose kind differs from the table's replaces it."""
        if not isinstance(value, dict):
            return value
        name = value.get("name", "autoflip")
        known = ALGORITHMS.get(name) if isinstance(name, str) else None
        merged = dict(value)
        for part in ("pruner", "aggregator", "local_rule"):
            given = expand(part, value.get(part))
            if known is not None and (given is None or isinstance(given, dict)):
                base: dict[str, Any] = getattr(known, part)
                given = given or {}
                merged[part] = {**base, **given} if given.get("kind", base["kind"]) == base["kind"] else given
            elif given is None and part != "local_rule":
                raise PydanticCustomError(
                    "algorithm", "algorithm: unknown name {name}; {hint}; or give it a pruner and an aggregator",
                    {"name": repr(name), "hint": suggest(name, ALGORITHMS), "path": "algorithm"},
                )  # fmt: skip
        return merged
