"""A batch of rows in shares: what may be asked of the parties about it, and who was left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from autoflip_secure.defenses.secure_aggregation.links import PartyLinks
from autoflip_secure.defenses.secure_aggregation.messages import Held, Ready
from autoflip_secure.defenses.secure_aggregation.shares import split, square_pair
from autoflip_secure.defenses.secure_aggregation.wire import raw
from autoflip_secure.secure_rows.secret_rows import Sketch
from autoflip_secure.secure_rows.secure_sum import Revealed, SharedBatch

TOO_LARGE = 2**58
"""Squared norm of a group that stands for a client whose pair was none; sums over groups stay inside the ring."""


class SharedRows(SharedBatch):
    """Rows that lie in shares at the parties of a session."""

    def __init__(
        self, session: PartyLinks, batch: str, clients: tuple[int, ...], params: int, events: tuple[str, ...] = ()
    ) -> None:
        self.session, self.batch, self.clients, self.params = session, batch, clients, params
        self.events = events  # who was left out, and why
        self.revealed = Revealed()
        self._sketches = 0

    def total(self, weights: Int[Tensor, " clients"] | None = None) -> Int[Tensor, " params"]:
        """See :class:`~autoflip_secure.secure_rows.secret_rows.SecretRows`."""
        weights = torch.ones(len(self.clients), dtype=torch.int64) if weights is None else weights
        self._ask("total", weights)
        self.revealed = replace(self.revealed, sums=self.revealed.sums + 1)
        return self.session.revealed_integers(self.params)

    def products(self, vectors: Int[Tensor, "vectors params"]) -> Int[Tensor, "clients vectors"]:
        """See :class:`~autoflip_secure.secure_rows.secret_rows.SecretRows`."""
        self._ask("products", vectors, vectors=len(vectors), dtype=vectors.numpy().dtype.str)
        self.revealed = replace(self.revealed, products=self.revealed.products + len(vectors))
        return self.session.revealed_integers(len(self.clients), len(vectors))

    def squared_norms(
        self, sketch: Sketch | None = None, starts: Int[Tensor, " groups"] | None = None
    ) -> Int[Tensor, "clients groups"]:
        """See :class:`~.SecretRows`. Every client deals two square pairs for it."""
        starts = torch.zeros(1, dtype=torch.int64) if starts is None else starts
        number = None
        if sketch is not None:
            number, self._sketches = self._sketches, self._sketches + 1
            buckets, signs = sketch.buckets.to(torch.int32), sketch.signs.to(torch.int8)
            self._ask("sketch", buckets, signs, sketch=number, width=sketch.width)
        width = self.params if sketch is None else sketch.width
        self._ask("deal", starts, sketch=number, groups=len(starts))
        self.session.replies(Ready)
        for client in self.clients:
            pair, check = (square_pair(width, starts.tolist()) for _ in range(2))
            shares = split(torch.cat([*pair, *check]), self.session.parties)
            self.session.from_client({"op": "pair", "batch": self.batch, "client": client}, shares)
        dealt = self._dealt()
        norms = torch.full((len(self.clients), len(starts)), TOO_LARGE)
        self.revealed = replace(self.revealed, norms=self.revealed.norms + len(starts))
        if dealt:
            self._ask("norms", sketch=number, clients=dealt)
            found, told = self.session.answer(len(dealt), len(starts))
            for client, norm in zip(dealt, found, strict=True):
                if client in told.liars:
                    self.events += (f"client {client} dealt a square pair that is none: it counts as far too large",)
                else:
                    norms[self.clients.index(client)] = norm
        return norms

    def _dealt(self) -> list[int]:
        """Whose square pairs have reached every party."""
        self._ask("dealt")
        replies = [reply for reply, _ in self.session.replies(Held)]
        self.events += tuple(f"party {rank}: {text}" for rank, reply in enumerate(replies) for text in reply.complaints)
        dealt = [client for client in self.clients if all(client in reply.held for reply in replies)]
        missing = set(self.clients) - set(dealt)
        self.events += tuple(
            f"client {client} dealt no square pair to every party: it counts as far too large"
            for client in self.clients
            if client in missing
        )
        return dealt

    def forget(self) -> None:
        """Let the parties forget the rows."""
        self._ask("forget")

    def _ask(self, op: str, *values: Tensor, **more: Any) -> None:
        self.session.request({"op": op, "batch": self.batch, **more}, *(raw(v.cpu().contiguous()) for v in values))
