"""A class from outside -> a plug-in: imported, checked, and given the name that it is asked for by.

A plug-in of ours has its kind in its origin. One from outside is known by what the user wrote, an entry point's name or
``package.module:Class``: :func:`named` makes a subclass whose ``kind`` is that name. So records say what was
written, and two classes that call themselves the same are never taken for one another.

Importing a class runs the code of its module: run only scenarios, and install only distributions, that you trust.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ValidationError, create_model

from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Plugin
from autoflip_secure.scenarios.plugins.factories import find
from autoflip_secure.terminal.docstrings import docstring


def as_it_is(cls: Any) -> Any:
    """No adaptation."""
    return cls


@dataclass(frozen=True)
class Family:
    """Plug-ins that one key of a scenario takes."""

    key: str  # in a scenario file
    plural: str  # in ``list``
    base: type
    builtin: Mapping[str, type] = field(hash=False)
    fault: Callable[[Any], str | None] = lambda cls: None  # what is wrong with a class of this base, and the way out
    adapt: Callable[[Any], Any] = field(default=as_it_is, hash=False)  # another framework's class -> one of this base


@dataclass(frozen=True)
class Origin:
    """Where a plug-in comes from."""

    family: str
    name: str  # as it is written in a scenario
    target: str  # module:Class
    distribution: str = ""  # name and version; "" for a class that is named by its path

    def __str__(self) -> str:
        return self.name if self.name == self.target else f"{self.name} ({self.target})"


class Outside:
    """What every named plug-in from outside is, beside its own class."""

    foreign: ClassVar[bool] = True
    origin: ClassVar[Origin]
    adapt: ClassVar[Callable[[Any], Any]]  # of its family

    def users_code(self) -> tuple[str, str, str]:
        """The class itself."""
        return "kind", str(self.origin), self.origin.target

    def __reduce__(self) -> tuple[Any, ...]:
        """For workers: the class is made there again."""
        state: Any = self
        return _revived, (self.origin, type(self).adapt), state.__getstate__()


def load(family: Family, origin: Origin, place: str) -> type:
    """The class, checked and named.

    Args:
        family: what it has to be.
        origin: where it is.
        place: how messages begin: the key and its value, or the entry point and its distribution.

    Raises:
        InputError: it cannot be imported, or is no plug-in of that family; says why, and what to do.
    """
    cls = family.adapt(find(place, origin.target))
    fault = _fault(family, cls, origin)
    if fault is not None:
        raise InputError(f"{place}: {fault}")
    if not issubclass(cls, Plugin):
        found: type = cls
        return found
    try:
        return named(cls, origin, family.adapt)
    except Exception as error:  # pydantic builds what the class says, and classes can say anything
        raise InputError(
            f"{place}: cannot be used as a kind ({type(error).__name__}: {error}); mend its class"
        ) from error


@cache
def named(cls: type[Plugin], origin: Origin, adapt: Callable[[Any], Any] = as_it_is) -> type[Plugin]:
    """The subclass that answers to the source's name; the same for the same class and origin."""
    build: Any = create_model
    kind: Any = (Literal[origin.name], origin.name)
    made: Any = build(
        cls.__name__, __base__=(Outside, cls), __module__=cls.__module__, __doc__=_described(cls, origin), kind=kind
    )
    made.__qualname__, made.origin, made.adapt = cls.__qualname__, origin, staticmethod(adapt)
    found: type[Plugin] = made
    _KNOWN[origin.family, origin.name] = found
    return found


def _described(cls: type, origin: Origin) -> str | None:
    """Its docstring; the first line says which distribution it is of."""
    first, newline, rest = docstring(cls).partition("\n")
    of = f"(of {origin.distribution})" if origin.distribution else ""
    return f"{first} {of}".strip() + newline + rest or None


_KNOWN: dict[tuple[str, str], type[Plugin]] = {}


def known(family: str, name: str) -> type[Plugin] | None:
    """The class that was last given this name in this process, for messages about its options."""
    return _KNOWN.get((family, name))


def _revived(origin: Origin, adapt: Callable[[Any], Any]) -> Any:
    cls = named(adapt(find(f"{origin.family} = {origin.name!r}", origin.target)), origin, adapt)
    return cls.__new__(cls)


def _fault(family: Family, cls: Any, origin: Origin) -> str | None:
    """What is wrong with it, and the way out; None: nothing."""
    if not isinstance(cls, type):
        return f"is a {type(cls).__name__}, expected a class (a subclass of {_called(family.base)})"
    if not issubclass(cls, family.base):
        return f"{cls.__name__} is no {family.key}: it is no subclass of {_called(family.base)}; derive it from that"
    if (kind := next((kind for kind, own in family.builtin.items() if own is cls), None)) is not None:
        return f"is the built-in {kind}; write {kind!r} instead"
    if inspect.isabstract(cls):
        lacks = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        return f"{cls.__name__} is abstract: it lacks {lacks}; write that, or name a subclass that has it"
    return (_fault_of_options(cls, origin) if issubclass(cls, BaseModel) else None) or family.fault(cls)


def _fault_of_options(cls: type[BaseModel], origin: Origin) -> str | None:
    """A plug-in is a frozen configuration that takes no unknown keys."""
    if not cls.model_config.get("frozen") or cls.model_config.get("extra") != "forbid":
        return f"{cls.__name__} changes model_config: options are frozen and unknown ones refused; leave that as it is"
    own = cls.model_fields.get("kind")
    if origin.distribution and own is not None and own.default not in (origin.name, None):
        said = f"its class says kind = {own.default!r}, its entry point {origin.name!r}"
        return f"{said}; make them equal, or leave kind out of the class"
    try:
        cls.model_validate({})
    except ValidationError as error:
        wrong = [one for one in error.errors() if one["loc"] and one["type"] != "missing"]
        if wrong:
            option = ".".join(map(str, wrong[0]["loc"]))
            return f"its default of {option} is not valid ({wrong[0]['msg']}); mend its class"
    except Exception as error:  # validators are code from outside
        return f"its validation fails with {type(error).__name__}: {error}; mend its class"
    return None


def _called(cls: type) -> str:
    public = "autoflip_secure.interfaces"  # which has the names of its modules
    module = public if cls.__module__.startswith(f"{public}.") else cls.__module__
    return f"{module}.{cls.__qualname__}"
