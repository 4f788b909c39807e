"""``module.path:function`` -> a user's own module. Every way in which this can fail gets one sentence with the place.

A scenario file that names a factory makes Python import that module: run only scenarios that you trust.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from autoflip_secure.errors import InputError


def call_factory(factory: str, offered: Mapping[str, Any], arguments: Mapping[str, Any]) -> nn.Module:
    """The module that ``factory`` makes.

    Args:
        factory: ``module.path:function``; the function may also be a class, or an attribute of one (``a.b:C.make``).
        offered: keywords that are passed when the signature has them, or takes any.
        arguments: the user's keywords; always passed, and they win over ``offered``.

    Raises:
        InputError: no such module or function, not callable, arguments that do not fit, an error inside, no nn.Module.
    """
    place = f"model.factory = {factory!r}"
    function = _find(place, factory)
    keywords = {**_accepted(function, offered), **arguments}
    try:
        inspect.signature(function).bind(**keywords)
    except TypeError as error:
        raise InputError(
            f"{place}: cannot be called with {', '.join(keywords) or 'no arguments'} ({error}); change model.arguments "
            f"to fit its signature {inspect.signature(function)}"
        ) from error
    except ValueError:  # some built-in callables have no signature; the call itself will tell
        pass
    try:
        module = function(**keywords)
    except Exception as error:  # it is the user's code: it can fail in any way
        raise InputError(f"{place}: failed with {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise InputError(
            f"{place}: gave a {type(module).__name__}, expected a torch.nn.Module; let it return the model"
        )
    return module


def _find(place: str, factory: str) -> Callable[..., Any]:
    path, _, attribute = factory.partition(":")
    try:
        found: Any = importlib.import_module(path)
    except Exception as error:  # importing runs the user's code
        raise InputError(
            f"{place}: cannot import {path} ({type(error).__name__}: {error}); install it, or put its folder on "
            f"PYTHONPATH"
        ) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            public = sorted(key for key in vars(found) if callable(getattr(found, key)) and not key.startswith("_"))
            raise InputError(
                f"{place}: {getattr(found, '__name__', path)} has no {name!r}; "
                f"it has {', '.join(public) or 'no functions'}"
            )
        found = getattr(found, name)
    if not callable(found):
        raise InputError(f"{place}: is a {type(found).__name__}, expected a function or class that returns the model")
    function: Callable[..., Any] = found
    return function


def _accepted(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return dict(offered)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(offered)
    by_name = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {key: value for key, value in offered.items() if key in by_name}
