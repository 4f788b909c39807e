"""Links to all parties of a sweep: one message to each, one answer of each, and the first failure ends it all."""

from __future__ import annotations

import contextlib
import secrets
import selectors
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from autoflip_secure.defenses.secure_aggregation.greeting import Calls, greet
from autoflip_secure.defenses.secure_aggregation.local_parties import Parties
from autoflip_secure.defenses.secure_aggregation.messages import Done, M, Ready, printable, understood
from autoflip_secure.defenses.secure_aggregation.shares import Seed, Share
from autoflip_secure.defenses.secure_aggregation.tls import context
from autoflip_secure.defenses.secure_aggregation.wire import Channel, GoneError, WireError, dial, raw
from autoflip_secure.errors import AutoflipError, InputError, SecureSumError

_AGAIN = "run the same command again"
_KEPT = f"; finished cells are kept, {_AGAIN} to continue"


class PartyLinks:
    """A conversation with all parties; used by one process, one request at a time."""

    def __init__(self, parties: Parties) -> None:
        self.where = parties
        self.parties = len(parties.addresses)
        self._channels: list[Channel] = []
        self._dealt = 0  # bytes
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
        self.replies(Ready)

    def from_client(self, header: dict[str, Any], shares: Sequence[Share]) -> None:
        """What one client sends: its i-th share to party i."""
        before = self._sent
        for channel, share in zip(self._channels, shares, strict=True):
            if isinstance(share, Seed):
                self._send(channel, {**header, "expand": share.count}, memoryview(share.key))
            else:
                self._send(channel, header, raw(share))
        self._dealt += self._sent - before

    @property
    def _sent(self) -> int:
        return sum(channel.sent for channel in self._channels)

    def request(self, header: dict[str, Any], *bodies: memoryview) -> None:
        """The same message to every party."""
        for channel in self._channels:
            self._send(channel, header, *bodies)

    def _send(self, channel: Channel, header: dict[str, Any], *bodies: memoryview) -> None:
        try:
            channel.send(header, *bodies)
        except WireError as error:
            raise self._failed(_last_words(channel) or str(error)) from error

    def replies(self, kind: type[M], *shape: int) -> list[tuple[M, Tensor | None]]:
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
            raise WireError(f"{channel.who} sent {size} bytes where {wanted} were requested")
        if not shape:
            return reply, None
        values = torch.empty(shape, dtype=torch.int64)
        channel.fill(raw(values))
        return reply, values

    def revealed_integers(self, *shape: int) -> Tensor:
        """What party 0 tells once all have done their part."""
        return self.answer(*shape)[0]

    def answer(self, *shape: int) -> tuple[Tensor, Done]:
        """Integers of that shape from party 0, and what it says with them."""
        replies = self.replies(Done, *shape)
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
