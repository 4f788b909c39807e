r"""What hides a client in the noised sum of a round: from who knows the cohort, who does not, and who was in it itself.

.. math::
    \text{noise / clip norm} = \sigma \sqrt{\min(1, s / m)}, \qquad \text{rate} = d / n

with m the expected cohort, s the shares of noise that the observer cannot subtract, and d of n clients drawn without
replacement as far as the observer knows. h of the H clients that never misbehave take part in the round:

| cohorts | noise | observer | s | d of n |
|---|---|---|---|---|
| Poisson | central | anybody | m | each with chance m/N |
| fixed | central | outside | m | h of H |
| fixed | central | another client | m | h of H - 1; in rounds of its own h - 1, which hides better |
| fixed | distributed | outside | h | h of H |
| fixed | distributed | another client | h; in rounds of its own h - 1 | h of H - 1; in rounds of its own h - 1 |

The other client is one that never misbehaves. Who ever misbehaves is taken to tell everybody its noise, and in which
rounds it takes part, from the beginning; beyond that it knows its own row. So how many of the others take part is
known, and given their number they are a sample without replacement; a rate of m/N would be too small for rounds to
which many of them came. Poisson cohorts are independent coins: they tell a client nothing about another's.

**Clients that remember.** A row may depend on what its client kept from earlier rounds, and so on its earlier draws.
Poisson: given everything published before, a client is drawn with chance m/N whatever it remembers, and what others
remember does not depend on its coins; so a round is dominated by the same pair as without memory. Of a fixed number it
is otherwise: whoever else was drawn, was so in place of the client in question, so what *others* remember tells of its
draws, in rounds that it is not in. There no proof amplifies, and every participation counts as where cohorts are known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from autoflip_secure.defenses.privacy.schedule import ReleaseSchedule


class Hidden(NamedTuple):
    """A round as an observer sees it that does not know the cohort."""

    noise_multiplier: float  # noise that is left / clip norm
    drawn: int
    population: int

    @property
    def rate(self) -> float:
        """Chance of a client to be among those who were drawn."""
        return self.drawn / self.population


def unknown_cohorts(
    schedule: ReleaseSchedule, rounds: Sequence[int] | None = None, *, another: bool
) -> dict[Hidden, list[int]]:
    """Rounds by what hides a participant; rounds to which nobody who is protected came are left out.

    Args:
        schedule: the run.
        rounds: that are asked about, whose releases are of one kind; None: all.
        another: the observer is another client, and knows in which rounds it was drawn itself; else it knows nothing
            of cohorts. What is found hides no better than any such client could say: the rate is that of the rounds
            that it is not in, and of the rounds with h honest participants as many lack a share of noise as one client
            can be in.
    """
    rounds = range(1, len(schedule.rounds) + 1) if rounds is None else rounds
    if schedule.sampling == "poisson":
        coin = Hidden(schedule.noise_multipliers[0], schedule.cohort, len(schedule.samples))
        return {coin: list(rounds)} if rounds else {}
    central = schedule.noise == "central"
    population = max(1, len(schedule.loyal) - another)
    by_number: dict[int, list[int]] = {}
    for number in rounds:
        by_number.setdefault(schedule.loyal_in(number), []).append(number)
    hidden: dict[Hidden, list[int]] = {}
    for came, numbers in sorted(by_number.items()):
        own = _most_frequent(schedule, numbers) if another and not central and came > 1 else set[int]()
        for shares, those in ((came, [n for n in numbers if n not in own]), (came - 1, sorted(own))):
            if came > 0 and those:
                noise = schedule.noise_multipliers[0] if central else shared_noise(schedule, shares)
                seen = Hidden(noise, min(came, population), population)
                hidden[seen] = sorted([*hidden.get(seen, []), *those])
    return hidden


def known_cohorts(schedule: ReleaseSchedule, client: int, *, rows: bool, another: bool) -> dict[float, list[int]]:
    """Rounds in which ``client`` takes part, by the noise / clip norm that is left to who knows the cohort.

    Args:
        schedule: the run. The noise of a server is nobody's share, and all of it is left.
        client: who is protected.
        rows: the observer sees every row, with its own share of the noise; else their sum.
        another: the observer is the one client that never misbehaves whose shares of the noise are missed most.
    """
    numbers = schedule.rounds_of(client)
    if schedule.noise == "central":
        return {schedule.noise_multipliers[0]: numbers} if numbers else {}
    other = _closest(schedule, client, numbers) if another and not rows else None
    left: dict[float, list[int]] = {}
    for number in numbers:
        shares = 1 if rows else schedule.loyal_in(number) - (other is not None and other in schedule.rounds[number - 1])
        left.setdefault(shared_noise(schedule, shares), []).append(number)
    return left


def shared_noise(schedule: ReleaseSchedule, shares: int) -> float:
    """Noise / clip norm of so many shares."""
    return schedule.noise_multipliers[0] * sqrt(min(1.0, shares / schedule.cohort))


def _most_frequent(schedule: ReleaseSchedule, numbers: Sequence[int]) -> set[int]:
    """Those of the rounds ``numbers`` that the client is in which is in most of them and never misbehaves."""
    came = Counter(client for number in numbers for client in schedule.rounds[number - 1] if client in schedule.loyal)
    one = min(came, key=lambda client: (-came[client], client))
    return {number for number in numbers if one in schedule.rounds[number - 1]}


def _closest(schedule: ReleaseSchedule, client: int, numbers: Sequence[int]) -> int | None:
    """Who can take most noise off the sums that ``client`` is in; None: nobody who never misbehaves is in one of them.

    Gaussian releases that are not sampled cost together what one with 1/sigma² = their sum of 1/sigma² costs, by every
    accountant, so the one who adds most to that sum is the worst observer.
    """
    added: dict[int, float] = {}
    for number in numbers:
        came = schedule.loyal_in(number)
        for other in schedule.rounds[number - 1]:
            if other != client and other in schedule.loyal:
                parts = 1 + len(schedule.beside(number))  # each with a share of this client's noise
                added[other] = added.get(other, 0.0) + parts * (1 / (came - 1) - 1 / came)
    return min(added, key=lambda other: (-added[other], other)) if added else None
