"""One sweep's (or worker's) conversation with one party: shares in, what may be known out."""

from __future__ import annotations

import os
from collections.abc import Callable, Container
from typing import Any

import torch
from torch import Tensor

from autoflip_secure.defenses.secure_aggregation.messages import (
    MOST_BUCKETS,
    MOST_SKETCHES,
    MOST_VECTORS,
    About,
    Choose,
    Deal,
    FromClient,
    Message,
    Norms,
    Open,
    Products,
    PublicSketch,
    printable,
    understood,
)
from autoflip_secure.defenses.secure_aggregation.reveal import Links, coin, install, reveal, squared_norm
from autoflip_secure.defenses.secure_aggregation.share_store import ShareStore
from autoflip_secure.defenses.secure_aggregation.shares import KEY_BYTES, Seed
from autoflip_secure.defenses.secure_aggregation.wire import Channel, GoneError, WireError, raw
from autoflip_secure.errors import AutoflipError, SecureSumError
from autoflip_secure.secure_rows.secret_rows import Sketch

_INTEGERS = {"<i8": torch.int64, "|i1": torch.int8}
_FIRST = 0  # the party that learns revealed values and passes them on


class PartySession:
    """Answers one server. Requests are served in order; an error ends the session and is told."""

    def __init__(self, server: Channel, links: Links, timeout: float, held: Callable[[], int]) -> None:
        """Be ready.

        Args:
            server: who asks.
            links: to the other parties.
            timeout: seconds for which the server may be silent in the middle of a request.
            held: bytes that all sessions of this party hold, this one's among them.
        """
        self.server, self.links, self.timeout, self._held = server, links, timeout, held
        self.batches: dict[str, ShareStore] = {}
        self.sketches: dict[int, Sketch] = {}
        self._ops: dict[str, tuple[type[Message], Callable[[Any, int], None]]] = {
            "open": (Open, self._open), "share": (FromClient, self._share), "seal": (About, self._seal),
            "keep": (Choose, self._keep), "total": (About, self._total), "products": (Products, self._products),
            "sketch": (PublicSketch, self._sketch), "deal": (Deal, self._deal), "pair": (FromClient, self._pair),
            "dealt": (About, self._dealt), "norms": (Norms, self._norms), "forget": (About, self._forget),
        }  # fmt: skip

    @property
    def bytes(self) -> int:
        """Memory of what it holds."""
        sketches = sum(sketch.buckets.nbytes + sketch.signs.nbytes for sketch in list(self.sketches.values()))
        return sketches + sum(batch.bytes for batch in list(self.batches.values()))

    def run(self) -> None:
        """Until the server hangs up."""
        install(self.links)
        try:
            self.server.send({"ready": True})
            while True:
                self.server.patience(None)
                header, size = self.server.receive()
                self.server.patience(self.timeout)
                op = header.pop("op", None)
                if not isinstance(op, str) or op not in self._ops:
                    raise SecureSumError(f"does not know the request {printable(repr(op))}")
                kind, serve = self._ops[op]
                serve(understood(kind, header, "the server"), size)
        except AutoflipError as error:
            self._complain(str(error), gone=isinstance(error, GoneError))
        except Exception as error:  # whatever a request does, it ends this session alone, and with a sentence
            self._complain(f"cannot serve a request ({type(error).__name__}: {error})")
        finally:
            self.links.close()
            self.server.close()

    def _complain(self, text: str, *, gone: bool = False) -> None:
        try:
            self.server.send({"error": printable(text), "gone": gone})
        except WireError:
            return  # the server is what is gone

    def _batch(self, asked: About) -> ShareStore:
        if asked.batch not in self.batches:
            raise SecureSumError(f"does not know the batch {printable(asked.batch)!r}")
        return self.batches[asked.batch]

    def _open(self, asked: Open, size: int) -> None:
        self._nothing(size)
        self._room(8 * len(asked.clients) * asked.params)
        self.batches[asked.batch] = ShareStore(asked.clients, asked.params)

    def _share(self, sent: FromClient, size: int) -> None:
        batch = self._batch(sent)
        if self._arrived(batch, sent, size, batch.space(sent.client, str(sent.dtype), sent.bytes(size))):
            batch.held.add(sent.client)

    def _arrived(self, batch: ShareStore, sent: FromClient, size: int, space: memoryview | None) -> bool:
        """Read what a client sent, or expand the key of it, into ``space``; None: read it and forget."""
        if sent.expand is not None and size != KEY_BYTES and space is not None:
            batch.complain(f"client {sent.client} sent a key of {size} bytes, not {KEY_BYTES}: left out")
            space = None
        if space is None:
            self.server.skip(size)
            return False
        if sent.expand is None:
            self.server.fill(space)
        else:
            key = bytearray(size)
            self.server.fill(memoryview(key))
            space[:] = raw(Seed(bytes(key), sent.expand).words())
        return True

    def _seal(self, asked: About, size: int) -> None:
        self._nothing(size)
        batch = self._batch(asked)
        self._hold(batch, batch.held)

    def _hold(self, batch: ShareStore, held: Container[int]) -> None:
        """Say whose words are here, and what was not taken."""
        self.server.send({"held": [k for k in batch.clients if k in held], "complaints": batch.complaints})
        batch.complaints = []

    def _keep(self, asked: Choose, size: int) -> None:
        self._nothing(size)
        self._batch(asked).keep(asked.clients)

    def _total(self, asked: About, size: int) -> None:
        batch = self._batch(asked)
        self._open_up(batch.total(self._take(size, len(batch.clients))))

    def _products(self, asked: Products, size: int) -> None:
        batch = self._batch(asked)
        vectors = self._take(size, asked.vectors * batch.params, _INTEGERS[asked.dtype])
        self._open_up(batch.products(vectors.view(asked.vectors, batch.params)))

    def _sketch(self, asked: PublicSketch, size: int) -> None:
        params = self._batch(asked).params
        most = max(params, MOST_VECTORS * MOST_BUCKETS)
        if asked.width > most or len(self.sketches) >= MOST_SKETCHES:
            raise SecureSumError(
                f"refuses sketch {len(self.sketches) + 1} of {asked.width} buckets; at most {MOST_SKETCHES} of {most}"
            )
        self._fits(size, (torch.int32.itemsize + torch.int8.itemsize) * params)
        self._room((torch.int64.itemsize * 2) * params)
        buckets, signs = self._read(params, torch.int32), self._read(params, torch.int8)
        self.sketches[asked.sketch] = Sketch(buckets.long(), signs.long(), asked.width)

    def _deal(self, asked: Deal, size: int) -> None:
        batch = self._batch(asked)
        sketch = self._known(asked.sketch)
        width = batch.params if sketch is None else sketch.width
        batch.deal(width, self._take(size, asked.groups))
        self.server.send({"ready": True})

    def _known(self, number: int | None) -> Sketch | None:
        if number is not None and number not in self.sketches:
            raise SecureSumError(f"does not know sketch {number}")
        return None if number is None else self.sketches[number]

    def _pair(self, sent: FromClient, size: int) -> None:
        batch = self._batch(sent)
        words = batch.pair_space(sent.client, sent.bytes(size))
        self._room(0 if words is None else words.nbytes)
        if self._arrived(batch, sent, size, None if words is None else raw(words)):
            assert words is not None
            batch.take_pair(sent.client, words)

    def _dealt(self, asked: About, size: int) -> None:
        self._nothing(size)
        batch = self._batch(asked)
        self._hold(batch, batch.pairs)

    def _norms(self, asked: Norms, size: int) -> None:
        self._nothing(size)
        batch, clients = self._batch(asked), asked.clients
        if not clients or len(set(clients)) != len(clients) or not set(clients) <= set(batch.pairs):
            raise SecureSumError(f"was asked for norms of clients {clients}, and does not hold pairs of all of them")
        sketch = self._known(asked.sketch)
        found, liars, starts, challenge = [], [], batch.starts, coin()
        for client in clients:
            row = batch.rows[batch.place[client]]
            share = row if sketch is None else sketch(row[None])[0]
            pair, check = batch.pairs.pop(client)
            norms, honest = squared_norm(share, pair, check, starts, challenge)
            found.append(norms)
            liars += [] if honest else [client]
        batch.pairs = {}
        self._open_up(torch.stack(found), liars=liars)

    def _forget(self, asked: About, size: int) -> None:
        self._nothing(size)
        self.batches.pop(asked.batch, None)
        self.sketches.clear()

    def _take(self, size: int, count: int, dtype: torch.dtype = torch.int64) -> Tensor:
        """A body of ``count`` integers, and of nothing else."""
        self._fits(size, count * dtype.itemsize)
        return self._read(count, dtype)

    def _nothing(self, size: int) -> None:
        self._fits(size, 0)

    def _fits(self, size: int, wanted: int) -> None:
        if size != wanted:
            raise SecureSumError(f"was sent {size} bytes where {wanted} belong")

    def _room(self, more: int) -> None:
        """Refuse what this machine could not hold, before the system ends some process to make room."""
        wanted = more + self._held()
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if wanted > memory:
            raise SecureSumError(
                f"refuses to hold {wanted:,} bytes, more than the {memory:,} of its machine; take fewer clients or a "
                "smaller model"
            )

    def _read(self, count: int, dtype: torch.dtype) -> Tensor:
        self._room(count * dtype.itemsize)
        values = torch.empty(count, dtype=dtype)
        self.server.fill(raw(values))
        return values

    def _open_up(self, share: Tensor, **more: Any) -> None:
        """Reveal to party 0, which tells the server; the others say that they have done their part."""
        opened = reveal(share, to=_FIRST)
        header = {"done": True, "between": self.links.bytes, **more}
        if opened is None:
            self.server.send(header)
        else:
            self.server.send(header, raw(opened.contiguous()))
