"""What one party holds for one session: shares of rows, by batch, and the rules of what it helps to reveal of them.

The rules bind the server, not the clients. Of a batch there are at most two sums, with weights in [0, 2^32], and no
combination of the two is a multiple of one row; products and norms are few, fewer than a row has entries. Nothing is
revealed before the share of every client is there, and none stands twice.

They do not bind everything: where weights are very uneven, the digits of one row stand below those of another, and a
party cannot tell a client from a server that speaks in its name. A server that does so breaks the protocol.

What a client sends wrongly costs this client alone: it is a complaint, never the end of a session.
"""

from __future__ import annotations

from collections import Counter
from math import gcd

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from autoflip_secure.defenses.secure_aggregation.messages import MOST_COMPLAINTS
from autoflip_secure.defenses.secure_aggregation.reveal import Pair
from autoflip_secure.defenses.secure_aggregation.wire import raw
from autoflip_secure.errors import SecureSumError

DTYPE = "<i8"
MOST_SUMS = 2
LARGEST_WEIGHT = 2**32
MOST_PRODUCTS = 1024
MOST_NORMS = 1024
BLOCK = 2**13  # values


class ShareStore:
    """Shares of the rows of several clients."""

    def __init__(self, clients: list[int], params: int) -> None:
        if len(set(clients)) != len(clients):
            raise SecureSumError("refuses a batch in which a client stands twice: two rows would be one")
        self.params = params
        self.clients = clients
        self.rows = torch.zeros(len(clients), params, dtype=torch.int64)  # not what this memory held before
        self.place = {client: index for index, client in enumerate(clients)}
        self.held: set[int] = set()
        self.pairs: dict[int, tuple[Pair, Pair]] = {}
        self.width, self.starts = 0, torch.zeros(0, dtype=torch.int64)  # of the pairs that are waited for
        self.complaints: list[str] = []
        self._products = self._norms = 0
        self._sums: list[list[int]] = []  # weights of those that were asked for

    @property
    def bytes(self) -> int:
        """Memory of the shares that it holds or has made room for."""
        return self.rows.nbytes + 8 * self._pair_words * len(self.pairs)

    @property
    def _pair_words(self) -> int:
        """Of one client: a pair to use, one to check it with."""
        return 2 * (self.width + len(self.starts))

    def complain(self, text: str) -> None:
        """Note what is not taken; of very many the last words say that there were more."""
        if len(self.complaints) < MOST_COMPLAINTS:
            self.complaints.append(text)
        elif len(self.complaints) == MOST_COMPLAINTS:
            self.complaints.append("more was not taken than is told here")

    def space(self, client: int, dtype: str, size: int) -> memoryview | None:
        """Where the share of ``client`` goes; None, and a complaint, when it is not to be taken."""
        if client not in self.place:
            self.complain(f"client {client} sent a share that nobody asked for: not taken")
        elif client in self.held:
            self.complain(f"client {client} sent its share twice: the first counts")
        elif dtype != DTYPE:
            self.complain(f"client {client} sent a share of type {dtype}, not {DTYPE}: left out")
        elif size != 8 * self.params:
            self.complain(f"client {client} sent {size} bytes, not {8 * self.params}: left out")
        else:
            return raw(self.rows[self.place[client]])
        return None

    def keep(self, clients: list[int]) -> None:
        """Forget everybody else: their shares did not reach every party."""
        if not set(clients) <= self.held:
            missing = sorted(set(clients) - self.held)
            raise SecureSumError(f"was asked to use clients {missing}, whose shares it does not hold")
        if len(set(clients)) != len(clients):
            raise SecureSumError("refuses to keep a client twice: two rows would be one")
        if clients != self.clients:
            self.rows = self.rows[[self.place[client] for client in clients]]
        self.clients, self.place = clients, {client: index for index, client in enumerate(clients)}
        self.held = set(clients)

    def complete(self) -> None:
        """Refuse to answer while shares are missing."""
        missing = sorted(set(self.clients) - self.held)
        if missing:
            raise SecureSumError(f"refuses to reveal anything before the shares of clients {missing} are here")

    def total(self, weights: Int[Tensor, " clients"]) -> Int[Tensor, " params"]:
        """Share of a weighted sum."""
        self.complete()
        asked = weights.tolist()
        self._sums.append(asked)
        if not all(0 <= weight <= LARGEST_WEIGHT for weight in asked):
            raise SecureSumError(f"refuses a sum with weights outside [0, {LARGEST_WEIGHT}], of which digits tell rows")
        if tells_one(self._sums) or len(self._sums) >= max(2, len(self.clients)):
            raise SecureSumError(
                f"refuses sum {len(self._sums)} of {len(self.clients)} clients, {sum(w != 0 for w in asked)} of them "
                "with a weight: it would tell a single client's row; take at least two clients, and three for two sums"
            )
        if len(self._sums) > MOST_SUMS:
            raise SecureSumError(f"refuses sum {len(self._sums)}; at most {MOST_SUMS} may be revealed of a batch")
        result = torch.zeros(self.params, dtype=torch.int64)
        for row, weight in zip(self.rows, weights.tolist(), strict=True):
            result.add_(row, alpha=weight)
        return result

    def products(self, vectors: Int[Tensor, "vectors params"]) -> Int[Tensor, "clients vectors"]:
        """Shares of the products with public vectors."""
        self.complete()
        self._products += len(vectors)
        if self._products > MOST_PRODUCTS or self._products >= self.params:
            raise SecureSumError(
                f"refuses {self._products} products with rows of {self.params} values; at most {MOST_PRODUCTS}, and "
                "fewer than there are values, may be revealed of a batch"
            )
        if len(vectors) == 0:
            return self.rows.new_zeros(len(self.rows), 0)
        found = np.zeros((len(self.rows), len(vectors)), dtype=np.int64)
        for start in range(0, self.params, BLOCK):  # that stay in the cache; einsum's integers are the quickest
            part = slice(start, start + BLOCK)
            found += np.einsum("kp,vp->kv", self.rows[:, part].numpy(), vectors[:, part].to(torch.int64).numpy())
        return torch.from_numpy(found)

    def deal(self, width: int, starts: Int[Tensor, " groups"]) -> None:
        """Wait for two square pairs of every client, of ``width`` entries in groups that begin at ``starts``."""
        self.complete()
        self._norms += len(starts)
        if self._norms > MOST_NORMS or self._norms >= self.params:
            raise SecureSumError(
                f"refuses {self._norms} squared norms of parts of rows of {self.params} values; at most {MOST_NORMS}, "
                "and fewer than there are values, may be revealed of a batch"
            )
        ends = [*starts.tolist(), width]
        if ends[0] != 0 or sorted(ends) != ends:
            raise SecureSumError(f"refuses groups that begin at {ends[:-1]} of {width}: they should ascend from 0")
        self.width, self.starts = width, starts
        self.pairs = {}

    def pair_space(self, client: int, size: int) -> Int[Tensor, " words"] | None:
        """Where the pairs of ``client`` go; None, and a complaint, when they are not to be taken."""
        words = self._pair_words
        if client not in self.place or client in self.pairs or len(self.starts) == 0:
            self.complain(f"client {client} sent square pairs twice or unasked: not taken")
        elif size != 8 * words:
            self.complain(f"client {client} sent square pairs of {size} bytes, not {8 * words}: not taken")
        else:
            return torch.empty(words, dtype=torch.int64)
        return None

    def take_pair(self, client: int, words: Int[Tensor, " words"]) -> None:
        """Keep the pairs of ``client``: one to use, one to check it with."""
        first, second = (Pair(part[: self.width], part[self.width :]) for part in words.view(2, -1))
        self.pairs[client] = first, second


def tells_one(sums: list[list[int]]) -> bool:
    """Whether the last sum alone, or a combination of it with the one before, is a multiple of a single row.

    A combination with coefficients a, b weighs client k with a w_k + b v_k. It leaves out a client for each direction
    (w_k : v_k) it is orthogonal to, so it is of one row alone where there are two directions and one has one client.

    >>> tells_one([[1, 1, 1, 0], [0, 1, 1, 0]]), tells_one([[1, 1, 1, 1], [0, 0, 1, 1]])
    (True, False)
    """
    pairs = [column for column in zip(*sums[-2:], strict=True) if any(column)]
    directions = Counter(tuple(weight // gcd(*column) for weight in column) for column in pairs)
    return len(directions) < 3 and min(directions.values(), default=0) < 2
