"""What ``autoflip-secure list`` shows: derived from the tables, a line each from the docstrings, and every option."""

from __future__ import annotations

import json
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from autoflip_secure.interfaces import Plugin
from autoflip_secure.scenarios.config.compatibility import needed
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import presets
from autoflip_secure.scenarios.config.tables import (
    AGGREGATORS,
    ALGORITHMS,
    ATTACKS,
    DATASETS,
    MODELS,
    PARTITIONS,
    PRIVACY,
    PRUNERS,
)
from autoflip_secure.secure_rows.secure_sum import SecureSumConfig


def plugins() -> dict[str, dict[str, type[Plugin]]]:
    """Family -> kind -> class."""
    return {
        "attacks": {**ATTACKS},
        "aggregators": {**AGGREGATORS},
        "pruners": {**PRUNERS},
        "datasets": {**DATASETS},
        "partitions": {**PARTITIONS},
        "models": {**MODELS},
        "privacy": {**PRIVACY},
    }


def options(family: str, name: str) -> dict[str, str]:
    """Key -> default and description of every setting of one entry; none for what is no plug-in."""
    plugin = plugins().get(family, {}).get(name)
    found = {}
    for key, field in plugin.model_fields.items() if plugin is not None else ():
        if key == "kind":
            continue
        value = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        default = "required" if field.is_required() else json.dumps(value)
        choices = f"one of {', '.join(get_args(field.annotation))}" if get_origin(field.annotation) is Literal else ""
        description = "; ".join(part for part in (field.description or _description(field), choices) if part)
        found[key] = f"{default}  ({description})" if description else default
    return found


def _description(field: FieldInfo) -> str:
    """Of a field whose annotation carries it: ``Annotated[int, Field(description=…)] | None``."""
    for argument in get_args(field.annotation):
        for extra in getattr(argument, "__metadata__", ()):
            if isinstance(extra, FieldInfo) and extra.description:
                return extra.description
    return ""


def catalogue() -> dict[str, dict[str, str]]:
    """Family -> name -> one line."""
    families = {
        family: {kind: (cls.__doc__ or "").strip().splitlines()[0] for kind, cls in table.items()}
        for family, table in plugins().items()
    }
    families["algorithms"] = {name: algorithm.description for name, algorithm in ALGORITHMS.items()}
    families["secure_sum"] = {
        **{name: field.description or "" for name, field in SecureSumConfig.model_fields.items()},
        **{f"updates of {kind}": needed(cls) for kind, cls in AGGREGATORS.items()},
    }
    families["presets"] = {
        name: " ".join(str(Document.read(path).data.get("question", "")).split()) for name, path in presets().items()
    }
    return families
