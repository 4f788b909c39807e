"""States of clients: what is read is what was written last, wherever it lies, and nothing stays behind."""

from __future__ import annotations

import errno
import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from sizes import sized
from torch import Tensor

from autoflip_secure.errors import StoreError
from autoflip_secure.federation.client_states import ClientStates, held_by

CLIENTS, SIZE = 4, 19
ROWS: dict[str, Any] = {"mask": "bits", "scores": "numbers", "ever": "bits"}


def row(name: str, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    if ROWS[name] == "bits":
        return torch.rand(SIZE, generator=draw) < 0.5
    values = torch.randn(SIZE, generator=draw)
    values[seed % SIZE] = (float("nan"), float("inf"), -0.0, 1e-42)[seed % 4]
    return values


writes = st.lists(
    st.tuples(st.sampled_from(sorted(ROWS)), st.lists(st.integers(0, CLIENTS - 1), unique=True), st.integers(0, 99)),
    max_size=12,
)


@settings(max_examples=sized(40, 400), deadline=None)
@given(writes)
def test_what_is_read_is_what_was_written_last_spilled_or_not(steps: list[tuple[str, list[int], int]]) -> None:
    with ClientStates(CLIENTS, SIZE, ROWS) as here, ClientStates(CLIENTS, SIZE, ROWS, bound=0) as there:
        assert (here.spilled, there.spilled) == (False, True)
        known: dict[tuple[str, int], Tensor] = {}
        for name, clients, seed in steps:
            rows = torch.stack([row(name, seed + k) for k in clients]) if clients else row(name, 0)[None][:0]
            known |= {(name, k): rows[place] for place, k in enumerate(clients)}
            for states in (here, there):
                states.write(name, clients, rows)
        for name, kind in ROWS.items():
            fresh = torch.ones(SIZE, dtype=torch.bool) if kind == "bits" else torch.zeros(SIZE)
            for states in (here, there):
                for order in ([2, 0, 3, 1], [1]):
                    expected = torch.stack([known.get((name, k), fresh) for k in order])
                    found = states.read(name, order)
                    assert found.dtype == expected.dtype
                    assert found.numpy().tobytes() == expected.numpy().tobytes()


def test_bits_are_stored_as_bits_and_the_bound_is_about_all_clients() -> None:
    states = ClientStates(CLIENTS, SIZE, ROWS)
    assert states.bytes_per_client == {"mask": 3, "scores": 76, "ever": 3}
    assert states.total == 4 * 82
    assert not ClientStates(CLIENTS, SIZE, ROWS, bound=4 * 82).spilled
    assert ClientStates(CLIENTS, SIZE, ROWS, bound=4 * 82 - 1).spilled


def test_a_copy_is_handed_out_and_the_shared_mask_counts_too() -> None:
    states = ClientStates(CLIENTS, SIZE, ROWS)
    states.read("scores", [1]).add_(1)
    assert not bool(states.read("scores", [1]).any())
    states.write("mask", [2], row("mask", 5)[None])
    shared = row("mask", 6)
    assert torch.equal(held_by(states, shared, [2, 0]), torch.stack([row("mask", 5) & shared, shared]))


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_the_file_has_no_name_and_is_closed_with_the_states(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    states = ClientStates(CLIENTS, SIZE, ROWS, bound=0)
    states.write("scores", [0], row("scores", 1)[None])
    assert not list(tmp_path.iterdir())
    number = states._file.fileno()  # type: ignore[union-attr]
    assert os.fstat(number).st_mode & 0o077 == 0
    if how == "closed":
        states.close()
    del states
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_full_disk_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    states = ClientStates(CLIENTS, SIZE, ROWS, bound=0)

    class Full:
        def seek(self, place: int) -> None: ...

        def write(self, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match="No space left on device; free some space there, or set TMPDIR"):
        states._save(Full(), 0, b"1")  # type: ignore[arg-type]
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: (_ for _ in ()).throw(OSError(errno.EACCES, "no")))
    with pytest.raises(StoreError, match="cannot be written to"):
        ClientStates(CLIENTS, SIZE, ROWS, bound=0)
