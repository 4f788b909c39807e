"""The root set: the server's alone, drawn by its own address, and nobody left without a row."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from sizes import sized

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.data.held_out import hold_out
from autoflip_secure.scenarios.data.root_set import take_root


@given(st.integers(2, 6), st.integers(0, 10**6), st.integers(1, 30), st.booleans())
@settings(max_examples=sized(20, 200))
def test_what_the_server_owns_no_client_owns(clients: int, seed: int, count: int, personal: bool) -> None:
    draws = np.random.default_rng(seed)
    total = 60
    owned = draws.permutation(total)[: draws.integers(4 * clients, total + 1)]  # some rows may be nobody's
    parts = np.split(owned, np.sort(draws.choice(np.arange(2, len(owned) - 2, 2), clients - 1, replace=False)))
    dealt = tuple(torch.from_numpy(part) for part in parts)
    own, held = hold_out(dealt, 0.3, seed) if personal else (dealt, ())
    most = total - sum(map(len, held)) - clients
    if count > most:
        with pytest.raises(InputError, match=f"root_samples = {count}: of the 60 rows .* {most} can be the server's"):
            take_root(own, held, total, count, seed)
        return
    kept, root = take_root(own, held, total, count, seed)
    assert len(root) == count == len(set(root.tolist()))
    assert root.tolist() == sorted(root.tolist())
    assert not set(root.tolist()) & {row for rows in (*kept, *held) for row in rows.tolist()}
    for before, after in zip(own, kept, strict=True):
        assert len(after) >= 1
        assert after.tolist() == [row for row in before.tolist() if row not in set(root.tolist())], "in their order"
    again, _ = take_root(own, held, total, max(1, count - 1), seed)[::-1]
    assert set(again.tolist()) <= set(root.tolist()), "a smaller one is part of a larger one"


def test_it_is_drawn_from_all_rows_alike_and_by_the_seed_alone() -> None:
    clients = tuple(torch.arange(50 * k, 50 * k + 50) for k in range(4))
    counts = torch.zeros(200)
    for seed in range(200):
        _, root = take_root(clients, (), 200, 20, seed)
        counts[root] += 1
    by_client = counts.view(4, 50).sum(1)
    assert float(by_client.max() - by_client.min()) < 5 * (4000 * 0.25 * 0.75) ** 0.5
    turned = tuple(reversed(clients))
    assert torch.equal(take_root(clients, (), 200, 20, 3)[1], take_root(turned, (), 200, 20, 3)[1])
    assert not torch.equal(take_root(clients, (), 200, 20, 3)[1], take_root(clients, (), 200, 20, 4)[1])
