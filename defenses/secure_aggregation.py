r"""Secure sums: clients split their rows over party processes, and only what is asked for is revealed.

A client encodes its row in fixed point, splits it (:mod:`defenses.shares`) and sends one share to each party. A party
adds what it holds; CrypTen reveals the sum of the parties' sums; division happens afterwards, in the open:

.. math:: \sum_k w_k x_k = \sum_i \Big( \sum_k w_k s_{ki} \Big) \bmod 2^{64}

One share alone, and any number of them but all, is uniform noise. The simulated clients live in this process, which
therefore knows their rows; what it sends to party i about client k is :math:`s_{ki}` and nothing else.
"""

from __future__ import annotations

import contextlib
import secrets
import selectors
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from autoflip_secure.errors import AutoflipError, InputError, SecureSumError
from autoflip_secure.interfaces import Aggregator, RoundView
from autoflip_secure.secret_rows import Sketch
from autoflip_secure.secure_sum import Revealed, Scored, SecureSum, SharedBatch, Traffic
from defenses.crew import Parties
from defenses.greeting import Calls, greet
from defenses.messages import Done, Held, M, Ready, printable, understood
from defenses.scored_updates import score_secretly
from defenses.shares import Seed, Share, split, square_pair
from defenses.shelf import DTYPE
from defenses.tls import context
from defenses.wire import Channel, GoneError, WireError, dial, raw

TOO_LARGE = 2**58
"""Squared norm of a group that stands for a client whose pair was none; sums over groups stay inside the ring."""
_AGAIN = "run the same command again"
_KEPT = f"; finished cells are kept, {_AGAIN} to continue"


class Session(SecureSum):
    """A conversation with all parties of one crew; used by one process, one request at a time."""

    def __init__(self, parties: Parties) -> None:
        self.where = parties
        self.parties = len(parties.addresses)
        self._channels: list[Channel] = []
        self._batches = 0
        self._dealt = self._told = 0  # bytes
        self._between = [0] * self.parties
        try:
            self._connect()
        except AutoflipError as error:
            self.close()
            if parties.ours or isinstance(error.__cause__, GoneError):  # a dead party is one, whenever it is noticed
                raise
            # addresses, certificates and what runs there are the user's
            raise InputError(str(error).replace(_KEPT, "")) from error
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        session = secrets.token_hex(16)
        identities: dict[str, int] = {}
        certificates = self.where.certificates
        tls = None if certificates is None else context(certificates, "calls")
        for rank, address in enumerate(self.where.addresses):
            who = f"party {rank} ({address})"
            with self._named():
                channel = dial(address, who, self.where.timeout, tls, patient=lambda: not self.where.ours)
                self._channels.append(channel)
                about = greet(channel, Calls(
                    session=session, rank=rank, timeout=self.where.timeout, parties=list(self.where.addresses),
                ))  # fmt: skip
            twin = identities.setdefault(about.party, rank)
            if twin != rank:
                raise SecureSumError(
                    f"secure_sum.parties: party {twin} and party {rank} are the same process, which would hold two "
                    "shares of every row; start one process for each"
                )
        self._replies(Ready)

    def share(self, rows: Int[Tensor, "clients params"], clients: tuple[int, ...]) -> SharedRows:
        """Split every row over the parties. Clients whose shares do not reach all of them are left out.

        Args:
            rows: encoded, one per client; no party and no message ever holds one.
            clients: their ids.
        """
        batch, self._batches = f"{self._batches:012d}", self._batches + 1
        self._tell({"op": "open", "batch": batch, "clients": list(clients), "params": rows.shape[1]})
        for client, row in zip(clients, rows, strict=True):
            self._deal(batch, client, split(row, self.parties))
        return self._sealed(batch, clients, rows.shape[1])

    def _deal(self, batch: str, client: int, shares: Sequence[Share]) -> None:
        """What a client sends: its i-th share to party i."""
        self._from_client({"op": "share", "batch": batch, "client": client, "dtype": DTYPE}, shares)

    def _from_client(self, header: dict[str, Any], shares: Sequence[Share]) -> None:
        before = self._sent
        for channel, share in zip(self._channels, shares, strict=True):
            if isinstance(share, Seed):
                self._send(channel, {**header, "expand": share.count}, memoryview(share.key))
            else:
                self._send(channel, header, raw(share))
        self._dealt += self._sent - before

    def tell(self, numbers: int) -> None:
        """Count numbers that clients tell the server themselves, past the parties."""
        self._told += 8 * numbers

    @property
    def _sent(self) -> int:
        return sum(channel.sent for channel in self._channels)

    def _sealed(self, batch: str, clients: tuple[int, ...], params: int) -> SharedRows:
        """Ask who reached every party, and go on with those."""
        self._tell({"op": "seal", "batch": batch})
        events, held = [], set(clients)
        for rank, (reply, _) in enumerate(self._replies(Held)):
            reached = set(reply.held)
            missing = [k for k in clients if k not in reached]
            events += [f"client {k} left out of the secure sum: party {rank} has no share of it" for k in missing]
            events += [f"party {rank}: {complaint}" for complaint in reply.complaints]
            held -= set(missing)
        kept = tuple(k for k in clients if k in held)
        self._tell({"op": "keep", "batch": batch, "clients": list(kept)})
        return SharedRows(self, batch, kept, params, tuple(events))

    def _tell(self, header: dict[str, Any], *bodies: memoryview) -> None:
        """The same message to every party."""
        for channel in self._channels:
            self._send(channel, header, *bodies)

    def _send(self, channel: Channel, header: dict[str, Any], *bodies: memoryview) -> None:
        try:
            channel.send(header, *bodies)
        except WireError as error:
            raise self._failed(_last_words(channel) or str(error)) from error

    def _replies(self, kind: type[M], *shape: int) -> list[tuple[M, Tensor | None]]:
        """One reply of each party, in order of rank; the first that fails, whoever it is, ends the session.

        Args:
            kind: of the replies.
            shape: of the integers that party 0 sends along; none: it sends none either.
        """
        found: dict[int, tuple[M, Tensor | None]] = {}
        with selectors.DefaultSelector() as waiting:
            for rank, channel in enumerate(self._channels):
                waiting.register(channel.socket, selectors.EVENT_READ, rank)
            while len(found) < self.parties:
                keys = list(waiting.get_map().values())
                ready = [k for k in keys if self._channels[k.data].pending] or [
                    k for k, _ in waiting.select(self.where.timeout)
                ]
                if not ready:
                    silent = [c.who for rank, c in enumerate(self._channels) if rank not in found]
                    with self._named():
                        raise GoneError(f"{' and '.join(silent)} did not answer within {self.where.timeout:g} s")
                for key in ready:
                    channel = self._channels[key.data]
                    with self._named():
                        found[key.data] = self._reply(channel, kind, shape if key.data == 0 else ())
                    waiting.unregister(channel.socket)
        return [found[rank] for rank in range(self.parties)]

    def _reply(self, channel: Channel, kind: type[M], shape: tuple[int, ...]) -> tuple[M, Tensor | None]:
        """What one party says, with as many integers as were asked for, whatever it says of their number."""
        header, size = channel.receive()
        if "error" in header:
            kind_of_error = GoneError if header.get("gone") is True else WireError
            raise kind_of_error(f"{channel.who}: {printable(str(header['error']))}")
        reply = understood(kind, header, channel.who)
        wanted = 8 * prod(shape) if shape else 0
        if size != wanted:
            raise WireError(f"{channel.who} sent {size} bytes where {wanted} were asked for")
        if not shape:
            return reply, None
        values = torch.empty(shape, dtype=torch.int64)
        channel.fill(raw(values))
        return reply, values

    def _revealed(self, *shape: int) -> Tensor:
        """What party 0 tells once all have done their part."""
        return self._answer(*shape)[0]

    def _answer(self, *shape: int) -> tuple[Tensor, Done]:
        replies = self._replies(Done, *shape)
        self._between = [reply.between for reply, _ in replies]
        reply, values = replies[0]
        assert values is not None
        return values, reply

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except WireError as error:
            raise self._failed(str(error)) from error

    def _failed(self, text: str) -> SecureSumError:
        self.close()
        return SecureSumError(f"secure sum: {text}{'' if _AGAIN in text else _KEPT}")

    def score(
        self, aggregator: Aggregator, state: Any, view: RoundView, obeys: Bool[Tensor, " clients"],
        draws: torch.Generator, width: int | None,
    ) -> Scored:  # fmt: skip
        """See :class:`~autoflip_secure.secure_sum.SecureSum`."""
        return score_secretly(self, aggregator, state, view, obeys, draws, width)

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

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; the parties forget everything of this session."""
        for channel in self._channels:
            channel.close()


def _last_words(channel: Channel) -> str | None:
    """Why a party hung up, where it said so before: at most one reply stands before its last words."""
    channel.patience(0.1)
    with contextlib.suppress(WireError):
        for _ in range(2):
            header, size = channel.receive()
            if "error" in header:
                return f"{channel.who}: {printable(str(header['error']))}"
            if size:
                return None
    return None


class SharedRows(SharedBatch):
    """Rows that lie in shares at the parties of a session."""

    def __init__(
        self, session: Session, batch: str, clients: tuple[int, ...], params: int, events: tuple[str, ...] = ()
    ) -> None:
        self.session, self.batch, self.clients, self.params = session, batch, clients, params
        self.events = events  # who was left out, and why
        self.revealed = Revealed()
        self._sketches = 0

    def total(self, weights: Int[Tensor, " clients"] | None = None) -> Int[Tensor, " params"]:
        """See :class:`~autoflip_secure.secret_rows.SecretRows`."""
        weights = torch.ones(len(self.clients), dtype=torch.int64) if weights is None else weights
        self._ask("total", weights)
        self.revealed = replace(self.revealed, sums=self.revealed.sums + 1)
        return self.session._revealed(self.params)

    def products(self, vectors: Int[Tensor, "vectors params"]) -> Int[Tensor, "clients vectors"]:
        """See :class:`~autoflip_secure.secret_rows.SecretRows`."""
        self._ask("products", vectors, vectors=len(vectors), dtype=vectors.numpy().dtype.str)
        self.revealed = replace(self.revealed, products=self.revealed.products + len(vectors))
        return self.session._revealed(len(self.clients), len(vectors))

    def squared_norms(
        self, sketch: Sketch | None = None, starts: Int[Tensor, " groups"] | None = None
    ) -> Int[Tensor, "clients groups"]:
        """See :class:`~autoflip_secure.secret_rows.SecretRows`. Every client deals two square pairs for it."""
        starts = torch.zeros(1, dtype=torch.int64) if starts is None else starts
        number = None
        if sketch is not None:
            number, self._sketches = self._sketches, self._sketches + 1
            buckets, signs = sketch.buckets.to(torch.int32), sketch.signs.to(torch.int8)
            self._ask("sketch", buckets, signs, sketch=number, width=sketch.width)
        width = self.params if sketch is None else sketch.width
        self._ask("deal", starts, sketch=number, groups=len(starts))
        self.session._replies(Ready)
        for client in self.clients:
            pair, check = (square_pair(width, starts.tolist()) for _ in range(2))
            shares = split(torch.cat([*pair, *check]), self.session.parties)
            self.session._from_client({"op": "pair", "batch": self.batch, "client": client}, shares)
        dealt = self._dealt()
        norms = torch.full((len(self.clients), len(starts)), TOO_LARGE)
        self.revealed = replace(self.revealed, norms=self.revealed.norms + len(starts))
        if dealt:
            self._ask("norms", sketch=number, clients=dealt)
            found, told = self.session._answer(len(dealt), len(starts))
            for client, norm in zip(dealt, found, strict=True):
                if client in told.liars:
                    self.events += (f"client {client} dealt a square pair that is none: it counts as far too large",)
                else:
                    norms[self.clients.index(client)] = norm
        return norms

    def _dealt(self) -> list[int]:
        """Whose square pairs have reached every party."""
        self._ask("dealt")
        replies = [reply for reply, _ in self.session._replies(Held)]
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
        self.session._tell({"op": op, "batch": self.batch, **more}, *(raw(v.cpu().contiguous()) for v in values))
