"""What an audit tests: the ledger's claim on some releases, and the same mechanisms with more or with less noise.

The claims form a ladder. Level 0 is the ledger's own, each level up has 4 % less noise than the one below, and of every
level the accountants prove a trade-off curve. What an attacker *showed* is the epsilon of the highest level that its
guesses refute: a ledger of these mechanisms that prints less than that is not true. It reaches what is proven exactly
when the ledger's own curve is refuted.

*Calibrated* noise is the scenario's times one factor for everything, so that epsilon is about 1. There guesses tell a
wrong clip norm, a wrong scale, missing noise or a release that nobody counted, whatever the scenario's own target is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from autoflip_secure.attacks.inference.empirical_epsilon import Curve
from autoflip_secure.defenses.privacy.accountants import (
    WHOLE,
    Count,
    Mechanism,
    by_client,
    counted,
    rdp_epsilon,
    released_by,
)
from autoflip_secure.defenses.privacy.calibration import noise_multiplier_for
from autoflip_secure.defenses.privacy.guarantees import epsilons
from autoflip_secure.defenses.privacy.ledger import deltas, releases
from autoflip_secure.defenses.privacy.pld import tightest
from autoflip_secure.defenses.privacy.schedule import ReleaseSchedule, schedule_of
from autoflip_secure.defenses.privacy.trade_off import profile
from autoflip_secure.federation.cell import Cell
from autoflip_secure.records.privacy import Observer, Relation

CALIBRATED = 1.5
"""Epsilon of the calibrated noise by RDP, which is quick; the tighter accountant says less."""
STEP = 2 ** (1 / 16)
"""Between the noise of two levels."""
HIGHEST = 160
"""Level with a thousandth of the noise."""
_MUCH = 64.0  # noise multiplier of the first level above "nothing was released"
_LITTLE = 0.005  # epsilon of the first level above "nothing is claimed"


@dataclass(frozen=True)
class Claim:
    """What is claimed of some releases.

    ``count``: the mechanisms; () where the ledger knows of no release; None where nothing is claimed, and levels are
    all that is (epsilon, delta)-DP.
    """

    count: Count | None
    delta: float
    relation: Relation | None = None
    claimed: float | None = None  # epsilon that is claimed without a proof, and that ``count`` would just keep

    @property
    def proven(self) -> float | None:
        """Epsilon at delta; None: nothing is proven, or nothing finite."""
        return None if self.count is None or self.claimed is not None else self.epsilon(0)

    def epsilon(self, level: int) -> float | None:
        """Epsilon at delta of one level; None: no finite bound."""
        if self.count is None:
            return max(0.0, _LITTLE * (STEP**level - 1))
        return tightest(self._at(level), self.delta)

    def curve(self, level: int, *, quick: bool = False) -> Curve:
        """Trade-off curve of one level; ``quick``: one that is not below it."""
        if self.count is None:
            return Curve(np.array([self.epsilon(level)]), np.array([self.delta]))
        return Curve(*profile(self._at(level), quick=quick))

    def shown(self, refutes: Callable[[Curve], bool]) -> float:
        """Epsilon of the highest level that is refuted; 0 if none is."""

        def fails(level: int) -> bool:
            quick = self.curve(level, quick=True)  # takes no time, and is the whole one where nothing is sampled
            if refutes(quick):
                return True
            whole = self.curve(level)
            return not np.array_equal(quick.deltas, whole.deltas) and refutes(whole)

        low, high = 0, 1
        if fails(0):
            while high <= HIGHEST and fails(high):
                low, high = high, 2 * high
        else:
            low, high = -1, 0
            while self.count and low >= -HIGHEST and not fails(low):
                low, high = 2 * low, low
            if not self.count or low < -HIGHEST:
                return 0.0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fails(middle) else (low, middle)
        known = (self.epsilon(level) for level in range(low, -HIGHEST - 1, -1))
        return next((epsilon for epsilon in known if epsilon is not None), 0.0)

    def _at(self, level: int) -> Count:
        assert self.count is not None
        if not self.count:
            return ((Mechanism(_MUCH * STEP**-level, 1.0, "none"), 1),) if level > 0 else ()
        return quieter(self.count, STEP**-level)


def quieter(count: Count, factor: float) -> Count:
    """The same mechanisms with noise times ``factor``."""
    return tuple((m._replace(noise_multiplier=m.noise_multiplier * factor), steps) for m, steps in count)


def audited(cell: Cell, delta: float | None = None) -> ReleaseSchedule:
    """The schedule of a private cell, with one delta throughout: as given, or that of the client that pays most."""
    schedule = schedule_of(cell)
    if delta is not None:
        return replace(schedule, delta=delta)
    if schedule.unit == "client":
        return replace(schedule, delta=deltas(schedule)[None])
    return replace(schedule, delta=deltas(schedule)[most_exposed(cell, schedule.honest)])


def most_exposed(cell: Cell, among: Sequence[int]) -> int:
    """The one of these honest clients for whom the ledger proves least at sample level, each at its own delta."""
    schedule = schedule_of(cell)
    found, _ = releases(schedule, "server")
    known = {entry.client: inf if entry.epsilon is None else entry.epsilon for entry in epsilons(schedule, found)}
    return max(among, key=lambda client: known.get(client, 0.0))


def claim(
    schedule: ReleaseSchedule, observer: Observer, client: int | None = None, only: str | None = None
) -> Claim | None:
    """What is proven against ``observer``; None: nothing.

    Args:
        schedule: of the run, with its delta.
        observer: who looks.
        client: for whom; None: for the one that pays most.
        only: of the releases with this name alone; a ledger that has none claims that there is nothing to see.
    """
    found, reason = releases(schedule, observer)
    if reason or not found:
        return None
    assert schedule.delta is not None
    own = by_client(found).values() if client is None else [released_by(found, client)]
    counts = [counted(release for release in mine if only in (release.name, None)) for mine in own]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return None
    return weaker([Claim(count, schedule.delta, found[0].relation) for count in known])


def unproven_claim(schedule: ReleaseSchedule, relation: Relation = "replace one client") -> Claim | None:
    """What a mechanism claims of itself without a proof; None: nothing.

    As a claim on Gaussian mechanisms, which its noise is: as many releases as one client makes at most, with the least
    noise / distance of two neighbours that keeps what is claimed. Whoever refutes that has shown that neighbours are
    further apart, and so that epsilon is larger.
    """
    if schedule.claimed is None:
        return None
    (epsilon, delta), uploads = schedule.claimed, max(map(len, map(schedule.rounds_of, schedule.honest)), default=0)
    if not uploads:
        return None

    def kept(noise: float) -> Count:
        return ((Mechanism(noise, 1.0, "none"), uploads),)

    noise = noise_multiplier_for(epsilon, lambda one: tightest(kept(one), delta))
    return Claim(kept(noise), delta, relation, epsilon)


def weaker(claims: Sequence[Claim | None]) -> Claim | None:
    """The one with the largest epsilon, by RDP; None where one of them claims nothing."""

    def epsilon(one: Claim) -> float:
        known = None if one.count is None else rdp_epsilon(one.count, one.delta, WHOLE)
        return inf if known is None else known

    known = [one for one in claims if one is not None and one.count is not None]
    return max(known, key=epsilon) if known and len(known) == len(claims) else None


def factor_for(count: Count, delta: float) -> float:
    """What all noise has to be multiplied by, so that epsilon of ``count`` is :data:`CALIBRATED`."""
    return noise_multiplier_for(CALIBRATED, lambda factor: rdp_epsilon(quieter(count, factor), delta, WHOLE))


def scaled(cell: Cell, factor: float) -> Cell:
    """The cell with all noise of its mechanism times ``factor``; clip norms and everything else stay."""
    protocol, mechanism = cell.protocol, cell.protocol.mechanism
    if mechanism is not None:
        protocol = protocol.model_copy(update={"privacy": mechanism.scaled(factor)})
    noise = tuple(factor * one for one in cell.noise_multipliers)
    return replace(cell, protocol=protocol, noise_multipliers=noise)
