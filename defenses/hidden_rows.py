"""Hidden rows: clients share and prove, the server draws challenges and learns who passed and one sum.

The simulated clients live in this process; what leaves them for party i are their i-th shares.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from defenses.hidden_party import to_wire
from defenses.prime_field import P, elements, fold, scalar, signed, split_elements, times, total
from defenses.shelf import DTYPE
from defenses.statements import Statement
from defenses.wire import raw

if TYPE_CHECKING:
    from defenses.secure_aggregation import Session


def draw() -> int:
    """A public challenge that nobody could know before."""
    return 1 + secrets.randbelow(P - 1)


@dataclass
class HiddenRows:
    """Rows of clients at the parties, of which one sum can be learned once the clients proved what they had to."""

    session: Session
    batch: str
    rows: dict[int, Tensor]  # of the simulated clients, signed; the server must not look
    clients: tuple[int, ...]  # whose shares reached every party, later: whose proofs hold
    events: tuple[str, ...]

    @classmethod
    def share(cls, session: Session, rows: Int[Tensor, "clients n"], clients: tuple[int, ...]) -> HiddenRows:
        """Split every row over the parties."""
        name = f"hidden {secrets.token_hex(8)}"
        session._tell({"op": "hide", "batch": name, "clients": list(clients), "params": rows.shape[1]})
        own = dict(zip(clients, rows, strict=True))
        for client, row in own.items():
            header = {"op": "share", "batch": name, "client": client, "dtype": DTYPE}
            session._from_client(header, split_elements(fold(row), session.parties))
        sealed = session._sealed(name, clients, rows.shape[1])
        return cls(session, name, own, sealed.clients, sealed.events)

    def prove(
        self, statement: Statement, witness: Callable[[Int[Tensor, " n"]], Int[Tensor, " rest"]]
    ) -> tuple[int, ...]:
        """All clients prove the statement about their rows; those whose proofs do not hold are no longer among them.

        Args:
            statement: public, its draws made after the rows were shared.
            witness: what a client shares besides its row.

        Returns:
            Who failed.
        """
        header, body = to_wire(statement)
        self.session._tell({"op": "claim", "batch": self.batch, **header}, raw(body))
        own: dict[int, tuple[Tensor, Tensor]] = {}
        for client in self.clients:
            rest = witness(self.rows[client])
            vector, mask = fold(torch.cat([self.rows[client], rest])), elements(statement.length)
            own[client] = vector, mask
            self._send("witness", client, torch.cat([fold(rest), mask]), digest=statement.digest)
        seed = draw()
        squares = statement.equation(seed).squares
        for client, (vector, mask) in own.items():
            weighted = times(squares, mask)
            ends = [total(times(weighted, mask)), 2 * total(times(weighted, vector))]
            self._send("ends", client, torch.stack([scalar(end) for end in ends]))
        passed = self._checked(seed, self._ready())
        failed = tuple(client for client in self.clients if client not in passed)
        self.clients = passed
        return failed

    def _ready(self) -> list[int]:
        """Whose proofs have reached every party."""
        self.session._tell({"op": "ready", "batch": self.batch})
        replies = [header for header, _ in self.session._replies()]
        complaints = [f"party {rank}: {text}" for rank, header in enumerate(replies) for text in header["complaints"]]
        self.events = (*self.events, *complaints)
        return [client for client in self.clients if all(client in header["held"] for header in replies)]

    def _checked(self, seed: int, clients: list[int]) -> tuple[int, ...]:
        """Whose proofs hold."""
        if not clients:
            return ()
        self.session._tell({"op": "check", "batch": self.batch, "clients": clients, "seed": seed, "e": draw()})
        return tuple(self._answer().tolist())

    def _answer(self) -> Tensor:
        """What party 0 tells once all have done their part."""
        values = self.session._replies()[0][1]
        return torch.zeros(0, dtype=torch.int64) if values is None else values

    def _send(self, op: str, client: int, words: Tensor, **more: Any) -> None:
        shares = split_elements(words, self.session.parties)
        self.session._from_client({"op": op, "batch": self.batch, "client": client, **more}, shares)

    def count(self) -> int:
        """How many of the clients count: the sum of the last entries of their rows."""
        self.session._tell({"op": "count", "batch": self.batch, "clients": list(self.clients)})
        return int(self._answer())

    def total(self, weights: Int[Tensor, " clients"]) -> Int[Tensor, " n"]:
        """The weighted sum of the rows, once."""
        self.session._tell({"op": "hidden_total", "batch": self.batch, "clients": list(self.clients)}, raw(weights))
        return signed(self._answer())

    def forget(self) -> None:
        """Let the parties forget the rows."""
        self.session._tell({"op": "forget", "batch": self.batch})
