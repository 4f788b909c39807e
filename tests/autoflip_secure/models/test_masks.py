"""What is remembered of masks: right as long as nothing changed, and worked out again when something did."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from autoflip_secure.models.layout import Layout
from autoflip_secure.models.masks import PerMask, facts, kept, places

NET = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
NET[0].bias.requires_grad_(False)
LAYOUT = Layout.of(NET)


def drawn(seed: int) -> Tensor:
    return torch.rand(LAYOUT.size, generator=torch.Generator().manual_seed(seed)) < 0.5


@pytest.mark.parametrize("mask", [torch.ones(LAYOUT.size, dtype=torch.bool), drawn(0), drawn(1) & False])
def test_facts_are_what_the_layout_says(mask: Tensor) -> None:
    found, inside = facts(mask, LAYOUT), mask.tolist()
    trained, sent, prunable = (x.tolist() for x in (LAYOUT.trained, LAYOUT.sent, LAYOUT.prunable))
    live = [m and t for m, t in zip(inside, trained, strict=True)]
    assert found.live.tolist() == live
    assert found.travelling.tolist() == [m and s for m, s in zip(inside, sent, strict=True)]
    assert found.masked == (not all(inside))
    assert not found.whole  # a bias is frozen
    assert found.live_count == sum(live)
    assert found.live_places is not None
    assert found.live_places.tolist() == [j for j, alive in enumerate(live) if alive]
    assert found.trained_places is not None
    assert found.trained_places.tolist() == [j for j, one in enumerate(trained) if one]
    hidden = [m for m, p in zip(inside, prunable, strict=True) if p]
    assert found.density == pytest.approx(sum(hidden) / len(hidden))


def test_where_everything_travels_nothing_is_listed() -> None:
    plain = Layout.of(nn.Linear(3, 2))
    found = facts(torch.ones(plain.size, dtype=torch.bool), plain)
    assert found.whole
    assert found.live_places is found.trained_places is None
    assert found.density == 1  # an output layer is not prunable


def test_a_mask_that_is_changed_in_place_is_asked_again() -> None:
    mask = torch.ones(LAYOUT.size, dtype=torch.bool)
    before = facts(mask, LAYOUT)
    assert facts(mask, LAYOUT) is before
    mask[0] = False
    assert facts(mask, LAYOUT).masked
    assert not before.masked


def test_other_objects_beside_the_same_mask_are_told_apart() -> None:
    asked: list[object] = []
    count = PerMask(lambda mask, *others: asked.append(others) or len(asked))
    mask, one, two = drawn(2), torch.zeros(1), torch.zeros(1)
    assert [count(mask, one), count(mask, one), count(mask, two), count(mask, one)] == [1, 1, 2, 3]


def test_nothing_is_remembered_longer_than_the_mask_lives() -> None:
    class Value:
        pass

    made = PerMask(lambda mask: Value())
    mask = drawn(3)
    value = weakref.ref(made(mask))
    assert value() is not None
    del mask
    gc.collect()
    assert value() is None


ODD = st.floats(width=32, allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, -0.0, 1e-45, -1e-45])


@given(st.lists(st.tuples(ODD, ODD, st.booleans()), min_size=1, max_size=40))
def test_kept_is_where_to_the_bit(entries: list[tuple[float, float, bool]]) -> None:
    rows = torch.tensor([[a for a, _, _ in entries], [b for _, b, _ in entries]])
    where = torch.tensor([inside for _, _, inside in entries])
    given_before = rows.view(torch.int32).clone()
    for _ in range(2):  # worked out, then remembered
        assert torch.equal(kept(rows, where).view(torch.int32), torch.where(where, rows, 0.0).view(torch.int32))
        assert torch.equal(kept(rows[0], where).view(torch.int32), torch.where(where, rows[0], 0.0).view(torch.int32))
    assert torch.equal(rows.view(torch.int32), given_before)
    doubled = rows.double()
    assert torch.equal(kept(doubled, where).isnan(), torch.where(where, doubled, 0.0).isnan())
    assert places(where).tolist() == [j for j, (_, _, inside) in enumerate(entries) if inside]
