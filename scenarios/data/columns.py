"""Columns of a table -> features, classes and owners: which column is what, and what cannot be learned from.

.. math:: x = (\\text{value} - \\text{mean}) / \\text{std}, \\text{ both of the training rows of a column}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from autoflip_secure.errors import DataError
from autoflip_secure.scenarios.data.arrays import HeldOutSource, Order, judged
from autoflip_secure.scenarios.data.base import Arrays
from autoflip_secure.terminal.near_names import near
from autoflip_secure.terminal.visible import short

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 8  # columns named in a message


class ColumnSource(HeldOutSource):
    """Samples that are rows of a table."""

    label: str = Field(default="label", description="column with the class: whole numbers or text")
    features: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, description="columns with the inputs; one may hold lists of equal length; null = all the rest"
    )
    ignore: tuple[str, ...] = Field(default=(), description="columns that are neither feature nor owner, such as ids")
    owner: str | None = Field(default=None, description="column that says whose a sample is (for by_group)")
    standardise: bool | None = Field(
        default=None,
        description="subtract the mean and divide by the standard deviation of the training rows; null = where "
        "features are columns of single numbers; false keeps whole numbers whole (token ids)",
    )

    def arrays(
        self,
        place: object,
        train: pd.DataFrame,
        test: pd.DataFrame | None,
        order: Order = "auto",
        class_names: tuple[str, ...] | None = None,
    ) -> Arrays:
        """The samples in ``train`` and ``test``.

        Args:
            place: where the tables come from, for messages.
            train: a row a sample; all samples where ``test`` is None.
            test: the test set, with the same columns but for the owner's.
            order: where the channel axis of images in a column is.
            class_names: where the source names its classes, and labels are their numbers.

        Raises:
            DataError: names the column, what was found and the way out.
        """
        columns = self._features(place, train, has_test=test is not None)
        owners = () if self.owner is None else (self.owner,)
        for part, frame, own in (("", train, owners), (" of the test set", test, ())):
            if frame is not None:
                _refuse_missing(f"{place}{part}", frame, (*columns, self.label, *own))
        y_train, y_test, names = _classes(place, self.label, train, test, class_names)
        x_train = _numbers(place, train, columns)
        x_test = None if test is None else _numbers(f"{place} of the test set", test, columns)
        groups = None if self.owner is None else np.unique(train[self.owner].astype(str), return_inverse=True)[1]
        if x_test is None or y_test is None:
            chosen = self.held_out(place, y_train)
            x_train, x_test, y_train, y_test = x_train[~chosen], x_train[chosen], y_train[~chosen], y_train[chosen]
            groups = None if groups is None else groups[~chosen]
        single = not _holds_lists(train, columns)
        if single if self.standardise is None else self.standardise:
            x_train, x_test = _standardised(x_train, x_test)
        members = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
        members["class_names"] = np.array(names)
        if groups is not None:
            members["groups"] = groups.astype(np.int64)
        return judged(place, members, order, len(names))

    def _features(self, place: object, frame: pd.DataFrame, *, has_test: bool) -> list[str]:
        there = [str(column) for column in frame.columns]
        named = [self.label, *(self.features or ()), *self.ignore, *([self.owner] if self.owner else [])]
        for name in named:
            if name not in there:
                close = near(name, there)
                raise DataError(
                    f"{place}: has no column {short(repr(name))}{f', but {short(repr(close[0]))}' if close else ''}; "
                    f"it has {_listed(there)}"
                )
        apart = {self.label, *self.ignore, self.owner}
        if self.features is None:
            found = [name for name in there if name not in apart]
        else:
            found = list(self.features)
            if self.label in found:
                raise DataError(
                    f"{place}: features names the label {self.label!r}, which would give the answer away; leave it out"
                )
        index = next((name for name in found if name.startswith(("Unnamed: ", "__index_level_"))), None)
        if index is not None and self.features is None:
            raise DataError(f"{place}: column {short(repr(index))} is a row number; name it in `ignore`")
        if not found:
            raise DataError(f"{place}: no column is left for the features; it has {_listed(there)}")
        return found


def _holds_lists(frame: pd.DataFrame, columns: list[str]) -> bool:
    return len(columns) == 1 and len(frame) > 0 and np.ndim(frame[columns[0]].iloc[0]) > 0


def _numbers(place: object, frame: pd.DataFrame, columns: list[str]) -> NDArray[Any]:
    """(n, columns), or (n, …) of the lists in a single column."""
    absent = [name for name in columns if name not in frame.columns]
    if absent:
        raise DataError(f"{place}: has no column {_listed(absent)}; give both sets the same columns")
    if _holds_lists(frame, columns):
        return _stacked(place, columns[0], frame[columns[0]].tolist())
    text = [name for name in columns if frame[name].dtype.kind not in "iufb"]
    if text:
        raise DataError(
            f"{place}: column {_listed(text)} holds text or other things that are not numbers "
            f"({short(repr(_odd(frame[text[0]])), 60)} in the first); turn it into numbers, or name it in `ignore`"
        )
    return np.ascontiguousarray(frame[columns].to_numpy())


def _odd(column: pd.Series[Any]) -> Any:
    """The first value that is no number."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce") if column.dtype.kind == "O" or column.dtype == "str" else column
    odd = column[numbers.isna()]
    return odd.iloc[0] if len(odd) else column.iloc[0]


def _stacked(place: object, name: str, rows: list[Any]) -> NDArray[Any]:
    lengths = sorted({np.shape(row)[:1] for row in rows})
    if len(lengths) > 1:
        raise DataError(
            f"{place}: column {name!r} has {lengths[0]} to {lengths[-1]} numbers a row; pad or cut them to one length"
        )
    try:
        found = np.array(
            [row.tolist() if isinstance(row, np.ndarray) and row.dtype.kind == "O" else row for row in rows]
        )
    except ValueError as error:
        raise DataError(f"{place}: column {name!r} has rows of different shapes; bring them to one") from error
    if found.dtype.kind not in "iufb":
        raise DataError(f"{place}: column {name!r} holds lists of {found.dtype}; expected lists of numbers")
    return found


def _classes(
    place: object, label: str, train: pd.DataFrame, test: pd.DataFrame | None, names: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None, tuple[str, ...]]:
    """Classes numbered in the order of their sorted values (or as the source numbers them), and their names."""
    columns = [frame[label] for frame in (train, test) if frame is not None]
    for column in columns:
        values = column.to_numpy()
        if values.dtype.kind == "f" and (values != np.floor(values)).any():
            raise DataError(
                f"{place}: label {label!r} holds {values[values != np.floor(values)][0]:g}; expected classes (whole "
                "numbers or text), and a number to predict is not a class"
            )
        if values.dtype.kind not in "iufbO" and column.dtype != "str":
            raise DataError(f"{place}: label {label!r} holds {values.dtype}; expected whole numbers or text")
    if names is not None:
        numbers = [column.to_numpy().astype(np.int64) for column in columns]
        if any(len(one) and (one.min() < 0 or one.max() >= len(names)) for one in numbers):
            raise DataError(f"{place}: label {label!r} has numbers that name none of {len(names)} classes (a test set "
                            "without labels?); choose a set with labels")  # fmt: skip
        return numbers[0], numbers[1] if len(numbers) > 1 else None, names
    numeric = all(column.dtype.kind in "iufb" for column in columns)
    written = [column.to_numpy() if numeric else column.map(str).to_numpy() for column in columns]
    values, y_train = np.unique(written[0], return_inverse=True)
    known = values.tolist()
    if len(known) < 2:
        raise DataError(f"{place}: label {label!r} holds a single class, {short(repr(known[0]))}; expected two or more")
    y_test = None
    if len(written) > 1:
        tested = written[1].tolist()
        if strange := sorted(set(tested) - set(known)):
            raise DataError(f"{place}: the test set has class {short(repr(strange[0]))}, which no training row has")
        number_of = {value: number for number, value in enumerate(known)}
        y_test = np.array([number_of[value] for value in tested], dtype=np.int64)
    return y_train.astype(np.int64), y_test, tuple(map(str, known))


def _standardised(x_train: NDArray[Any], x_test: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    train = x_train.astype(np.float64)
    mean, std = train.mean(0), train.std(0)
    scale = np.where(std > 0, std, 1.0)
    return ((train - mean) / scale).astype(np.float32), ((x_test - mean) / scale).astype(np.float32)


def _refuse_missing(place: str, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    if not len(frame):
        raise DataError(f"{place}: has no rows")
    empty = {name: frame[name].isna().to_numpy() for name in columns if name in frame.columns}
    bad = {name: rows for name, rows in empty.items() if rows.any()}
    if bad:
        said = ", ".join(
            f"{short(repr(name))} ({rows.sum()} rows, the first is row {rows.argmax() + 1})"
            for name, rows in list(bad.items())[:_SHOWN]
        )
        raise DataError(f"{place}: values are missing in {said}; fill them in, drop the rows, or ignore the column")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(short(repr(name), 60) for name in names[:_SHOWN]) + more
