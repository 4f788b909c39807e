"""Data that a function of the user's own returns; a scenario that names one makes Python import its module.

The function returns a mapping (``x_train, y_train, x_test, y_test``, and ``groups``, ``class_names``, ``num_classes``
when there are any) or a pair (training, test) of which each is a ``(x, y)`` or ``(x, y, groups)`` of arrays, or a
torch Dataset whose items are such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from autoflip_secure.errors import DataError
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.scenarios.data.arrays import ORDER, REQUIRED, Order, judged
from autoflip_secure.scenarios.data.base import Arrays, DataSource, refuse_other_samples
from autoflip_secure.scenarios.plugins.factories import call
from autoflip_secure.seeds import Purpose

_FACTORY = 4  # last word of the address of what the function draws
_OPTIONAL = ("groups", "class_names", "num_classes")
_EXPECTED = f"a mapping with {', '.join(REQUIRED)}, or a pair (training, test) of torch Datasets or tuples (x, y)"


class CustomData(DataSource):
    """Your own arrays or torch Datasets, returned by a function that Python can import."""

    kind: Literal["custom"] = "custom"
    source: ClassVar[str] = "your own code"
    factory: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$",
        description="module.path:function that returns the samples; see docs/data.md for the forms",
    )
    arguments: dict[str, Any] = Field(default={}, description="keyword arguments of the function")
    order: Order = Field(default="auto", description=ORDER)

    def users_code(self) -> tuple[str, str, str]:
        """The function."""
        return "factory", self.factory, self.factory

    def read(self) -> Arrays:
        """What the function returns, checked. What it draws from global generators is the same every time."""
        place = f"data.factory = {self.factory!r}"
        with drawing_at(0, Purpose.DATA_SUBSET, _FACTORY):
            members = _members(place, call("data", self.factory, {}, self.arguments))
        count = members.pop("num_classes", None)
        if count is not None and (type(count) is not int or count < 2):
            raise DataError(f"{place}: num_classes is {count!r}, expected a whole number of at least 2")
        return judged(place, members, self.order, count)

    def rehearse(self) -> None:
        """Another call gives what the first one gave."""
        refuse_other_samples(self, f"data.factory = {self.factory!r}:")


def _members(place: str, found: Any) -> dict[str, Any]:
    """Arrays by name, of whatever form the function returned."""
    if isinstance(found, Mapping):
        absent = [name for name in REQUIRED if name not in found]
        unknown = sorted(map(str, found.keys() - {*REQUIRED, *_OPTIONAL}))
        if absent or unknown:
            what = f"without {', '.join(absent)}" if absent else f"with {', '.join(unknown)}, which is not known"
            raise DataError(f"{place}: returned a mapping {what}; return {', '.join(REQUIRED)} and, if you like, "
                            f"{', '.join(_OPTIONAL)}")  # fmt: skip
        members = {name: found[name] for name in (*REQUIRED, *_OPTIONAL) if found.get(name) is not None}
    elif isinstance(found, tuple | list) and len(found) == 2:
        (x_train, y_train, groups), (x_test, y_test, _) = (
            _part(place, part, one) for part, one in zip(("training", "test"), found, strict=True)
        )
        members = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
        if groups is not None:
            members["groups"] = groups
    else:
        raise DataError(f"{place}: returned a {type(found).__name__}, expected {_EXPECTED}")
    return {name: value if name == "num_classes" else _array(place, name, value) for name, value in members.items()}


def _part(place: str, part: str, samples: Any) -> tuple[Any, Any, Any]:
    """Inputs, labels and owners (or None) of one of the two sets."""
    if not isinstance(samples, tuple | list):
        try:
            items = [samples[number] for number in range(len(samples))]
        except Exception as error:  # a Dataset is the user's code
            raise DataError(
                f"{place}: the {part} set, a {type(samples).__name__}, cannot be read by number "
                f"({type(error).__name__}: {error!s:.200}); return a torch Dataset with __len__ and __getitem__"
            ) from error
        lengths = {len(item) if isinstance(item, tuple | list) else 0 for item in items}
        if len(lengths) != 1 or not lengths <= {2, 3}:
            raise DataError(f"{place}: items of the {part} set are not all (x, y) or all (x, y, owner)")
        samples = tuple([_array(place, "an item", value) for value in column] for column in zip(*items, strict=True))
    if len(samples) not in (2, 3):
        raise DataError(f"{place}: the {part} set has {len(samples)} parts, expected (x, y) or (x, y, owners)")
    return samples[0], samples[1], samples[2] if len(samples) == 3 else None


def _array(place: str, name: str, value: Any) -> NDArray[Any]:
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise DataError(f"{place}: {name} has {int(np.asarray(value.mask).sum())} masked values; fill or drop them")
    try:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{place}: {name} cannot be made an array ({error!s:.200}); give every sample one shape"
        ) from error
    if array.dtype.kind == "O":
        raise DataError(f"{place}: {name} holds Python objects, expected numbers (images: turned into tensors)")
    return array
