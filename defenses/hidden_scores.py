r"""Agreement without scores that anybody learns: who does not agree sends zeros, and proves that it had to.

.. math::
    \text{votes} \to V \to (\tau, \theta, \lambda, r), \qquad
    b_k = [\text{profile}_k \ge \tau]\,[\text{direction}_k \ge \theta]\,[\|u_k\| \le \lambda], \qquad
    y_k = b_k \min(1, 2r/\|u_k\|)\,u_k

    \Delta = \sum_k n_k y_k \Big/ \Big(\bar n \sum_k b_k\Big)

Each client shares :math:`(y_k, b_k)` and proves on the shares (:class:`defenses.statements.Passes`) that the row is
zero or passes. Revealed are three histograms of votes, how many passed, one sum, and whose proof does not hold.
Against the scores in the open: in or out instead of a weight between (the cut lies at score 1/2), this round's values
without a mean over a client's earlier ones, and a step divided by the mean number of samples, since
:math:`\sum_k n_k b_k` would tell who passed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.agreement import AgreementState, AgreementWeighted
from autoflip_secure.interfaces import Aggregate, Aggregator, RoundView
from autoflip_secure.profile import GROUPS, affinity, grouped, landscape_groups
from autoflip_secure.robust import TINY, cosine
from autoflip_secure.secure_sum import Revealed, Scored
from autoflip_secure.sum_error import WatchedSum
from defenses.anonymous_votes import BINS, MEMORY, centre, threshold, vote
from defenses.hidden_rows import HiddenRows, draw
from defenses.statements import LARGEST, SCALE, Ballot, Passes

if TYPE_CHECKING:
    from defenses.secure_aggregation import Session

FEWEST = 2
_ENTRY = 2.0**40  # of entries that are not scored, in units: sums stay far inside the field


@dataclass(frozen=True)
class HiddenState(AgreementState):
    """What the server remembers: the direction, and votes; nothing about a client."""

    votes: dict[str, Float[Tensor, " bins"]]


def refusal(aggregator: Aggregator) -> str | None:
    """Why this aggregator cannot do without scores that the server sees; None: it can."""
    if aggregator.linear:
        return "there are no scores to hide: a mean needs the sum only; leave scores: revealed"
    if not isinstance(aggregator, AgreementWeighted):
        return "only agreement is a test that a client can prove to have passed; use scores: revealed"
    wrong = [name for name in aggregator.statistics if name not in BINS]
    if wrong:
        return f"the statistic {wrong[0]!r} cannot be proved on shares; use statistics among {', '.join(BINS)}"
    if aggregator.clip is None:
        return "proofs need a largest norm; set clip"
    return None


@dataclass(frozen=True)
class _Round:
    """The live parts of one round, on the processor, and what the clients compute of their own updates."""

    clients: tuple[int, ...]
    rows: Float[Tensor, "clients sent"]
    live: Bool[Tensor, " sent"]  # scored, among those that are sent
    groups: Int[Tensor, " sent"]
    energies: Float[Tensor, " groups"]
    memory: Float[Tensor, " sent"]
    values: dict[str, Float[Tensor, " clients"]]

    @classmethod
    def of(cls, aggregator: AgreementWeighted, state: AgreementState, view: RoundView) -> _Round:
        """From what the clients have and what everybody knows."""
        assert view.guidance is not None
        sent = view.mask
        live = view.layout.trainable.to(sent.device)[sent].cpu()
        rows, energy = view.updates[:, sent].double().cpu(), view.guidance.energy[sent].cpu()
        groups = landscape_groups(energy, live)
        energies = grouped(energy[None], groups, GROUPS)[0]
        memory = state.memory[sent].double().cpu() * live
        values = {"size": -(rows * live).norm(dim=1).clamp_min(TINY).log()}
        if "profile" in aggregator.statistics:
            values["profile"] = affinity(grouped(rows.square(), groups, GROUPS), energies)
        if "direction" in aggregator.statistics and bool(memory.any()):
            values["direction"] = cosine(rows * live, memory)
        return cls(tuple(view.clients.tolist()), rows, live, groups, energies, memory, values)

    def statement(self, limits: dict[str, float]) -> Passes:
        """What to prove, with the seed of the signs still to be drawn."""
        both = "profile" in self.values, "direction" in self.values
        roots = (self.energies / self.energies.sum().clamp_min(TINY**2)).sqrt()
        return Passes(
            groups=self.groups,
            affinity=_whole(roots) if both[0] else None,
            profile=max(0, round(limits["profile"] * SCALE)) if both[0] else 0,
            heading=_whole(self.memory / self.memory.norm()) if both[1] else None,
            direction=round(limits["direction"] * SCALE) if both[1] else 0,
            signs=0,
        )

    def units(self, unit: float) -> Float[Tensor, "clients sent"]:
        """Rows in units, the live part clipped so that its norm stays within LARGEST when it is rounded."""
        rows = self.rows / unit
        norms = (rows * self.live).norm(dim=1, keepdim=True).clamp_min(TINY)
        room = LARGEST - math.sqrt(rows.shape[1]) / 2 - 1
        return torch.where(self.live, rows * (room / norms).clamp(max=1), rows)


def score_hidden(
    session: Session, aggregator: Aggregator, state: AgreementState, view: RoundView, obeys: Bool[Tensor, " clients"]
) -> Scored:  # fmt: skip
    """One round. Bad clients vote what is true, clip, and claim to pass whether they do or not.

    The scores that are returned are the clients' own secret, kept for measuring how well the filter works.
    """
    assert isinstance(aggregator, AgreementWeighted)
    this = _Round.of(aggregator, state, view)
    votes, here, events = _vote(session, state, this)
    taken, scores, trust = (torch.zeros(len(this.clients)) for _ in range(3))
    delta, watched = torch.zeros_like(view.weights), None
    if here:
        cut = (aggregator.full_at + aggregator.zero_at) / 2
        limits = {name: threshold(name, votes[name], cut) for name in this.values}
        assert aggregator.clip is not None
        unit = aggregator.clip * math.exp(-centre("size", votes["size"])) / LARGEST
        rows = this.units(unit)
        claims = _claims(aggregator, this, limits, rows, obeys)
        passed, total, count, found = _sum(session, this.statement(limits), claims, this.clients, here, view.samples)
        events += found
        inside = [this.clients.index(k) for k in passed]
        taken[inside], scores[inside] = 1.0, claims[inside, -1].float()
        if total is not None:
            weights = _weights(view.samples)[inside]
            watched = WatchedSum(total, (weights * claims[inside, -1]).tolist(), list(rows[inside]))
            mean = total / (count * float(weights.double().mean()))
            delta[view.mask] = (mean * unit).to(delta)
            share = scores * view.samples.cpu()
            trust = share / share.sum()
    step = delta * view.layout.trainable.to(delta.device)
    memory = aggregator.memory * state.memory + (1 - aggregator.memory) * step
    after = HiddenState(memory, state.means, state.log_norms, votes)
    chosen = taken.bool()
    aggregate = Aggregate(delta, trust[chosen].to(delta), scores[chosen].to(delta), after)
    revealed = Revealed(sums=2 if bool(delta.any()) else 1)
    result = aggregate if bool(chosen.any()) else None
    return Scored(result, chosen.to(obeys.device), revealed, tuple(events), watched)


def _claims(
    aggregator: AgreementWeighted, this: _Round, limits: dict[str, float], rows: Tensor, obeys: Tensor
) -> Tensor:
    """What each client shares, (y, b): who does not pass sends zeros if it obeys."""
    if float(rows.abs().max()) >= _ENTRY:
        rows = rows.clamp(-_ENTRY, _ENTRY)  # of entries that are not scored; only of who has diverged
    whole, statement = rows.round().long(), this.statement(limits)
    passes = torch.tensor([statement.holds(row) for row in whole])
    if "size" in aggregator.statistics:
        passes &= this.values["size"] >= limits["size"]
    counts = (passes | ~obeys.cpu()).long()
    return torch.cat([whole * counts[:, None], counts[:, None]], dim=1)


def _vote(
    session: Session, state: AgreementState, this: _Round
) -> tuple[dict[str, Tensor], tuple[int, ...], list[str]]:
    """The votes with this round's in them, whose ballots were good, and events; nobody's where one vote would show."""
    old = state.votes if isinstance(state, HiddenState) else {}
    votes = {name: old.get(name, torch.zeros(BINS[name][2], dtype=torch.float64)) * MEMORY for name in BINS}
    names = list(this.values)
    cast = [torch.cat([vote(name, float(this.values[name][i])) for name in names]) for i in range(len(this.clients))]
    if len(cast) < FEWEST:
        return votes, (), [_TOO_FEW.format(len(cast))]
    hidden = HiddenRows.share(session, torch.stack(cast), this.clients)
    events: list[str] = []
    if len(hidden.clients) >= FEWEST:
        failed = hidden.prove(Ballot(tuple(BINS[name][2] for name in names)), lambda row: row[:0])
        events += [f"client {k} gave a ballot that does not hold: left out" for k in failed]
    if len(hidden.clients) < FEWEST:
        hidden.forget()
        return votes, (), [*hidden.events, *events, _TOO_FEW.format(len(hidden.clients))]
    total = hidden.total(torch.ones(len(hidden.clients), dtype=torch.int64))
    hidden.forget()
    for name, counted in zip(names, torch.split(total, [BINS[name][2] for name in names]), strict=True):
        votes[name] = votes[name] + counted.double()
    return votes, hidden.clients, [*hidden.events, *events]


def _sum(
    session: Session,
    statement: Passes,
    claims: Tensor,
    clients: tuple[int, ...],
    here: tuple[int, ...],
    samples: Tensor,
) -> tuple[tuple[int, ...], Tensor | None, int, list[str]]:
    """Whose proofs held, the weighted sum of their rows in units (None: not revealed), how many count, and events."""
    hidden = HiddenRows.share(session, claims[[clients.index(k) for k in here]], here)
    events, count = list[str](), 0
    if len(hidden.clients) >= FEWEST:
        statement = replace(statement, signs=draw())
        failed = hidden.prove(statement, lambda row: statement.witness(row[:-1], int(row[-1])))
        events += [f"client {k} gave a proof that does not hold: left out" for k in failed]
    if len(hidden.clients) >= FEWEST:
        count = hidden.count()
    found = None
    if count >= FEWEST:
        found = hidden.total(_weights(samples)[[clients.index(k) for k in hidden.clients]])[:-1].double()
    else:
        events.append(_TOO_FEW.format(count))
    hidden.forget()
    return hidden.clients, found, count, [*hidden.events, *events]


def _weights(samples: Tensor) -> Tensor:
    """Public numbers of samples, as weights of the sum."""
    return samples.cpu().round().long()


def _whole(unit: Tensor) -> Tensor:
    """A unit vector times SCALE, as integers."""
    return (unit * SCALE).round().long()


_TOO_FEW = "no step: {} clients passed, and their sum would hide nothing"
