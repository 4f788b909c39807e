r"""A party's side of proofs on shares: it learns whether a client's vector passes, and later the sum of those that do.

The client shares v, then a uniform mask m and what else it needs as witness; :math:`\rho` is drawn; it shares
:math:`c_0 = \langle \alpha, m \circ m \rangle` and :math:`c_1 = 2 \langle \alpha, m \circ v \rangle`; e is drawn.
Opened are w = m + ev, which is uniform whatever v is, and the residue, which is zero for who told the truth:

.. math:: \langle \alpha, w \circ w \rangle - c_0 - e c_1 + e^2 (\langle \ell, v \rangle + \kappa) = e^2 f_\rho(v)

For a lie it is a polynomial in e of degree 2 that is not zero, and two of p - 1 draws make it vanish at most. No
dealer is needed, and the parties multiply nothing with one another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from autoflip_secure.errors import SecureSumError
from defenses.prime_field import element, fold, scalar, summed, times, total
from defenses.reveal import reveal
from defenses.shelf import LARGEST_WEIGHT, Batch
from defenses.statements import Ballot, Passes, Statement

FEWEST = 2  # clients in a sum


def to_wire(statement: Statement) -> tuple[dict[str, Any], Int[Tensor, " words"]]:
    """A statement as header and body."""
    if isinstance(statement, Ballot):
        return {"kind": "ballot", "rows": list(statement.rows)}, torch.zeros(0, dtype=torch.int64)
    assert isinstance(statement, Passes)
    parts = [statement.groups, statement.affinity, statement.heading]
    header = {
        "kind": "passes", "profile": statement.profile, "direction": statement.direction, "signs": statement.signs,
        "sizes": [None if part is None else len(part) for part in parts],
    }  # fmt: skip
    return header, torch.cat([part for part in parts if part is not None])


def from_wire(header: dict[str, Any], body: Int[Tensor, " words"]) -> Statement:
    """The inverse of :func:`to_wire`."""
    if header["kind"] == "ballot":
        return Ballot(tuple(int(row) for row in header["rows"]))
    parts: list[Tensor | None] = []
    for size in header["sizes"]:
        parts.append(None if size is None else body[: int(size)])
        body = body[int(size or 0) :]
    groups, affinity, heading = parts
    assert groups is not None
    return Passes(groups, affinity, int(header["profile"]), heading, int(header["direction"]), int(header["signs"]))


class HiddenBatch(Batch):
    """Shares of elements of the field, of which nothing is revealed but one sum, of clients whose proofs hold."""

    def __init__(self, clients: list[int], params: int) -> None:
        super().__init__(clients, params)
        self.statement: Statement | None = None
        self.witness: dict[int, tuple[Tensor, Tensor]] = {}  # rest of v, m
        self.ends: dict[int, Tensor] = {}  # c_0, c_1
        self.failed: set[int] = set()
        self.checked: set[int] = set()
        self.counted: tuple[list[int], int] | None = None
        self._done = False

    def total(self, weights: Int[Tensor, " clients"]) -> Int[Tensor, " params"]:
        """Refused: see :meth:`sum`."""
        raise SecureSumError("refuses a sum of hidden rows whose proofs were not checked")

    def products(self, vectors: Int[Tensor, "vectors params"]) -> Int[Tensor, "clients vectors"]:
        """Refused."""
        raise SecureSumError("refuses products with hidden rows")

    def deal(self, width: int, starts: Int[Tensor, " groups"]) -> None:
        """Refused."""
        raise SecureSumError("refuses norms of hidden rows")

    def prove(self, client: int, digest: str, words: Int[Tensor, " words"]) -> None:
        """Take a client's witness and mask; what is not to be taken leaves the client without a proof."""
        if self.statement is None or self.statement.digest != digest:
            self.complaints.append(f"client {client} proves another statement: not taken")
            return
        rest = self.statement.length - self.statement.shared
        known = client in self.witness or client in self.checked  # a second mask would be known to who sends it
        if len(words) != rest + self.statement.length or client not in self.place or known:
            self.complaints.append(f"client {client} sent a witness of wrong length, twice or unasked: not taken")
            return
        words = fold(words)
        self.witness[client] = words[:rest], words[rest:]

    def close(self, client: int, words: Int[Tensor, " words"]) -> None:
        """Take c_0 and c_1."""
        if len(words) != 2 or client not in self.witness or client in self.ends:
            self.complaints.append(f"client {client} ended a proof wrongly, twice or unasked: not taken")
            return
        self.ends[client] = fold(words)

    def vector(self, client: int) -> Int[Tensor, " length"]:
        """Share of v."""
        return torch.cat([fold(self.rows[self.place[client]]), self.witness[client][0]])

    def members(self, clients: list[int]) -> Int[Tensor, "clients params"]:
        """Shares of what is to be summed of clients whose proofs were checked.

        Raises:
            SecureSumError: there are fewer than two, one stands twice, or one did not prove anything.
        """
        if len(set(clients)) != len(clients):
            raise SecureSumError("refuses to take a hidden row twice: two would be one")
        wrong = sorted((set(clients) - self.checked) | (set(clients) & self.failed))
        if len(clients) < FEWEST or wrong:
            raise SecureSumError(
                f"refuses to sum {len(clients)} hidden rows, {len(wrong)} of them without a proof; take at least "
                f"{FEWEST} that passed"
            )
        return fold(self.rows[[self.place[client] for client in clients]])

    def sum(self, clients: list[int], weights: Int[Tensor, " clients"]) -> Int[Tensor, " params"]:
        """Share of the one weighted sum."""
        rows = self.members(clients)
        if self._done or (isinstance(self.statement, Passes) and (self.counted or ([], 0))[1] < FEWEST):
            raise SecureSumError(
                f"refuses a sum of hidden rows that is not the first, or in which fewer than {FEWEST} clients count"
            )
        if self.counted is not None and self.counted[0] != clients:
            raise SecureSumError("refuses a sum of other hidden rows than those that were counted")
        if len(weights) != len(clients) or int(weights.min()) < 1 or int(weights.max()) > LARGEST_WEIGHT:
            raise SecureSumError(
                f"refuses to tell hidden rows apart by their weights; each has to be within [1, {LARGEST_WEIGHT}]"
            )
        self._done = True
        result = torch.zeros(self.params, dtype=torch.int64)
        for row, weight in zip(rows, weights, strict=True):
            result = fold(result + times(row, fold(weight)))
        return result


class HiddenWork:
    """Requests about hidden batches, for one session."""

    def __init__(
        self, batches: dict[str, Batch], rank: int, take: Callable[[int], Tensor],
        tell: Callable[[Tensor | None], None], answer: Callable[[dict[str, Any]], None],
    ) -> None:  # fmt: skip
        self.batches, self.take, self.tell, self.answer = batches, take, tell, answer
        self.first = rank == 0  # what is public is added by one party
        self.ops: dict[str, Callable[[dict[str, Any], int], None]] = {
            "hide": self._hide, "claim": self._claim, "witness": self._witness, "ends": self._ends,
            "ready": self._ready, "check": self._check, "count": self._count, "hidden_total": self._total,
        }  # fmt: skip

    def _batch(self, header: dict[str, Any]) -> HiddenBatch:
        batch = self.batches[header["batch"]]
        if not isinstance(batch, HiddenBatch):
            raise SecureSumError("was asked about hidden rows of a batch that is not hidden")
        return batch

    def _hide(self, header: dict[str, Any], size: int) -> None:
        clients = [int(client) for client in header["clients"]]
        self.batches[str(header["batch"])] = HiddenBatch(clients, int(header["params"]))

    def _claim(self, header: dict[str, Any], size: int) -> None:
        batch, statement = self._batch(header), from_wire(header, self.take(size))
        if batch.statement is not None or statement.shared != batch.params:
            raise SecureSumError("refuses a statement that is not the first of its rows, or not about them")
        batch.statement = statement

    def _witness(self, header: dict[str, Any], size: int) -> None:
        self._batch(header).prove(int(header["client"]), str(header["digest"]), self.take(size))

    def _ends(self, header: dict[str, Any], size: int) -> None:
        self._batch(header).close(int(header["client"]), self.take(size))

    def _ready(self, header: dict[str, Any], size: int) -> None:
        """Say whose proofs are complete, before any challenge."""
        batch = self._batch(header)
        here = batch.held & set(batch.witness) & set(batch.ends)
        held = [client for client in batch.clients if client in here]
        self.answer({"held": held, "complaints": batch.complaints})
        batch.complaints = []

    def _check(self, header: dict[str, Any], size: int) -> None:
        """Open w, then the residues, to party 0. A mask is used once: two of w = m + ev would give v."""
        batch, e = self._batch(header), element(int(header["e"]))
        if e == 0 or batch.statement is None:
            raise SecureSumError("refuses to check without a statement, or with the challenge 0")
        equation, square = batch.statement.equation(int(header["seed"])), scalar(e * e)
        clients = [int(client) for client in header["clients"]]
        here = batch.held & set(batch.witness) & set(batch.ends)
        if not clients or len(set(clients)) != len(clients) or not set(clients) <= here:
            raise SecureSumError(f"was asked to check proofs of clients {clients}, and does not hold all of them")
        vectors = [batch.vector(client) for client in clients]
        masks = [batch.witness.pop(client)[1] for client in clients]
        batch.checked |= set(clients)
        shares = [fold(m + times(v, scalar(e))) for m, v in zip(masks, vectors, strict=True)]
        opened = reveal(torch.stack(shares), to=0)
        residues = []
        for place, (client, v) in enumerate(zip(clients, vectors, strict=True)):
            c0, c1 = batch.ends[client]
            linear = scalar(total(times(equation.linear, v)) + (equation.constant if self.first else 0))
            residue = fold(times(square, linear) - c0)
            residue = fold(residue - times(scalar(e), c1))
            if opened is not None:
                w = summed(opened[place])
                residue = fold(residue + scalar(total(times(equation.squares, times(w, w)))))
            residues.append(residue)
        found = reveal(torch.stack(residues), to=0)
        if found is not None:
            batch.failed |= {client for client, left in zip(clients, summed(found).tolist(), strict=True) if left}
        passed = torch.tensor([client for client in clients if client not in batch.failed], dtype=torch.int64)
        self.tell(passed if found is not None else None)

    def _count(self, header: dict[str, Any], size: int) -> None:
        """Open how many count, to all parties: each refuses the sum of fewer than two."""
        batch, clients = self._batch(header), [int(client) for client in header["clients"]]
        if batch.counted is not None:
            raise SecureSumError("refuses to count hidden rows twice")
        opened = reveal(scalar(total(batch.members(clients)[:, -1]))[None])
        assert opened is not None
        count = summed(opened)
        batch.counted = clients, int(count)
        self.tell(count if self.first else None)

    def _total(self, header: dict[str, Any], size: int) -> None:
        weights = self.take(size)
        share = self._batch(header).sum([int(client) for client in header["clients"]], weights)
        opened = reveal(share, to=0)
        self.tell(None if opened is None else summed(opened))
