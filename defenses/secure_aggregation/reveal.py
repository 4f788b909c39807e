r"""What the parties do together: CrypTen opens what is allowed to be known, over the parties' own connections.

CrypTen's own communicator is built on torch.distributed, which authenticates nobody, opens ports of its own choice and
fails as a whole when one party does. CrypTen asks little of a communicator, so the parties' links are one: one known
port per party, a timeout on every wait, and an error that names who is missing.

Squares take a Beaver pair per row, dealt by the row's client (:func:`~.shares.square_pair`), and a second one
that is spent on checking the first with a public odd t that nobody knew when they were dealt:

.. math:: \epsilon = y - r \text{ is opened}, \quad \|y_g\|^2 = \|r_g\|^2 + 2 \langle \epsilon_g, r_g \rangle
          + \|\epsilon_g\|^2

    \rho = t r - f \text{ is opened}, \quad
    t^2 \|r_g\|^2 - \|f_g\|^2 - 2 \langle \rho_g, f_g \rangle - \|\rho_g\|^2 = 0

A lie that is an odd multiple of 2^v passes with a chance of 2^(v - 61), four square roots of each odd square: in the
fixed point of updates, where a typical squared norm is 2^49, less than 1/1,000 for a lie of a few of these.

CrypTen's default provider lets party 0 draw r in the clear; with the opened :math:`\epsilon` it would know y. So that
provider is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from autoflip_secure.defenses.secure_aggregation.crypten_import import crypten
from autoflip_secure.defenses.secure_aggregation.shares import uniform
from autoflip_secure.defenses.secure_aggregation.wire import Channel, WireError, raw
from autoflip_secure.secure_rows.secret_rows import group_sums


class Links:
    """One session's connections to the other parties: what CrypTen asks of a communicator, as far as it is used."""

    def __init__(self, rank: int, peers: dict[int, Channel]) -> None:
        self.rank, self.peers = rank, peers
        self._before = self._sent  # the greeting is no part of a sum

    def get_rank(self) -> int:
        """This party's number."""
        return self.rank

    def get_world_size(self) -> int:
        """Number of parties."""
        return len(self.peers) + 1

    def all_reduce(self, mine: Tensor, **_: Any) -> Tensor:
        """Sum over the parties, known to all. Of two the lower one speaks first, so nobody waits in a circle."""
        total = mine.clone()
        for other, link in sorted(self.peers.items()):
            if self.rank < other:
                _tell(link, mine)
                total += _hear(link, mine)
            else:
                total += _hear(link, mine)
                _tell(link, mine)
        return total

    def reduce(self, mine: Tensor, dst: int, **_: Any) -> Tensor | None:
        """Sum over the parties, known to ``dst`` alone."""
        if self.rank != dst:
            _tell(self.peers[dst], mine)
            return None
        total = mine.clone()
        for _other, link in sorted(self.peers.items()):
            total += _hear(link, mine)
        return total

    @property
    def bytes(self) -> int:
        """Sent so far to the other parties."""
        return self._sent - self._before

    @property
    def _sent(self) -> int:
        return sum(link.sent for link in self.peers.values())

    def close(self) -> None:
        """Hang up."""
        for link in self.peers.values():
            link.close()


def _tell(link: Channel, tensor: Tensor) -> None:
    link.send({"op": "reveal"}, raw(tensor.contiguous()))


def _hear(link: Channel, like: Tensor) -> Tensor:
    header, size = link.receive()
    if header.get("op") != "reveal" or size != 8 * like.numel():
        raise WireError(f"{link.who} is at another step ({header.get('op')}, {size} bytes)")
    theirs = torch.empty_like(like, memory_format=torch.contiguous_format)
    link.fill(raw(theirs))
    return theirs


def install(links: Links) -> None:
    """Make ``links`` what CrypTen communicates through in this thread, which serves one session."""
    for streams in crypten().generators.values():  # from_shares makes an empty sharing of zero first, and asks for them
        streams.setdefault(torch.device("cpu"), torch.Generator())
    communicator = crypten().communicator
    communicator.InProcessCommunicator.tls.instance = links
    communicator._init(use_threads=True)


def secret(share: Int[Tensor, "*shape"]) -> Any:
    """This party's share as a secret of CrypTen's: an integer of the ring, no fixed point of its own."""
    return crypten().mpc.MPCTensor.from_shares(share, precision=0)


def reveal(share: Int[Tensor, "*shape"], to: int | None = None) -> Int[Tensor, "*shape"] | None:
    """Open a sharing: to all parties, or to one (None at the others)."""
    opened: Tensor | None = secret(share).reveal(dst=to)
    return opened


@dataclass(frozen=True)
class Pair:
    """One party's shares of r and of its squared norm per group."""

    mask: Int[Tensor, " width"]
    squares: Int[Tensor, " groups"]


def coin() -> int:
    """A public odd number that is known to nobody before all parties have spoken."""
    drawn = reveal(uniform(1))
    assert drawn is not None
    return int(drawn) | 1


def squared_norm(
    share: Int[Tensor, " width"], pair: Pair, check: Pair, starts: Int[Tensor, " groups"], challenge: int
) -> tuple[Int[Tensor, " groups"], bool]:
    """This party's share of the squared norm of every group, and whether the client's pair is one.

    Args:
        share: of the row (or of its sketch).
        pair: shares of r.
        check: shares of f, spent on checking ``pair``.
        starts: first entry of each group.
        challenge: t.
    """
    opened = reveal(torch.cat([share - pair.mask, torch.tensor(challenge) * pair.mask - check.mask]))
    assert opened is not None
    epsilon, rho = opened.view(2, -1)
    norm = secret(pair.squares) + _products(epsilon, pair.mask, starts)
    lie = secret(pair.squares) * challenge * challenge - secret(check.squares) - _products(rho, check.mask, starts)
    return norm.share, not bool(lie.reveal().any())


def _products(public: Int[Tensor, " width"], mask: Int[Tensor, " width"], starts: Int[Tensor, " groups"]) -> Any:
    """2 <e, r> + ||e||^2 per group, a secret of CrypTen's, which adds what is public at one party alone."""
    own, known = group_sums(torch.stack([2 * public * mask, public * public]), starts)
    return secret(own) + known
