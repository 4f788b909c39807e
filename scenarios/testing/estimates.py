r"""A mean over seeds with its 95 % t interval, in a form that reads well in an assertion.

.. math:: \bar x \pm t_{0.975,\,n-1}\; s / \sqrt n
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from autoflip_secure.errors import InputError
from autoflip_secure.records.t_interval import half_width


@dataclass(frozen=True)
class Estimate:
    """One number per seed, with their mean and interval.

    >>> a = Estimate("accuracy()", (1, 2, 3), (0.7, 0.8, 0.9))
    >>> a.n, round(a.mean, 2), round(a.lower, 3), round(a.upper, 3)
    (3, 0.8, 0.552, 1.048)
    """

    name: str  # what was asked, for messages
    seeds: tuple[int, ...]
    values: tuple[float, ...]  # in the order of ``seeds``

    @property
    def n(self) -> int:
        """Number of seeds."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return fmean(self.values)

    @property
    def lower(self) -> float:
        """Lower end of the 95 % interval of the mean.

        Raises:
            InputError: one seed only.
        """
        return self.mean - self._half_width()

    @property
    def upper(self) -> float:
        """Upper end of the 95 % interval of the mean.

        Raises:
            InputError: one seed only.
        """
        return self.mean + self._half_width()

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference paired by seed: its interval is narrower than those of its parts suggest.

        Raises:
            InputError: the two were run with different seeds, so there are no pairs.
        """
        if self.seeds != other.seeds:
            raise InputError(
                f"{self.name} has seeds {list(self.seeds)} and {other.name} has {list(other.seeds)}; only results of "
                f"the same seeds can be paired"
            )
        values = tuple(a - b for a, b in zip(self.values, other.values, strict=True))
        return Estimate(f"{self.name} - {other.name}", self.seeds, values)

    def __repr__(self) -> str:
        if self.n == 1:
            return f"<{self.name} = {self.mean:.4g}, one seed>"
        return f"<{self.name} = {self.mean:.4g} [{self.lower:.4g}, {self.upper:.4g}], {self.n} seeds>"

    def _half_width(self) -> float:
        __tracebackhide__ = True
        if self.n < 2:
            raise InputError(
                f"{self.name}: there is one seed only ({self.seeds[0]}), and one number has no interval; give the "
                f"scenario more seeds (seeds: {{first: 10, count: 5}}), or assert on .mean"
            )
        return half_width(self.values)
