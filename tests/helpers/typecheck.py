"""Signatures that state shapes are checked while the tests run: shapes by jaxtyping, types by beartype.

Functions and methods are wrapped once, when their module is imported; jaxtyping's own import hook wraps everything, and
functions inside of functions anew in every call, which made the suite a third slower. Beartype checks a call as it
happens, in one of jaxtyping's contexts; ``jaxtyped(typechecker=…)`` words errors better, and checks arguments twice.
Plain types are mypy's.
"""

import functools
import re
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import FunctionType, ModuleType

from beartype import BeartypeConf, beartype
from jaxtyping import jaxtyped

UNCHECKED = ("autoflip_secure.scenarios", "autoflip_secure.reports")  # they state no shapes
_beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True))
_ONE_CALL = jaxtyped("context")  # a stack inside: calls may nest
_SHAPES = re.compile(r"\b(Bool|Float|Int|Num|Shaped)\[")


def states_shapes(function: FunctionType) -> bool:
    """Whether a signature speaks of shapes."""
    return any(_SHAPES.search(str(annotation)) for annotation in function.__annotations__.values())


def _check(function: FunctionType, known: dict[str, object]) -> FunctionType:
    """``function``, whose arguments and result have to agree in their dimensions; ``known``: names of its module."""
    if function.__globals__ is not known:  # made by a library, such as the constructor of a named tuple
        texts = {name: getattr(hint, "__forward_arg__", hint) for name, hint in function.__annotations__.items()}
        function.__annotations__ = {
            name: eval(hint, known) if isinstance(hint, str) else hint for name, hint in texts.items()
        }
    strict = _beartyped(function)

    @functools.wraps(function)
    def checked(*args: object, **kwargs: object) -> object:
        with _ONE_CALL:
            return strict(*args, **kwargs)

    return checked  # type: ignore[return-value]


def _checked(value: object, known: dict[str, object]) -> object:
    """``value`` itself, or wrapped if its signature states shapes."""
    if isinstance(value, staticmethod | classmethod):
        return type(value)(_checked(value.__func__, known))
    if isinstance(value, property):
        return property(*(_checked(one, known) for one in (value.fget, value.fset, value.fdel)), value.__doc__)
    if isinstance(value, cached_property):
        value.func = _checked(value.func, known)  # type: ignore[assignment]
        return value
    return _check(value, known) if isinstance(value, FunctionType) and states_shapes(value) else value


def _wrap(module: ModuleType) -> None:
    known = vars(module)
    for name, value in list(known.items()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, type):
            for inner, method in list(vars(value).items()):
                wrapped = _checked(method, known)
                if wrapped is not method:
                    setattr(value, inner, wrapped)
        else:
            setattr(module, name, _checked(value, known))


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _wrap(module)


class _Finder:
    """Finds modules of the project as everybody else does, and checks them once they are there."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] != "autoflip_secure" or name.startswith(UNCHECKED):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = next((spec for finder in others if (spec := finder.find_spec(name, path, target)) is not None), None)
        if found is not None and found.origin is not None:  # its loader may be pytest's, which rewrites assertions
            found.loader = _Loader(name, found.origin)
        return found


def install() -> None:
    """Check signatures from the next import of one of the project's modules on."""
    sys.meta_path.insert(0, _Finder())
