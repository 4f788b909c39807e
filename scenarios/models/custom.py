"""A model that a function of the user's own returns; see :mod:`.factories`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.plugins.factories import call


def call_factory(factory: str, offered: Mapping[str, Any], arguments: Mapping[str, Any]) -> nn.Module:
    """The module that ``factory`` makes; see :func:`call`.

    Raises:
        InputError: it cannot be called, or returns no nn.Module.
    """
    module = call("model", factory, offered, arguments)
    if not isinstance(module, nn.Module):
        raise InputError(
            f"model.factory = {factory!r}: gave a {type(module).__name__}, expected a torch.nn.Module; let it return "
            "the model"
        )
    return module
