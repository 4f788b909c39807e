"""Units of a graph: on chains the same as the chain's to the bit, elsewhere against sums and sweeps by hand."""

from functools import partial

import pytest
import torch
from chain_models import Functional, cnn, mlp
from graph_models import Small
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized
from torch import Tensor, nn

from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.algorithm.guidance import initial_guidance
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import Pruner, PruneView
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.unit_finding import find_units
from autoflip_secure.models.unit_graph import UnitGraph
from autoflip_secure.models.units import Units
from autoflip_secure.pruning.budget import BudgetMask, kept_counts
from autoflip_secure.pruning.random import RandomUnits, RandomWeights
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.seeds import Purpose, generator

# ------------------------------------------------------------------------------- the chain as oracle


class OfAnyWidth(Functional):
    """Without the number of channels that :class:`Functional` writes into a reshape: with it, none can be taken out."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.norm(self.conv(((x - self.mean) / 2).view(x.size(0), 1, 8, 8))).relu()
        x = (torch.relu(self.mid(nn.functional.max_pool2d(x, 2).flatten(2))) * 0.5).mean(dim=(2,))
        return self.fc(x.tanh().view(x.shape[0], -1)).log_softmax(1)


def part_frozen() -> nn.Module:
    module = mlp(4, 6, 5, 4, 3)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(not name.startswith("2."))
    return module


CHAINS = {"mlp": (mlp(4, 9, 7, 3), (4,)), "cnn": (cnn(), (2, 6, 6)), "functional": (OfAnyWidth(), (64,)),
          "frozen": (part_frozen(), (4,))}  # fmt: skip


def both(name: str) -> tuple[Layout, Chain, UnitGraph]:
    module, shape = CHAINS[name]
    sample = torch.zeros(1, *shape)
    return Layout.of(module), Chain.of(module, sample), UnitGraph.of(module, sample)


BOTH = {name: both(name) for name in CHAINS}


@pytest.mark.parametrize("name", CHAINS)
def test_of_a_chain_it_has_the_same_units(name: str) -> None:
    layout, chain, graph = BOTH[name]
    assert graph.groups == chain.groups
    assert graph.kept_whole == ()
    assert graph.removable(layout) == chain.removable(layout)
    assert graph.fully_connected(layout) == chain.fully_connected(layout)
    assert graph.fixed_macs(layout) == chain.fixed_macs(layout)
    assert isinstance(find_units(*(CHAINS[name][0], torch.zeros(1, *CHAINS[name][1]))), Chain)  # which stays in use
    for threshold in (0.0, 0.2, 0.5, 0.9):
        assert kept_counts(graph, layout, threshold, 2.1) == kept_counts(chain, layout, threshold, 2.1)


@pytest.mark.parametrize("name", CHAINS)
@settings(max_examples=sized(8, 60), deadline=None)
@given(seed=st.integers(0, 2**32), density=st.floats(0, 1))
def test_of_a_chain_it_has_the_same_masks_energies_and_tensors(name: str, seed: int, density: float) -> None:
    layout, chain, graph = BOTH[name]
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(layout.size, generator=g) < density**0.5
    closed = chain.close(mask, layout)
    assert torch.equal(graph.close(mask, layout), closed)
    assert graph.close(closed, layout) is closed
    assert torch.equal(graph.used(mask, layout), chain.used(mask, layout))
    live = chain.live_units(mask, layout)
    assert all(map(torch.equal, graph.live_units(mask, layout), live))
    kept = [(torch.rand(len(k), generator=g) < 0.6) for k in live[:-1]] + [live[-1]]
    assert torch.equal(graph.keep_units(kept, layout), chain.keep_units(kept, layout))
    counts = [int(k.sum()) for k in kept]
    assert graph.scaled_macs(counts) == chain.scaled_macs(counts)
    rows = torch.randn(2, layout.size, generator=g).square()
    for ours, theirs in zip(graph.sums(rows, layout), chain.sums(rows, layout), strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(graph.mean_weights(rows, layout), chain.mean_weights(rows, layout), strict=True):
        assert all(map(torch.equal, ours, theirs))
    ours, theirs = graph.narrowed(rows[0], kept, layout), chain.narrowed(rows[0], kept, layout)
    changed = {n: t for n, t in theirs.items() if t.shape != layout[n].shape}
    assert ours.keys() == changed.keys()
    assert all(torch.equal(ours[n], t) for n, t in changed.items())
    ours, theirs = graph.of_weights(mask, layout), chain.of_weights(mask, layout)
    assert {n: (u.units, u.live) for n, u in ours.items()} == {n: (u.units, u.live) for n, u in theirs.items()}


def view(layout: Layout, units: Units, seed: int) -> PruneView:
    draw = torch.Generator().manual_seed(seed)
    deviations = torch.rand(layout.size, generator=draw) ** 3 * torch.randn(5, layout.size, generator=draw)
    exploration = explore(torch.arange(5), torch.ones(5), deviations, "robust", [[0.0]] * 5)
    return PruneView(
        layout=layout, units=units, weights=torch.randn(layout.size, generator=draw),
        mask=torch.ones(layout.size, dtype=torch.bool), exploration=exploration,
        guidance=initial_guidance(exploration), round=0, rounds=10,
        generator=partial(generator, seed, Purpose.PRUNING),
    )  # fmt: skip


PRUNERS: list[Pruner] = [ThresholdMask(threshold=0.4), BudgetMask(), RandomUnits(), RandomWeights(threshold=0.6)]


@pytest.mark.parametrize("pruner", PRUNERS, ids=lambda p: p.kind)
@pytest.mark.parametrize("name", CHAINS)
def test_pruners_cut_a_chain_and_its_graph_alike(name: str, pruner: Pruner) -> None:
    layout, chain, graph = BOTH[name]
    for seed in range(sized(2, 6)):
        masks = [pruner.mask(view(layout, units, seed)) for units in (chain, graph)]
        assert torch.equal(*masks)


# -------------------------------------------------------------------------------------- by hand

SMALL = Small()
LAYOUT, UNITS = Layout.of(SMALL), UnitGraph.of(SMALL, torch.zeros(1, 3))
#: unit -> (incoming, outgoing, own) as (tensor, index) pairs, written down from the model
STREAM = [
    (
        [("a.weight", (u, slice(None))), ("c.weight", (u, slice(None)))],
        [("b.weight", (slice(None), u)), ("fc.weight", (slice(None), u))],
        [(name, u) for name in ("a.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")],
    )
    for u in range(4)
]
INNER = [([("b.weight", (u, slice(None)))], [("c.weight", (slice(None), u))], [("b.bias", u)]) for u in range(5)]


def slow_closure(mask: Tensor) -> Tensor:
    """One unit at a time, until nothing changes."""
    mask = mask.clone()
    tensors = LAYOUT.tensors(mask)
    while True:
        before = mask.clone()
        for incoming, outgoing, own in (*STREAM, *INNER):
            if not all(any(bool(tensors[n][at].any()) for n, at in side) for side in (incoming, outgoing)):
                for name, at in (*incoming, *outgoing, *own):
                    tensors[name][at] = False
        if torch.equal(mask, before):
            return mask


def test_a_unit_of_a_residual_stream_is_one_channel_of_all_layers_in_it() -> None:
    assert [(g.name, g.units) for g in UNITS.groups] == [("a", 4), ("b", 5), ("fc", 2)]
    for group, units in enumerate((STREAM, INNER)):
        for number, places in enumerate(units):
            kept = [torch.ones(g.units, dtype=torch.bool) for g in UNITS.groups]
            kept[group][number] = False
            mask = torch.ones(LAYOUT.size, dtype=torch.bool)
            for name, at in (place for side in places for place in side):
                LAYOUT.tensors(mask)[name][at] = False
            assert torch.equal(UNITS.keep_units(kept, LAYOUT), mask)


@settings(max_examples=sized(15, 100), deadline=None)
@given(seed=st.integers(0, 2**32), density=st.floats(0, 1))
def test_closure_against_the_slow_one(seed: int, density: float) -> None:
    mask = torch.rand(LAYOUT.size, generator=torch.Generator().manual_seed(seed)) < density
    closed = UNITS.close(mask, LAYOUT)
    assert torch.equal(closed, slow_closure(mask))
    assert UNITS.close(closed, LAYOUT) is closed
    live = [k.tolist() for k in UNITS.live_units(mask, LAYOUT)]
    tensors = LAYOUT.tensors(closed)
    assert live[0] == [any(bool(tensors[n][at].any()) for n, at in unit[0]) for unit in STREAM]
    assert live[1] == [any(bool(tensors[n][at].any()) for n, at in unit[0]) for unit in INNER]


def test_means_and_multiply_adds_by_hand() -> None:
    rows = torch.rand(2, LAYOUT.size, generator=torch.Generator().manual_seed(1))
    t = {name: x.double() for name, x in LAYOUT.tensors(rows).items()}
    (incoming, outgoing), (inner_in, inner_out) = UNITS.mean_weights(rows, LAYOUT)
    for u in range(4):
        into = torch.cat([t["a.weight"][:, u], t["c.weight"][:, u]], 1).mean(1)
        out = torch.cat([t["b.weight"][:, :, u], t["fc.weight"][:, :, u]], 1).mean(1)
        torch.testing.assert_close(incoming[:, u].double(), into, rtol=1e-5, atol=0)
        torch.testing.assert_close(outgoing[:, u].double(), out, rtol=1e-5, atol=0)
    torch.testing.assert_close(inner_in, t["b.weight"].mean(2).float())
    stream, inner = UNITS.sums(rows, LAYOUT)
    for found, places in ((stream, STREAM), (inner, INNER)):
        for u, (into, _, own) in enumerate(places):
            by_hand = [t[name][(slice(None), *(at if isinstance(at, tuple) else (at,)))] for name, at in (*into, *own)]
            wanted = torch.stack([part.reshape(2, -1).sum(1) for part in by_hand]).sum(0)
            torch.testing.assert_close(found[:, u].double(), wanted, rtol=1e-5, atol=0)
    torch.testing.assert_close(inner_out, t["c.weight"].mean(1).float())
    for s, i in ((4, 5), (2, 3), (1, 1)):
        assert UNITS.scaled_macs([s, i, 2]) == 3 * s + s * i + i * s + s * 2
    assert UNITS.fixed_macs(LAYOUT) == 0


def test_what_frozen_weights_touch_is_not_removable() -> None:
    module = Small()
    module.c.requires_grad_(False)
    layout = Layout.of(module)
    assert UNITS.removable(layout) == [False, False]
    assert UNITS.fixed_macs(layout) == UNITS.scaled_macs([4, 5, 2])
    mask = torch.ones(layout.size, dtype=torch.bool)
    mask[layout["b.weight"].slice] = False  # frozen weights read what b puts out, so it is not dead
    assert UNITS.close(mask, layout) is mask


def test_kept_has_one_flag_for_each_unit() -> None:
    kept = [torch.ones(g.units, dtype=torch.bool) for g in UNITS.groups]
    with pytest.raises(InputError, match=r"kept has \[4, 5\] units per group, the model has \[4, 5, 2\]"):
        UNITS.keep_units(kept[:-1], LAYOUT)
    kept[-1][0] = False
    with pytest.raises(InputError, match="kept drops outputs of fc"):
        UNITS.keep_units(kept, LAYOUT)
