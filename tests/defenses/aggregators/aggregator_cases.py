"""One case for every aggregator and pre-aggregator: what has to hold of it. A new plug-in without a case fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import byzfl

from autoflip_secure.interfaces import Aggregator, PreAggregator
from autoflip_secure.scenarios.config.tables import AGGREGATORS, PRE_AGGREGATORS

Bound = Callable[[int, int], float]  # (n, f) -> kappa


@dataclass(frozen=True)
class Case:
    """What holds of an aggregator beside what holds of all."""

    kind: str
    robust: bool = True  # f absurd rows move it by no more than the others are apart
    scale: bool = True  # F(a X) = a F(X)
    translation: bool = True  # F(X + t) = F(X) + t
    noise: bool = False  # draws: equal rows do not come back as they are
    hull: bool = True  # no longer than the longest row
    kappa: Bound | None = None  # (f, kappa)-robust, for every choice of n - f rows; None: it is not claimed
    oracle: Callable[[int], Any] | None = None  # byzfl's, for f

    def make(self, malicious: int = 1, rows: int = 5) -> Aggregator:
        """With that f."""
        cls: type[Aggregator] = AGGREGATORS[self.kind]
        return cls(bad_share=malicious / rows) if cls.assumes_malicious else cls()  # type: ignore[call-arg]


def r(n: int, f: int) -> float:
    """No rule is better than this."""
    return f / (n - 2 * f)


def around_median(n: int, f: int) -> float:
    """Of the median and the geometric median (Allouah et al. 2023; holds in all that is drawn here)."""
    return 4 * (1 + r(n, f)) ** 2


def of_krum(n: int, f: int) -> float:
    """Of Krum, from the same source."""
    return 6 * (1 + r(n, f))


def of_trimmed(n: int, f: int) -> float:
    """Of the trimmed mean, from the same source."""
    return 6 * r(n, f) * (1 + r(n, f))


def measured(n: int, f: int) -> float:
    """A measured bound, of rules for which no constant is quoted: nothing that was drawn exceeded it."""
    return 2 * around_median(n, f)


AGGREGATOR_CASES = [
    Case("mean", robust=False, oracle=lambda f: byzfl.Average()),
    Case("agreement", translation=False),
    Case("radial", robust=False, scale=False, translation=False),  # it scores labels: absurd rows can pass, clipped
    Case("median", kappa=around_median, oracle=lambda f: byzfl.Median()),
    Case("trimmed_mean", kappa=of_trimmed, oracle=lambda f: byzfl.TrMean(f=f)),
    Case("krum", kappa=of_krum, oracle=lambda f: byzfl.Krum(f=f)),
    Case("multi_krum", kappa=of_krum, oracle=lambda f: byzfl.MultiKrum(f=f)),
    Case("geometric_median", kappa=around_median, oracle=lambda f: byzfl.GeometricMedian(nu=1e-6, T=500)),
    Case("centered_clipping", translation=False),
    Case("norm_clip", translation=False),
    Case("weak_dp", translation=False, noise=True, hull=False),
    Case("mda", kappa=measured, oracle=lambda f: byzfl.MDA(f=f)),
    Case("meamed", kappa=measured, oracle=lambda f: byzfl.Meamed(f=f)),
    Case("dnc"),  # rows that stand out along different directions get by: no kappa
    Case("smea", kappa=measured),
    Case("caf", kappa=measured),
    Case("filtered_agreement", translation=False),
    Case("flame", translation=False, noise=True, hull=False),
    Case("fltrust", scale=False, translation=False, hull=False),  # rows are as long as the server's own update
    Case("foolsgold", robust=False, translation=False),  # one liar alone is like nobody, and has the full say
]


@dataclass(frozen=True)
class PreCase:
    """What holds of a pre-aggregator beside what holds of all."""

    kind: str
    permutation: bool = True  # permuted rows give permuted rows
    scale: bool = True
    translation: bool = False
    mixes: bool = False  # rows are means of rows; else each is its own, scaled
    oracle: Callable[[int], Any] | None = None
    changes: bool = True  # rows that are here; else it adds those of who is absent

    def make(self) -> PreAggregator:
        """As it is by default."""
        cls: type[PreAggregator] = PRE_AGGREGATORS[self.kind]
        return cls()


PRE_CASES = [
    PreCase("clip"),
    PreCase("arc", oracle=lambda f: byzfl.ARC(f=f)),
    PreCase("nnm", translation=True, mixes=True, oracle=lambda f: byzfl.NNM(f=f)),
    PreCase("bucketing", permutation=False, translation=True, mixes=True),  # buckets are drawn by place
    PreCase("last_rows", translation=True, changes=False),
]
