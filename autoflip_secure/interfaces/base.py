"""What every plug-in is: a frozen, validated configuration."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from autoflip_secure.terminal.docstrings import docstring


def _with_source(schema: dict[str, Any], cls: type[Any]) -> None:
    if cls.source:
        schema["$comment"] = cls.source
    if threat := getattr(cls, "threat", None):  # of an attack: its card
        schema["x-threat"] = str(threat)


class Config(BaseModel):
    """Frozen, and unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, json_schema_extra=_with_source
    )

    source: ClassVar[str] = ""  # paper and section or equation, or whose idea it is: `list` and `init` show it

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Its docstring is for people (``list``, ``schema``), and there however Python was started."""
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__doc__ is None:
            cls.__doc__ = docstring(cls) or None


class Plugin(Config):
    """A configuration with a ``kind: Literal[...]``; the first line of its docstring is what ``list`` prints."""

    foreign: ClassVar[bool] = False
    """Whether its code is not of this package: it is tried out before it is run, and proofs do not take its word."""

    def users_code(self) -> tuple[str, str, str] | None:
        """Code of users that it runs: the option that names it, what is written there, and ``module:name``; or None."""
        return None


def called(plugin: Plugin) -> str:
    """Its kind, as a scenario names it; of one without a kind the name of its class."""
    return str(getattr(plugin, "kind", type(plugin).__name__))
