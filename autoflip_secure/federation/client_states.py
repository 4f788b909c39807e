"""What clients remember from round to round: named rows, stored once, in memory or, above a bound, in a file.

A row belongs to a client and has one number, or one bit, per coordinate of the model. Rows are written whole and read
whole, so the numbers do not depend on where they lie, nor on the order in which clients take part. A run that is
killed begins its cells again from the first round, and its states with them.

The file has no name from the moment it is opened (on Windows: it is deleted when it is closed), can be read by nobody
else, and goes with the process however that ends. It lies where ``TMPDIR`` says; rows are float32 and packed bits, as
they are in memory.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.errors import StoreError

MEMORY_BOUND: Final = 2**30
"""Bytes that the states of all clients of a block may take in memory (1 GiB); a block with more keeps them in files."""

MASK: Final = "mask"
"""Name of the row with a client's own mask; a pruner's other rows have other names."""

StateKind = Literal["bits", "numbers"]


@dataclass(frozen=True)
class StateRow:
    """One row of one client: True everywhere (bits) or 0 everywhere (numbers) until it is first written."""

    kind: StateKind
    size: int

    @property
    def length(self) -> int:
        """Bytes that it takes, here and on the device of a client."""
        return -(-self.size // 8) if self.kind == "bits" else 4 * self.size

    def packed(self, row: Tensor) -> bytes:
        """As it is stored."""
        if self.kind == "bits":
            return np.packbits(row.detach().cpu().numpy()).tobytes()
        return row.detach().cpu().numpy().astype("<f4", copy=False).tobytes()

    def unpacked(self, data: bytes) -> Tensor:
        """Inverse of :meth:`packed`."""
        if self.kind == "bits":
            return torch.from_numpy(np.unpackbits(np.frombuffer(data, np.uint8), count=self.size).astype(bool))
        return torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32))

    def fresh(self) -> Tensor:
        """Before it is first written."""
        return torch.ones(self.size, dtype=torch.bool) if self.kind == "bits" else torch.zeros(self.size)


class ClientStates:
    """Named rows of every client of one cell.

    Args:
        clients: how many there are.
        size: coordinates of a row.
        rows: name -> what kind of row it is.
        bound: bytes that may lie in memory; where all rows of all clients take more, they lie in a file.
        device: where rows are wanted.
    """

    def __init__(
        self,
        clients: int,
        size: int,
        rows: Mapping[str, StateKind],
        bound: int = MEMORY_BOUND,
        device: torch.device | str = "cpu",
    ) -> None:
        self.clients, self._device = clients, torch.device(device)
        self._rows = {name: StateRow(kind, size) for name, kind in rows.items()}
        self.bytes_per_client: dict[str, int] = {name: row.length for name, row in self._rows.items()}
        self._memory: dict[tuple[str, int], bytes] = {}
        self._written = set[tuple[str, int]]()
        self._starts, start = dict[str, int](), 0
        for name, row in self._rows.items():
            self._starts[name], start = start, start + clients * row.length
        self.own_masks = MASK in self._rows  # whether every client has a mask of its own
        self.total = start  # bytes of all rows of all clients
        self._file: IO[bytes] | None = None
        if start > bound:
            try:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by close, or with this object
            except OSError as error:
                raise _unwritable(error) from error
            weakref.finalize(self, self._file.close)

    @property
    def spilled(self) -> bool:
        """Whether they lie in a file."""
        return self._file is not None

    def read(
        self, name: str, clients: Sequence[int]
    ) -> Bool[Tensor, "clients params"] | Float[Tensor, "clients params"]:
        """The rows called ``name`` of ``clients``, in this order: a copy."""
        row = self._rows[name]
        found = [row.unpacked(self._data(name, k)) if (name, k) in self._written else row.fresh() for k in clients]
        return torch.stack(found).to(self._device) if found else row.fresh()[None][:0].to(self._device)

    def write(self, name: str, clients: Sequence[int], rows: Tensor) -> None:
        """Replace the rows called ``name`` of ``clients``: (clients, params), bool for bits, float32 for numbers.

        Raises:
            StoreError: there is no room for them on the disk.
        """
        row = self._rows[name]
        wanted = torch.bool if row.kind == "bits" else torch.float32
        assert rows.shape == (len(clients), row.size), (name, rows.shape)
        assert rows.dtype == wanted, (name, rows.dtype)
        for client, values in zip(clients, rows, strict=True):
            assert 0 <= client < self.clients, client
            if self._file is None:
                self._memory[name, client] = row.packed(values)
            else:
                self._save(self._file, self._place(name, client), row.packed(values))
            self._written.add((name, client))

    def close(self) -> None:
        """Let go of everything."""
        self._memory.clear()
        self._written.clear()
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> ClientStates:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _place(self, name: str, client: int) -> int:
        return self._starts[name] + client * self._rows[name].length

    def _data(self, name: str, client: int) -> bytes:
        if self._file is None:
            return self._memory[name, client]
        self._file.seek(self._place(name, client))
        left, parts = self._rows[name].length, []
        while left:
            part = self._file.read(left)
            if not part:
                raise StoreError("the file with the states of clients is shorter than what was written to it")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    @staticmethod
    def _save(file: IO[bytes], place: int, data: bytes) -> None:
        try:
            file.seek(place)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
        except OSError as error:
            raise _unwritable(error) from error


def held_by(
    states: ClientStates, mask: Bool[Tensor, " params"], clients: Sequence[int]
) -> Bool[Tensor, "clients params"]:
    """What each of ``clients`` holds: its own mask within the one that all share."""
    return states.read(MASK, clients) & mask


def _unwritable(error: OSError) -> StoreError:
    return StoreError(
        f"states of clients do not fit in memory and cannot be written to {tempfile.gettempdir()}: {error.strerror}; "
        "free some space there, or set TMPDIR to a folder with more, and run the same command again"
    )
