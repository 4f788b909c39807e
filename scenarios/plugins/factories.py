"""``module.path:function`` -> what a user's own function makes, a model or data.

Every way in which this can fail gets one sentence with the place.

A scenario file that names a factory makes Python import that module: run only scenarios that you trust.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autoflip_secure.errors import InputError
from autoflip_secure.terminal.advice import without_unsafe_advice
from autoflip_secure.terminal.near_names import near


def call(family: str, factory: str, offered: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    """What ``factory`` returns.

    Args:
        family: ``model`` or ``data``, whose ``factory`` and ``arguments`` they are.
        factory: ``module.path:function``; the function may also be a class, or an attribute of one (``a.b:C.make``).
        offered: keywords that are passed when the signature has them, or takes any.
        arguments: the user's keywords; always passed, and they win over ``offered``.

    Raises:
        InputError: no such module or function, not callable, arguments that do not fit, an error inside.
    """
    place = f"{family}.factory = {factory!r}"
    function = find(place, factory)
    if not callable(function):
        wanted = f"a function or class that returns the {family}"
        raise InputError(f"{place}: is a {type(function).__name__}, expected {wanted}")
    keywords = {**_accepted(function, offered), **arguments}
    try:
        inspect.signature(function).bind(**keywords)
    except TypeError as error:
        raise InputError(
            f"{place}: cannot be called with {', '.join(keywords) or 'no arguments'} ({error}); change "
            f"{family}.arguments to fit its signature {inspect.signature(function)}"
        ) from error
    except ValueError:  # some built-in callables have no signature; the call itself will tell
        pass
    try:
        return function(**keywords)
    except (Exception, SystemExit) as error:  # it is the user's code: it can fail in any way
        raise InputError(
            f"{place}: failed with {_what(error)}; mend the function, or change {family}.arguments"
        ) from error


def find(place: str, name: str) -> Any:
    """What stands at ``module.path:attribute``; importing it runs the user's code.

    Args:
        place: how messages begin, ``model.factory = …``.
        name: the module, a colon, and a name in it, or in what has that name (``a.b:C.make``).

    Raises:
        InputError: there is no such module, it cannot be imported, or it has no such name.
    """
    path, _, attribute = name.partition(":")
    if path.partition(".")[0] == "__main__":
        raise InputError(
            f"{place}: __main__ is the script or notebook that is being run, from which other processes cannot import; "
            f"put {attribute} into a module, a file of its own, and name that"
        )
    try:
        found: Any = importlib.import_module(path)
    except (Exception, SystemExit) as error:  # importing runs the user's code
        raise InputError(f"{place}: cannot import {path} ({_what(error)}); {_mend(path, error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = sorted(key for key in vars(found) if callable(getattr(found, key)) and not key.startswith("_"))
            close = f"did you mean {near(part, public)[0]!r}? " if near(part, public) else ""
            raise InputError(
                f"{place}: {getattr(found, '__name__', path)} has no {part!r}; "
                f"{close}it has {', '.join(public) or 'no functions'}"
            )
        found = getattr(found, part)
    return found


def source_file(place: str, name: str) -> Path | None:
    """The file that the module of ``name`` is read from; None when it has none (built in, or a namespace).

    Args:
        place: how messages begin.
        name: ``module.path:attribute``.

    Raises:
        InputError: there is no such module.
    """
    path = name.partition(":")[0]
    module = sys.modules.get(path)
    try:
        spec = module.__spec__ if module is not None else importlib.util.find_spec(path)
    except (Exception, SystemExit) as error:  # a package above it is imported
        raise InputError(f"{place}: cannot import {path} ({_what(error)}); {_mend(path, error)}") from error
    if module is None and spec is None:
        raise InputError(f"{place}: no module {path}; put its folder on PYTHONPATH")
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _what(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"SystemExit: it ends the program with {error.code!r}"
    return f"{type(error).__name__}: {without_unsafe_advice(str(error))}"


def _mend(path: str, error: BaseException) -> str:
    """The way out of a failed import: the module is not there, what it imports is not, or it fails itself."""
    if isinstance(error, ModuleNotFoundError) and error.name and f"{path}.".startswith(f"{error.name}."):
        if path.endswith(".py"):
            return f"name the module, not its file: {path.removesuffix('.py')}:…"
        close = near(path.partition(".")[0], (file.stem for file in Path().glob("*.py")))
        return f"{f'did you mean {close[0]}? ' if close else ''}install it, or put its folder on PYTHONPATH"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"it is there, but needs {error.name}: install that, or mend the import"
    if isinstance(error, SyntaxError):
        return "mend the line"
    return "it is there, but fails while it is imported: mend it"


def _accepted(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return dict(offered)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(offered)
    by_name = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {key: value for key, value in offered.items() if key in by_name}
