"""A record that lies in a file: what is asked of all records of a sweep is at hand, the rest is read when it is needed.

Ten thousand whole records take more than a gigabyte. Resuming a sweep, or judging whether it has learned, asks each
for its configuration, its ledger and the numbers of its rounds: :class:`Known`. What a :class:`StoredRecord` has beyond
that it reads from its file as soon as anybody asks for it, and is from then on the :class:`.RunRecord` of that file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from pydantic import TypeAdapter

from autoflip_secure.records.curve import Curve
from autoflip_secure.records.run import RunRecord

PLAIN: Final = ("cell", "algorithm", "seed", "parameters", "final_accuracy", "final_loss")
"""Fields of which their value is known."""

TEXTS: Final = ("config", "axes", "tuning", "data", "trainer", "privacy", "secure_sum", "versions")
"""Fields that are known as JSON, and become objects when they are asked for."""

COUNTS: Final = ("round", "participants", "rejected")
"""Rows of :class:`.Curve` that are whole numbers."""

_LARGE = ("config", "axes")  # parsed whenever they are asked for: quicker than a gigabyte of them is paged
_FROM = "_from"  # where an unread record keeps what it knows; no field has the name


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a record without its file."""

    plain: tuple[Any, ...]  # the fields :data:`PLAIN`
    texts: tuple[str | None, ...]  # the fields :data:`TEXTS` as JSON; None: the field is None
    absent: frozenset[str]  # other fields that are None
    numbers: np.ndarray  # float64 (rows of Curve, rounds), NaN for None

    @classmethod
    def of(cls, record: RunRecord) -> Self | None:
        """None where a number is not finite, which no file of a sweep holds: such a record is kept whole."""
        numbers = np.array(record.curve, dtype=np.float64).reshape(len(Curve._fields), -1)
        lacking = np.array([[value is None for value in row] for row in record.curve], dtype=bool)
        if not np.isfinite(numbers[~lacking.reshape(numbers.shape)]).all():
            return None
        found = record.model_dump(mode="json", include=set(TEXTS))
        texts = tuple(None if found.get(name) is None else json.dumps(found[name]) for name in TEXTS)
        absent = frozenset(n for n in RunRecord.model_fields if n not in TEXTS + PLAIN and getattr(record, n) is None)
        return cls(tuple(getattr(record, name) for name in PLAIN), texts, absent, numbers)

    def has(self, name: str) -> bool:
        """Whether a field is not None."""
        if name in PLAIN:
            return self.plain[PLAIN.index(name)] is not None
        return self.texts[TEXTS.index(name)] is not None if name in TEXTS else name not in self.absent

    def field(self, name: str) -> Any:
        """A field of the record.

        Raises:
            KeyError: it is not known.
            ValueError: what is known is none that a record can have.
        """
        if name in PLAIN:
            return self.plain[PLAIN.index(name)]
        if name in TEXTS:
            text = self.texts[TEXTS.index(name)]
            return None if text is None else _adapter(name).validate_json(text)
        if name in self.absent:
            return None
        raise KeyError(name)

    @property
    def curve(self) -> Curve:
        """The numbers of its rounds side by side."""
        rows = zip(Curve._fields, self.numbers.tolist(), strict=True)
        return Curve._make([*map(int, row)] if name in COUNTS else _with_gaps(row) for name, row in rows)


def _with_gaps(numbers: list[float]) -> list[Any]:
    return [None if math.isnan(number) else number for number in numbers]


def stored(known: Known, read: Callable[[], RunRecord]) -> RunRecord:
    """A record of which nothing is read that nobody asks for.

    Args:
        known: what is at hand.
        read: gives the whole record; what it raises is raised by the attribute or method that needs it.
    """
    record = StoredRecord.__new__(StoredRecord)
    _put(record, {_FROM: (known, read)}, set())
    return record


def is_whole(record: RunRecord) -> bool:
    """Whether everything of it is in memory."""
    return not isinstance(record, StoredRecord)


class StoredRecord(RunRecord):
    """See :func:`stored`; once it is whole its class is :class:`.RunRecord`, as if it had always been one."""

    def has(self, field: str) -> bool:
        """Whether a field is not None."""
        source = self.__dict__.get(_FROM)
        return getattr(self, field) is not None if source is None else source[0].has(field)

    @property
    def curve(self) -> Curve:
        """The numbers of its rounds side by side."""
        source = self.__dict__.get(_FROM)
        return Curve.of(self.rounds) if source is None else source[0].curve

    if not TYPE_CHECKING:  # for a type checker it has the fields and methods of its class

        def __getattr__(self, name: str) -> Any:
            if name not in RunRecord.model_fields:
                return super().__getattr__(name)
            if (source := self.__dict__.get(_FROM)) is not None:
                try:
                    found = source[0].field(name)
                except (KeyError, ValueError):  # not known, or not as it should be
                    pass
                else:
                    if name not in _LARGE:
                        self.__dict__[name] = found
                    return found
            return getattr(whole(self), name)

        def _whole_first(name: str) -> Callable[..., Any]:  # noqa: N805 - makes methods
            def method(self: StoredRecord, *args: Any, **options: Any) -> Any:
                return getattr(RunRecord, name)(whole(self), *args, **options)

            method.__name__ = name
            return method

        def __eq__(self, other: object) -> bool:
            return self is other or whole(self) == (whole(other) if isinstance(other, StoredRecord) else other)

        __hash__ = None
        for _name in (
            "model_dump", "model_dump_json", "model_copy", "__iter__", "__repr__", "__str__", "__copy__",
            "__deepcopy__", "__getstate__", "__repr_args__",
        ):  # fmt: skip
            locals()[_name] = _whole_first(_name)
        del _name, _whole_first

        def __reduce_ex__(self, protocol: Any) -> Any:
            return whole(self).__reduce_ex__(protocol)


def whole(record: RunRecord) -> RunRecord:
    """The same record, with everything in memory: it needs no file from now on."""
    if (source := record.__dict__.get(_FROM)) is not None:
        found = source[1]()
        _put(record, found.__dict__, found.__pydantic_fields_set__)
        object.__setattr__(record, "__class__", RunRecord)
    return record


def _put(record: RunRecord, fields: dict[str, Any], named: set[str]) -> None:
    """Make ``fields`` all that it has, unchecked: they come from a record that was checked."""
    object.__setattr__(record, "__dict__", fields)
    object.__setattr__(record, "__pydantic_fields_set__", named)
    object.__setattr__(record, "__pydantic_extra__", None)
    object.__setattr__(record, "__pydantic_private__", None)


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    kind: Any = RunRecord.model_fields[name].annotation
    return TypeAdapter(kind)
