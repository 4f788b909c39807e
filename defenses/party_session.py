"""One sweep's (or worker's) conversation with one party: shares in, what may be known out."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import torch
from torch import Tensor

from autoflip_secure.errors import AutoflipError, SecureSumError
from autoflip_secure.secret_rows import Sketch
from defenses.reveal import Links, coin, install, reveal, squared_norm
from defenses.shares import KEY_BYTES, Seed
from defenses.shelf import Batch
from defenses.wire import Channel, WireError, raw

_INTEGERS = {"<i8": torch.int64, "|i1": torch.int8}
_FIRST = 0  # the party that learns revealed values and passes them on


class PartySession:
    """Answers one server. Requests are served in order; an error ends the session and is told."""

    def __init__(self, server: Channel, links: Links, timeout: float) -> None:
        self.server, self.links, self.timeout = server, links, timeout
        self.batches: dict[str, Batch] = {}
        self.sketches: dict[int, Sketch] = {}
        self._ops: dict[str, Callable[[dict[str, Any], int], None]] = {
            "open": self._open, "share": self._share, "seal": self._seal, "keep": self._keep, "total": self._total,
            "products": self._products, "sketch": self._sketch, "deal": self._deal, "pair": self._pair,
            "dealt": self._dealt, "norms": self._norms, "forget": self._forget,
        }  # fmt: skip

    def run(self) -> None:
        """Until the server hangs up."""
        install(self.links)
        try:
            while True:
                self.server.patience(None)
                header, size = self.server.receive()
                self.server.patience(self.timeout)
                serve = self._ops.get(str(header.get("op")))
                if serve is None:
                    raise SecureSumError(f"does not know the request {header.get('op')!r}")
                serve(header, size)
        except AutoflipError as error:
            self._complain(str(error))
        except (KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
            self._complain(f"cannot serve a request ({type(error).__name__}: {error})")
        finally:
            self.links.close()
            self.server.close()

    def _complain(self, text: str) -> None:
        try:
            self.server.send({"error": text})
        except WireError:
            return  # the server is what is gone

    def _open(self, header: dict[str, Any], size: int) -> None:
        clients = [int(client) for client in header["clients"]]
        self.batches[str(header["batch"])] = Batch(clients, int(header["params"]))

    def _share(self, header: dict[str, Any], size: int) -> None:
        batch, client = self.batches[header["batch"]], int(header["client"])
        count = header.get("expand")
        space = batch.space(client, str(header.get("dtype")), size if count is None else 8 * int(count))
        if self._arrived(batch, header, size, space):
            batch.held.add(client)

    def _arrived(self, batch: Batch, header: dict[str, Any], size: int, space: memoryview | None) -> bool:
        """Read what a client sent, or expand the key of it, into ``space``; None: read it and forget."""
        count = header.get("expand")
        if count is not None and size != KEY_BYTES and space is not None:
            batch.complaints.append(f"client {header['client']} sent a key of {size} bytes, not {KEY_BYTES}: left out")
            space = None
        if space is None:
            self.server.skip(size)
            return False
        if count is None:
            self.server.fill(space)
        else:
            key = bytearray(size)
            self.server.fill(memoryview(key))
            space[:] = raw(Seed(bytes(key), int(count)).words())
        return True

    def _seal(self, header: dict[str, Any], size: int) -> None:
        batch = self.batches[header["batch"]]
        self._hold(batch, batch.held)

    def _hold(self, batch: Batch, held: Container[int]) -> None:
        """Say whose words are here, and what was not taken."""
        self.server.send({"held": [k for k in batch.clients if k in held], "complaints": batch.complaints})
        batch.complaints = []

    def _keep(self, header: dict[str, Any], size: int) -> None:
        self.batches[header["batch"]].keep([int(client) for client in header["clients"]])

    def _total(self, header: dict[str, Any], size: int) -> None:
        self._open_up(self.batches[header["batch"]].total(self._take(size)))

    def _products(self, header: dict[str, Any], size: int) -> None:
        batch = self.batches[header["batch"]]
        vectors = self._take(size, _INTEGERS[header["dtype"]]).view(int(header["vectors"]), batch.params)
        self._open_up(batch.products(vectors))

    def _sketch(self, header: dict[str, Any], size: int) -> None:
        params = size // (torch.int32.itemsize + torch.int8.itemsize)
        buckets, signs = self._take(4 * params, torch.int32), self._take(params, torch.int8)
        self.sketches[int(header["sketch"])] = Sketch(buckets.long(), signs.long(), int(header["width"]))

    def _deal(self, header: dict[str, Any], size: int) -> None:
        batch, number = self.batches[header["batch"]], header["sketch"]
        batch.deal(batch.params if number is None else self.sketches[number].width, self._take(size))
        self.server.send({"ready": True})

    def _pair(self, header: dict[str, Any], size: int) -> None:
        batch, client, count = self.batches[header["batch"]], int(header["client"]), header.get("expand")
        words = batch.pair_space(client, size if count is None else 8 * int(count))
        if self._arrived(batch, header, size, None if words is None else raw(words)):
            assert words is not None
            batch.take_pair(client, words)

    def _dealt(self, header: dict[str, Any], size: int) -> None:
        batch = self.batches[header["batch"]]
        self._hold(batch, batch.pairs)

    def _norms(self, header: dict[str, Any], size: int) -> None:
        batch, clients = self.batches[header["batch"]], [int(client) for client in header["clients"]]
        if not clients or len(set(clients)) != len(clients) or not set(clients) <= set(batch.pairs):
            raise SecureSumError(f"was asked for norms of clients {clients}, and does not hold pairs of all of them")
        sketch = self.sketches[header["sketch"]] if header["sketch"] is not None else None
        found, liars, starts, challenge = [], [], batch.starts, coin()
        for client in clients:
            row = batch.rows[batch.place[client]]
            share = row if sketch is None else sketch(row[None])[0]
            pair, check = batch.pairs.pop(client)
            norms, honest = squared_norm(share, pair, check, starts, challenge, self.links.rank == _FIRST)
            found.append(norms)
            liars += [] if honest else [client]
        batch.pairs = {}
        self._open_up(torch.stack(found), liars=liars)

    def _forget(self, header: dict[str, Any], size: int) -> None:
        self.batches.pop(header["batch"], None)
        self.sketches.clear()

    def _take(self, size: int, dtype: torch.dtype = torch.int64) -> Tensor:
        """A body of integers."""
        values = torch.empty(size // dtype.itemsize, dtype=dtype)
        self.server.fill(raw(values))
        return values

    def _open_up(self, share: Tensor, **more: Any) -> None:
        """Reveal to party 0, which tells the server; the others say that they have done their part."""
        self._tell(reveal(share, to=_FIRST), **more)

    def _tell(self, opened: Tensor | None, **more: Any) -> None:
        """Answer with what was revealed to this party, or that it has done its part."""
        header = {"done": True, "between": self.links.bytes, **more}
        if opened is None:
            self.server.send(header)
        else:
            self.server.send(header, raw(opened.contiguous()))
