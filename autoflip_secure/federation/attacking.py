"""Malicious clients' side of a round: every attack of the scenario is shown what its threat card says, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channels import prepared
from autoflip_secure.federation.outside_attacks import lies_beside, lies_of
from autoflip_secure.interfaces import (
    Aggregate,
    Aggregator,
    Attack,
    AttackView,
    Channel,
    Exploration,
    Guidance,
    RowAttack,
    UpdateAttack,
)
from autoflip_secure.interfaces.base import called
from autoflip_secure.interfaces.phases import is_exploration
from autoflip_secure.models.masks import facts, kept
from autoflip_secure.seeds import Generators, Purpose

_TOGETHER = -1  # address of a memory that the malicious clients share


@dataclass(frozen=True)
class AttackMemory:
    """What the attacks of a run carry from round to round."""

    of: Mapping[tuple[int, int], Any] = field(default_factory=dict)  # (number of the attack, client or together)
    told: frozenset[str] = frozenset()  # sentences that the record has


@dataclass(frozen=True)
class Defence:
    """What an attacker sees who knows the defence."""

    aggregator: Aggregator
    state: Any = None
    guidance: Guidance | None = None
    exploration: Exploration | None = None
    root: Float[Tensor, " params"] | None = None  # the server's update on its clean root set
    trial: Callable[[Tensor], Aggregate] | None = None
    landscape: Callable[[Tensor], Exploration] | None = None


@dataclass(frozen=True)
class Attacked:
    """Rows as they are sent, and what the attacks remember."""

    rows: Float[Tensor, "clients params"]
    memory: AttackMemory | None
    events: tuple[str, ...] = ()


def attack_updates(
    cell: Cell, updates: Tensor, clients: Tensor, mask: Bool[Tensor, "*clients params"], round_: int,
    weights: Float[Tensor, " params"], memory: AttackMemory | None = None, defence: Defence | None = None,
) -> Attacked:  # fmt: skip
    """Rows as they are sent: malicious clients change theirs, and only live coordinates that are not frozen travel.

    Args:
        cell: the cell.
        updates: (clients, params), as trained.
        clients: who takes part.
        mask: one for all clients, or one for each, which makes every malicious client act alone.
        round_: 0 = exploration, or the number of a later one (:mod:`.phases`); attackers see 0 for each.
        weights: of the global model.
        memory: what the attacks remember.
        defence: what those see that know the defence.
    """
    rows, events, layout = updates, list[str](), cell.problem.layout
    for number, attack, malicious in cell.attacking(RowAttack, round_):  # type: ignore[type-abstract]
        here = malicious[clients].to(updates.device)
        if not _acts(attack, round_) or True not in here.tolist():
            continue
        memory = memory or AttackMemory()
        said = list[str]()
        stage = _Stage(cell, attack, number, clients, mask, round_, weights, defence, said.append)
        rows, remembered = stage.act(rows, here, memory.of)
        if remembered or said:
            news = [sentence for sentence in dict.fromkeys(said) if sentence not in memory.told]
            memory = AttackMemory({**memory.of, **remembered}, memory.told.union(news))
            events += news
    if mask.dim() == 2:
        rows = torch.where(mask & layout.sent.to(mask.device), rows, 0.0)
    elif not facts(mask, layout).whole:
        rows = kept(rows, facts(mask, layout).travelling)
    return Attacked(rows, memory, tuple(events))


def _acts(attack: RowAttack, round_: int) -> bool:
    """Whether its threat card names what is sent in this round."""
    means = {*attack.threat_card.means}
    return not attack.declared or bool(means & ({"exploration"} if is_exploration(round_) else {"update", "buffers"}))


def idle(cell: Cell, alone: int | None = None) -> list[str]:
    """Events of a run without an exploration: attacks that act nowhere else.

    Args:
        cell: whose attacks; where its clients prepare, in a round 0 without an exploration, windows end there.
        alone: the client that begins alone, in place of an exploration; None: nobody does. Who attacks it attacked.
    """
    met = [] if alone is None else [one for _, one, who in cell.attacking(Attack, 0) if bool(who[alone])]
    others = [one for one in cell.protocol.attack.parts if not any(one is attack for attack in met)]
    return [
        f"attack {called(attack)}: acts in the exploration alone, and this algorithm does not explore: nobody attacked"
        for attack in others
        if (attack.window.last == 0 and not prepared(cell)) or {*attack.threat_card.means} == {"exploration"}
    ]


@dataclass(frozen=True)
class _Cohort:
    """What an attack in one round is shown parts of."""

    clients: Int[Tensor, " clients"]
    samples: Float[Tensor, " clients"]
    updates: Float[Tensor, "clients params"]
    malicious: Bool[Tensor, " clients"]
    honest: Bool[Tensor, " clients"]
    draws: Generators


@dataclass(frozen=True)
class _Stage:
    """One attack in one round."""

    cell: Cell
    attack: RowAttack
    number: int
    clients: Int[Tensor, " clients"]
    mask: Bool[Tensor, "*clients params"]
    round: int
    weights: Float[Tensor, " params"]
    defence: Defence | None
    tell: Callable[[str], None]

    def act(
        self, rows: Tensor, malicious: Bool[Tensor, " clients"], memory: Mapping[tuple[int, int], Any]
    ) -> tuple[Tensor, dict[tuple[int, int], Any]]:
        """All rows after the attack, and its memories."""
        cohort = self._cohort(rows, malicious)
        alone, result, remembered = self.mask.dim() == 2, rows.clone(), dict[tuple[int, int], Any]()
        for seen, asked, who in questions(self.attack, malicious, alone):
            mask = self.mask[who] if alone else self.mask
            key = (self.number, _TOGETHER if who is None else int(self.clients[who]))
            view = self._view(cohort, seen, mask, memory.get(key))
            found, after = lies_of(self.attack, view)
            if after is not None:
                remembered[key] = after
            place = view.malicious if who is None else _place(seen, who)
            lies = found[place]
            if not isinstance(self.attack, UpdateAttack):
                lies = torch.where(self._allowed(view), lies, view.updates[place])
            result[asked] = lies
        return result, remembered

    def _allowed(self, view: AttackView) -> Bool[Tensor, " params"]:
        means = self.attack.threat_card.means
        if is_exploration(self.round) or "update" in means:
            return view.active | view.buffers if "buffers" in means else view.active
        return view.buffers if "buffers" in means else torch.zeros_like(view.active)

    def _cohort(self, rows: Tensor, malicious: Tensor) -> _Cohort:
        cell, clients = self.cell, self.clients.to(rows.device)
        return _Cohort(
            clients=clients,
            samples=cell.owned(clients),
            updates=rows,
            malicious=malicious,
            honest=~cell.malicious_in(self.round)[self.clients].to(rows.device),
            draws=_draws(cell, self.clients, self.round, self.number),
        )

    def _view(self, cohort: _Cohort, seen: slice | Tensor, mask: Tensor, memory: Any) -> AttackView:
        cell, layout = self.cell, self.cell.problem.layout
        knows = self.defence if self.attack.threat_card.knowledge == "defence" else None
        return AttackView(
            round=0 if is_exploration(self.round) else self.round,
            rounds=cell.protocol.rounds,
            clients=cohort.clients[seen],
            samples=cohort.samples[seen],
            updates=cohort.updates[seen],
            malicious=cohort.malicious[seen],
            honest=cohort.honest[seen],
            weights=self.weights,
            mask=mask,
            active=facts(mask, layout).live,
            layout=layout,
            participants=len(cohort.clients),
            generators=cohort.draws.of(seen if isinstance(seen, slice) else seen.tolist()),
            memory=memory,
            tell=self._tell,
            aggregator=None if knows is None else knows.aggregator,
            state=None if knows is None else knows.state,
            guidance=None if knows is None else knows.guidance,
            exploration=None if knows is None else knows.exploration,
            root=None if knows is None else knows.root,
            trial=None if knows is None else knows.trial,
            landscape=None if knows is None else knows.landscape,
            masks=self.mask[seen] if self.mask.dim() == 2 else None,
        )

    def _tell(self, sentence: str) -> None:
        self.tell(f"attack {called(self.attack)}: {sentence}")


def questions(
    attack: RowAttack, malicious: Bool[Tensor, " clients"], alone: bool
) -> Iterator[tuple[slice | Tensor, slice | Tensor, int | None]]:
    """What an attack is asked: the rows that it sees, those that it replaces, and which client is asked alone."""
    knowledge, flags = attack.threat_card.knowledge, malicious.tolist()
    places = [place for place, flag in enumerate(flags) if flag]
    if knowledge == "own":  # each sees its own row alone
        for who in places:
            own = slice(who, who + 1)
            yield own, own, who
        return
    rows = malicious.nonzero().squeeze(1)
    seen = rows if knowledge == "colluders" else slice(None)
    if not alone:
        yield seen, rows, None
        return
    for who in places:
        yield seen, slice(who, who + 1), who


def _place(seen: slice | Tensor, who: int) -> slice:
    """Where one client's row stands among those that are seen."""
    place = int((seen == who).nonzero()) if isinstance(seen, Tensor) else who - (seen.start or 0)
    return slice(place, place + 1)


def _draws(cell: Cell, clients: Tensor, round_: int, number: int, *channel: int) -> Generators:
    """At (UPDATE_ATTACK, round, client, *channel, *number of a later attack); a later one's update has channel 0."""
    address = [*channel, *([] if channel else [0]), number] if number else channel
    return Generators(cell.seed, [(Purpose.UPDATE_ATTACK, round_, k, *address) for k in clients.tolist()])


def attack_channel(
    cell: Cell, channel: Channel, rows: Float[Tensor, "clients size"], clients: Tensor, round_: int, place: int
) -> Float[Tensor, "clients size"]:
    """Rows of another channel as malicious clients send them; ``place``: of the channel in the round, from 1.

    Whoever knows all rows is not shown those of clients on whom other attacks act: they are not honest.
    """
    honest = ~cell.malicious_in(round_)[clients].to(rows.device)
    for number, attack, malicious in cell.attacking(RowAttack, round_):  # type: ignore[type-abstract]
        here = malicious[clients].to(rows.device)
        if not bool(here.any()):
            continue
        draws, result = _draws(cell, clients, round_, number, place), rows.clone()
        for every, asked, who in questions(attack, here, alone=False):
            seen = every
            if who is None and isinstance(every, slice) and not bool((here | honest).all()):
                seen = (here | honest).nonzero().squeeze(1)
            own = draws.of(seen if isinstance(seen, slice) else seen.tolist())
            found = lies_beside(attack, channel, rows[seen], here[seen], own, round_)
            result[asked] = found[here[seen] if who is None else _place(seen, who)]
        rows = result
    return rows
