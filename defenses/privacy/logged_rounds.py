r"""The ledger of a federation that ran somewhere else: what is proven of the rounds in its log.

Nothing is drawn here and nothing is known but the log, so every account holds for whatever the log leaves open. With
:math:`\sigma` one noise draw / clip norm, h participants of a round that do not collude, of H such clients in all:

| unit | noise | observer | cohort | one round is | neighbours |
|---|---|---|---|---|---|
| client | central | public, another client | known | :math:`\sigma` | zero out |
| client | central | public, another client | secret, Poisson, rate q | :math:`\sigma`, rate q | add or remove |
| client | central | public | secret, fixed number | :math:`\sigma / 2`, rate h/H | replace |
| client | central | another client | secret, fixed number | :math:`\sigma / 2`, rate h/(H - 1) | replace |
| client | distributed | who sees rows | known | :math:`\sigma` | zero out |
| client | distributed | who sees sums | known | :math:`\sigma \sqrt h` | zero out |
| client | distributed | another client | known | :math:`\sigma \sqrt{h - 1}` | zero out |
| client | distributed | who sees sums | secret, fixed number | half of that, rate as above | replace |
| sample | each client | anybody | | :math:`\sigma` a step, at the rate of the batches | zero out |

*Known* cohorts: a round counts for the clients that took part in it, or, where the log only has their number, for every
client. This holds whoever knows the cohorts, so it is there for every observer beside the amplified account, and the
smaller one counts: both are true at once, each of its own neighbours. ``docs/account.md`` argues every row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, sqrt
from typing import Literal, TypeVar

from autoflip_secure.defenses.privacy.accountants import by_client, counted, rdp_epsilon
from autoflip_secure.defenses.privacy.guarantees import client_epsilons
from autoflip_secure.records.privacy import OBSERVERS, Guarantee, Observer, PrivacyRecord, Relation, Release
from autoflip_secure.runtime.threads import one_thread

N = TypeVar("N", int, float)


@dataclass(frozen=True)
class LoggedRound:
    """What the log says of one round."""

    number: int
    participants: tuple[int, ...] | None  # whose rows are in what was released; None: only their number is known
    came: int  # how many
    noise_multiplier: float  # standard deviation of one noise draw / clip norm
    rates: tuple[float, ...] = ()  # at sample level: of the batches, per participant, or one for all
    steps: tuple[int, ...] = ()  # of local training, likewise


@dataclass(frozen=True)
class LoggedFederation:
    """A federation as far as its log tells; see ``docs/account.md`` for what each word stands for."""

    unit: Literal["sample", "client"]
    clients: int
    rounds: tuple[LoggedRound, ...]
    delta: float
    noise: Literal["central", "distributed"]
    linear: bool  # what is published is computed from a sum of rows, divided by a number that was known before
    secure_sum: bool  # the server sees that sum only
    in_advance: bool  # settings do not follow from data or results
    colluding: int = 0  # clients that tell the observer their noise and in which rounds they take part
    colluders: frozenset[int] | None = None  # who they are, where that is known
    sampling: Literal["none", "poisson", "fixed"] = "none"  # of the cohorts; none: nothing is known of it
    rate: float = 1.0  # of Poisson cohorts
    secret_from: frozenset[Observer] = frozenset()  # who does not know the cohorts
    secret_batches: bool = False  # batches are Poisson draws that nobody but the client knows
    bare: Mapping[Observer, str] = field(default_factory=dict)  # what else was released to whom without noise

    @cached_property
    def named(self) -> bool:
        """Whether the log says of every round who took part."""
        return all(entry.participants is not None for entry in self.rounds)

    @property
    def honest(self) -> int:
        """Clients that do not collude."""
        return self.clients - self.colluding

    def honest_in(self, entry: LoggedRound) -> tuple[int, int]:
        """How many participants do not collude: at least, and at most."""
        if entry.participants is not None and self.colluders is not None:
            exactly = len(set(entry.participants) - self.colluders)
            return exactly, exactly
        return max(0, entry.came - self.colluding), min(entry.came, self.honest)

    def protected(self, client: int) -> bool:
        """Whether anything is said for this client."""
        return self.colluders is None or client not in self.colluders


def account_of(log: LoggedFederation) -> PrivacyRecord:
    """What is proven of everything in the log, for every observer."""
    return PrivacyRecord(
        unit=log.unit,
        noise_multipliers=sorted({entry.noise_multiplier for entry in log.rounds}),
        guarantees=[logged_guarantee(log, observer) for observer in OBSERVERS],
        attempts=1,
        notes=[],
    )


@one_thread()
def logged_guarantee(log: LoggedFederation, observer: Observer) -> Guarantee:
    """What ``observer`` learns at most from the rounds of the log."""
    reason = _void(log, observer)
    accounts = [_trusted(log)] if _trusts(log, observer) else _accounts(log, observer)
    found = min(accounts, key=lambda one: _most(one, log.delta)) if not reason else accounts[0]
    if reason:
        found = [release.model_copy(update={"reason": reason}) for release in found]
    relation: Relation = found[0].relation if found else "zero out one client"
    return Guarantee(
        observer=observer,
        relation=relation,
        proven=not reason,
        reason=reason or _rests_on(log, observer, found),
        releases=found,
        clients=client_epsilons(found, {None: log.delta}) if found and not reason else [],
        over_rounds=[],
    )


def _trusts(log: LoggedFederation, observer: Observer) -> bool:
    return log.unit == "client" and log.noise == "central" and observer == "server"


def _void(log: LoggedFederation, observer: Observer) -> str:
    """Why nothing is proven against ``observer``, or ""."""
    silent = [entry.number for entry in log.rounds if entry.noise_multiplier == 0 and entry.came]
    reasons = {
        "settings were not fixed in advance: rounds, clip norms, noise or sampling followed from data or results, and "
        "that choice is a release that is not counted": not log.in_advance,
        f"also released without noise: {log.bare.get(observer, '')}": observer in log.bare,
        f"no noise in round {silent[0] if silent else 0}: clipping alone proves nothing": bool(silent),
        "the server is trusted: it sees every update without noise": _trusts(log, observer),
        "the aggregate is not a plain sum of clipped rows, so its sensitivity is not the clip norm": (
            log.unit == "client" and log.noise == "central" and not log.linear
        ),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _accounts(log: LoggedFederation, observer: Observer) -> list[list[Release]]:
    """Every account of what ``observer`` gets; each is complete and has neighbours of its own."""
    if log.unit == "sample":
        return [_samples(log, observer)]
    rows = log.noise == "distributed" and not (log.linear and (log.secure_sum or observer != "server"))
    known = _participations(log, observer, rows=rows)
    if rows or observer not in log.secret_from or log.sampling == "none":
        return [known]
    if log.sampling == "poisson" and log.noise == "distributed":
        return [known]  # how much noise there is tells how many came
    return [_amplified(log, observer), known]


def _most(found: Sequence[Release], delta: float) -> float:
    """Epsilon of the client that pays most, by RDP."""
    counts = {counted(own) for own in by_client(found).values()}
    known = [None if count is None else rdp_epsilon(count, delta) for count in counts]
    return max((inf if epsilon is None else epsilon for epsilon in known), default=0.0)


def _release(rounds: Sequence[int], steps: int, log: LoggedFederation, observer: Observer, **own: object) -> Release:
    return Release.model_validate(
        {
            "name": "updates", "observer": observer, "client": None, "first_round": rounds[0], "last_round": rounds[-1],
            "mechanism": "gaussian", "relation": "zero out one client", "sampling": "none", "rate": 1.0,
            "population": log.clients, "steps": steps, "reason": "", "post_processing": [], **own,
        }
    )  # fmt: skip


def _trusted(log: LoggedFederation) -> list[Release]:
    """What a server sees that adds the noise itself."""
    found: dict[int | None, list[int]] = defaultdict(list)
    for entry in log.rounds:
        for client in _payers(log, entry):
            found[client].append(entry.number)
    bare = {"mechanism": "none", "noise_multiplier": 0.0}
    return [_release(own, len(own), log, "server", client=client, **bare) for client, own in found.items()]


def _payers(log: LoggedFederation, entry: LoggedRound) -> Iterable[int | None]:
    """For whom a round counts: those who took part, or everybody where the log does not say who did."""
    if not log.named:
        return (None,) if entry.came else ()
    return [client for client in entry.participants or () if log.protected(client)]


def _participations(log: LoggedFederation, observer: Observer, *, rows: bool) -> list[Release]:
    """To who knows who takes part: every participation, not amplified."""
    found: dict[tuple[int | None, float], list[int]] = defaultdict(list)
    for entry in log.rounds:
        noise = entry.noise_multiplier * sqrt(1 if rows or log.noise == "central" else _shares(log, entry, observer))
        for client in _payers(log, entry):
            found[client, noise].append(entry.number)
    return [
        _release(numbers, len(numbers), log, observer, client=client, noise_multiplier=noise)
        for (client, noise), numbers in found.items()
    ]


def _shares(log: LoggedFederation, entry: LoggedRound, observer: Observer) -> int:
    """Shares of noise in the sum of a round that ``observer`` cannot subtract; that of who is protected is one."""
    least, _ = log.honest_in(entry)
    return max(1, least - (observer == "another client"))


def _amplified(log: LoggedFederation, observer: Observer) -> list[Release]:
    """To who does not know who takes part, but for itself and for who colludes."""
    found: dict[tuple[float, float, int], list[int]] = defaultdict(list)
    relation: Relation = "add or remove one client" if log.sampling == "poisson" else "replace one client"
    for entry in log.rounds:
        if log.sampling == "poisson":  # a round to which nobody came was drawn too
            found[entry.noise_multiplier, log.rate, log.clients].append(entry.number)
            continue
        _, most = log.honest_in(entry)
        population = max(1, log.honest - (observer == "another client"))
        if most:
            noise = entry.noise_multiplier
            noise *= 1 if log.noise == "central" else sqrt(_shares(log, entry, observer))
            found[noise / 2, min(most, population) / population, population].append(entry.number)
    return [
        _release(
            numbers, len(numbers), log, observer, relation=relation, sampling=log.sampling, rate=rate,
            population=population, noise_multiplier=noise,
        )
        for (noise, rate, population), numbers in found.items()
    ]  # fmt: skip


def _samples(log: LoggedFederation, observer: Observer) -> list[Release]:
    """Every client's own training, whoever looks."""
    found: dict[tuple[int | None, float, float], list[tuple[int, int]]] = defaultdict(list)
    for entry in log.rounds:
        for client, rate, steps in _trainings(log, entry):
            found[client, entry.noise_multiplier, rate if log.secret_batches else 1.0].append((entry.number, steps))
    return [
        _release(
            [number for number, _ in those], sum(steps for _, steps in those), log, observer, client=client,
            relation="zero out one sample", sampling="poisson" if rate < 1 else "none", rate=rate, population=None,
            noise_multiplier=noise,
        )
        for (client, noise, rate), those in found.items()
    ]  # fmt: skip


def _trainings(log: LoggedFederation, entry: LoggedRound) -> Iterable[tuple[int | None, float, int]]:
    """Who pays for a round, with the rate of its batches and its steps."""
    if not log.named:
        return [(None, max(entry.rates), max(entry.steps))] if entry.came else []
    people = entry.participants or ()
    each = zip(people, _spread(entry.rates, people), _spread(entry.steps, people), strict=True)
    return [own for own in each if log.protected(own[0])]


def _spread(values: Sequence[N], people: Sequence[int]) -> Sequence[N]:
    return values if len(values) == len(people) else list(values) * len(people)


def _rests_on(log: LoggedFederation, observer: Observer, found: Sequence[Release]) -> str:
    if log.unit == "sample":
        kept = "; Poisson batches that nobody else knows" if any(r.rate < 1 for r in found) else ""
        return f"per-sample clipping and noise inside every client{kept}"
    if log.noise == "central":
        rests = "a trusted server that clips, adds the noise and publishes the noised sum alone"
    elif observer == "server" and not log.secure_sum:
        rests = "each client's own noise"
    elif observer == "another client":
        rests = "the noise of the participants that do not collude, less one share"
    else:
        rests = "the noise of the participants that do not collude"
    if observer == "server" and log.secure_sum:
        rests = f"a secure sum; {rests}"
    if all(release.sampling == "none" for release in found):
        return rests
    own = "nothing but whether it was drawn itself" if observer == "another client" else "nothing"
    return f"{rests}; cohorts of which this observer knows {own}"
