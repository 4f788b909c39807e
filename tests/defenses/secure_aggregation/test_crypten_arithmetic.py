"""CrypTen as the second witness: what a party computes on shares by itself is what CrypTen would compute on them."""

import hypothesis.strategies as st
import torch
from hypothesis import given

from autoflip_secure.defenses.secure_aggregation.reveal import Links, install, secret
from autoflip_secure.defenses.secure_aggregation.share_store import LARGEST_WEIGHT, ShareStore


def shelf(clients: int, params: int, seed: int) -> ShareStore:
    """Shares of rows, which are any integers of the ring."""
    batch = ShareStore(list(range(clients)), params)
    batch.rows.random_(-(2**63), 2**63 - 1, generator=torch.Generator().manual_seed(seed))
    batch.held.update(range(clients))
    return batch


@given(st.integers(3, 6), st.integers(3, 12_000), st.integers(0, 10**6))
def test_sums_and_products_of_shares_are_those_of_crypten(clients: int, params: int, seed: int) -> None:
    install(Links(0, {}))
    batch, draw = shelf(clients, params, seed), torch.Generator().manual_seed(seed + 1)
    rows = secret(batch.rows)
    weights = torch.randint(1, LARGEST_WEIGHT, (clients,), generator=draw)
    assert torch.equal(batch.total(weights), rows.mul(weights[:, None]).sum(0).share)
    vectors = torch.randint(-(2**31), 2**31, (2, params), generator=draw)
    assert torch.equal(batch.products(vectors), rows.matmul(vectors.T).share)


def test_crypten_adds_what_is_public_at_one_party_alone() -> None:
    """Squares rest on it: of two parties that both added it, the sum would hold it twice."""
    for rank, expected in ((0, [8, 9]), (1, [1, 2])):
        links = Links(rank, {})
        install(links)
        assert (secret(torch.tensor([1, 2])) + torch.tensor([7, 7])).share.tolist() == expected
