r"""Secure sums: clients split their rows over party processes, and only what is asked for is revealed.

A client encodes its row in fixed point, splits it (:mod:`.shares`) and sends one share to each party. A party
adds what it holds; CrypTen reveals the sum of the parties' sums; division happens afterwards, in the open:

.. math:: \sum_k w_k x_k = \sum_i \Big( \sum_k w_k s_{ki} \Big) \bmod 2^{64}

One share alone, and any number of them but all, is uniform noise. The simulated clients live in this process, which
therefore knows their rows; what it sends to party i about client k is :math:`s_{ki}` and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from autoflip_secure.defenses.secure_aggregation.links import PartyLinks
from autoflip_secure.defenses.secure_aggregation.local_parties import Parties
from autoflip_secure.defenses.secure_aggregation.messages import Held
from autoflip_secure.defenses.secure_aggregation.share_store import DTYPE
from autoflip_secure.defenses.secure_aggregation.shared_rows import SharedRows
from autoflip_secure.defenses.secure_aggregation.shares import Share, split
from autoflip_secure.secure_rows.secure_sum import SecureSum, Traffic


class Session(PartyLinks, SecureSum):
    """Rows go in shares to all parties of a sweep, and only sums and the numbers asked for come back."""

    def __init__(self, parties: Parties) -> None:
        super().__init__(parties)
        self._batches = 0
        self._told = 0  # bytes

    def share(self, rows: Int[Tensor, "clients params"], clients: tuple[int, ...]) -> SharedRows:
        """Split every row over the parties. Clients whose shares do not reach all of them are left out.

        Args:
            rows: encoded, one per client; no party and no message ever holds one.
            clients: their ids.
        """
        batch, self._batches = f"{self._batches:012d}", self._batches + 1
        self.request({"op": "open", "batch": batch, "clients": list(clients), "params": rows.shape[1]})
        for client, row in zip(clients, rows, strict=True):
            self._deal(batch, client, split(row, self.parties))
        return self._sealed(batch, clients, rows.shape[1])

    def _deal(self, batch: str, client: int, shares: Sequence[Share]) -> None:
        """What a client sends: its i-th share to party i."""
        self.from_client({"op": "share", "batch": batch, "client": client, "dtype": DTYPE}, shares)

    def tell(self, numbers: int) -> None:
        """See :class:`~autoflip_secure.secure_rows.secure_sum.SecureSum`."""
        self._told += 8 * numbers

    def _sealed(self, batch: str, clients: tuple[int, ...], params: int) -> SharedRows:
        """Ask who reached every party, and go on with those."""
        self.request({"op": "seal", "batch": batch})
        events, held = [], set(clients)
        for rank, (reply, _) in enumerate(self.replies(Held)):
            reached = set(reply.held)
            missing = [k for k in clients if k not in reached]
            events += [f"client {k} left out of the secure sum: party {rank} has no share of it" for k in missing]
            events += [f"party {rank}: {complaint}" for complaint in reply.complaints]
            held -= set(missing)
        kept = tuple(k for k in clients if k in held)
        self.request({"op": "keep", "batch": batch, "clients": list(kept)})
        return SharedRows(self, batch, kept, params, tuple(events))

    @property
    def traffic(self) -> Traffic:
        """Bytes so far, everything included."""
        return Traffic(
            from_clients=self._dealt + self._told,
            from_server=self._sent - self._dealt,
            to_server=sum(channel.received for channel in self._channels),
            between_parties=sum(self._between),
        )

    def __enter__(self) -> Session:
        return self
