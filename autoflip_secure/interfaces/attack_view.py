"""What an attack is shown: no more than the knowledge that it declares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autoflip_secure.interfaces.aggregation import Aggregate, Aggregator
from autoflip_secure.interfaces.landscape import Exploration, Guidance
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.masks import kept

Knowledge = Literal["own", "colluders", "rows", "defence"]
KNOWLEDGE: Final[dict[Knowledge, str]] = {
    "own": "its own data and update",
    "colluders": "the updates of all malicious clients",
    "rows": "every update of the round",
    "defence": "every update of the round, the aggregator and its state, guidance",
}
"""What a malicious client knows besides what all clients do: the global model, its mask, the training schedule."""

Means = Literal["labels", "inputs", "update", "exploration", "samples", "buffers", "participation"]
MEANS: Final[dict[Means, str]] = {
    "labels": "labels",
    "inputs": "inputs",
    "update": "updates",
    "exploration": "what explorers send",
    "samples": "the stated number of samples",
    "buffers": "running statistics",
    "participation": "how often they take part",
}
"""What it changes."""

Goal = Literal["untargeted", "targeted", "backdoor", "denial"]
"""Lower accuracy; one class; inputs with a trigger; no pruning, or no scoring."""


@dataclass(frozen=True)
class Threat:
    """The threat card of an attack: what it knows, what it changes, what for, and whether it remembers."""

    knowledge: Knowledge
    means: tuple[Means, ...]
    goal: Goal = "untargeted"
    memory: bool = False  # it has a state of its own over rounds

    def __str__(self) -> str:
        """As one line.

        >>> str(Threat("rows", ("update",)))
        'knows every update of the round; changes updates; untargeted; stateless'
        """
        changed = ", ".join(MEANS[one] for one in self.means)
        memory = "remembers earlier rounds" if self.memory else "stateless"
        return f"knows {KNOWLEDGE[self.knowledge]}; changes {changed}; {self.goal}; {memory}"


@dataclass(frozen=True)
class AttackView:
    """A round as an attacker sees it who knows what its threat card says; what it may not see is None, or not there.

    The rows are those of the client itself (knowledge ``own``: every malicious client is asked alone), of the malicious
    clients (``colluders``), or of the whole cohort (``rows``, ``defence``). Round 0 is the exploration, whose rows are
    the explorers' deviations; or the one row of the client that a pruner has begin alone.
    """

    round: int
    rounds: int
    clients: Int[Tensor, " seen"]
    samples: Float[Tensor, " seen"]  # n_k, the true ones
    updates: Float[Tensor, "seen params"]  # as trained, those of malicious clients too
    malicious: Bool[Tensor, " seen"]  # whose rows are to be replaced
    honest: Bool[Tensor, " seen"]  # on whom no attack of the scenario acts in this round
    weights: Float[Tensor, " params"]  # w, as every participant got it
    mask: Bool[Tensor, " params"]
    active: Bool[Tensor, " params"]  # trained and unmasked: the only ones that an attack on updates may change
    layout: Layout
    participants: int  # n: everybody who takes part in this round, seen or not
    generators: Sequence[torch.Generator]  # one a row, by address, made when it is asked for
    memory: Any  # what ``act`` returned last; None at first
    tell: Callable[[str], None]  # a sentence for the events of the record, which are told once
    aggregator: Aggregator | None = None
    state: Any = None  # of the aggregator, before this round
    guidance: Guidance | None = None
    exploration: Exploration | None = None  # without deviations
    root: Float[Tensor, " params"] | None = None  # the server's update on its clean root set; None: it has none
    trial: Callable[[Float[Tensor, "seen params"]], Aggregate] | None = None
    """What the server would make of these rows, from its state; nothing is remembered. Lists run over all rows seen;
    clients whose rows it would leave out have trust and score 0. None in round 0."""
    landscape: Callable[[Float[Tensor, "seen params"]], Exploration] | None = None
    """What the server would make of these deviations, in round 0; None later, and where one client begins alone."""
    masks: Bool[Tensor, "seen params"] | None = None  # what each client that is seen holds; None: all hold ``mask``

    @property
    def honest_rows(self) -> Float[Tensor, "honest params"]:
        """H: the honest rows that are seen and finite, zero outside ``active``; where there is none, the malicious
        clients' own as trained.

        Where clients have masks of their own, a coordinate that an honest one does not hold has the mean over those
        that hold it, and 0 where none does: so ``honest_rows.mean(0)`` is the coverage mean, as the server's is.
        """
        rows, held = self._honest
        if held is None or bool(held.all()):
            return rows
        count = held.sum(0)
        mean = torch.where(held, rows, 0.0).double().sum(0) / count.clamp_min(1)
        return torch.where(held | ~self.active, rows, mean.to(rows))

    @property
    def held(self) -> Bool[Tensor, "honest params"] | None:
        """Which numbers of :attr:`honest_rows` are clients' own, since they hold the coordinate; None: all."""
        return None if self.masks is None else self._honest[1]

    @property
    def _honest(self) -> tuple[Tensor, Tensor | None]:
        """H as it was trained, and who holds what."""
        who = self.honest if bool(self.honest.any()) else self.malicious
        rows, held = self.updates[who], None if self.masks is None else self.masks[who]
        finite = torch.isfinite(rows.norm(dim=1))
        if bool(finite.any()) and not bool(finite.all()):
            rows, held = rows[finite], None if held is None else held[finite]
        return kept(rows, self.active), held

    @property
    def count(self) -> int:
        """f: malicious clients that are seen."""
        return int(self.malicious.sum())

    @property
    def buffers(self) -> Bool[Tensor, " params"]:
        """Running statistics, which are sent and not trained."""
        layout = self.layout
        return (layout.sent & ~layout.trained).to(self.mask.device) & self.mask

    def sending(self, rows: Float[Tensor, "*malicious params"]) -> Float[Tensor, "seen params"]:
        """All rows, those of malicious clients replaced on the active coordinates, by one for all or by one each."""
        result = self.updates.clone()
        own = self.updates[self.malicious]
        result[self.malicious] = torch.where(self.active, rows.to(own).expand_as(own), own)
        return result
