"""Dead-unit closure of chains against a slow one by hand, and whole units that are kept."""

import pytest
import torch
from chain_models import Functional, cnn, mlp
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout

# ------------------------------------------------------------------------------------------- closure


def slow_closure(chain: Chain, mask: Tensor, layout: Layout) -> Tensor:
    """One unit, one weight at a time, from the indices up, until nothing changes."""
    mask = mask.clone()
    changed = True
    while changed:
        changed = False
        for index, layer in enumerate(chain.layers[:-1]):
            after = chain.layers[index + 1]
            start, next_start = layout[layer.weight].start, layout[after.weight].start
            row = layer.inputs * layer.fan
            for unit in range(layer.units):
                incoming = [start + unit * row + i for i in range(row)]
                outgoing = [
                    next_start + (o * after.inputs + unit) * after.fan + f
                    for o in range(after.units)
                    for f in range(after.fan)
                ]
                if any(mask[i] for i in incoming) and any(mask[i] for i in outgoing):
                    continue
                own = list(incoming + outgoing)
                for name in [layer.bias, *layer.attached]:
                    if name is not None:
                        each = (layout[name].stop - layout[name].start) // layer.units
                        own += [layout[name].start + unit * each + i for i in range(each)]
                for i in own:
                    changed |= bool(mask[i])
                    mask[i] = False
    return mask


def random_mask(layout: Layout, seed: int, density: float) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(layout.size, generator=g) < density


SMALL = {
    "mlp": (mlp(4, 5, 4, 3), (4,)),
    "cnn": (cnn(), (2, 6, 6)),
    "functional": (Functional(), (64,)),
    "single": (mlp(4, 2), (4,)),
}
CHAINS = {k: (Layout.of(m), Chain.of(m, torch.zeros(1, *shape))) for k, (m, shape) in SMALL.items()}


@pytest.mark.parametrize("name", SMALL)
@given(seed=st.integers(0, 2**32), density=st.floats(0, 1), less=st.floats(0, 1))
def test_closure(name: str, seed: int, density: float, less: float) -> None:
    layout, chain = CHAINS[name]
    mask = random_mask(layout, seed, density**2)
    before = mask.clone()
    closed = chain.close(mask, layout)
    assert torch.equal(mask, before)
    assert not (closed & ~mask).any()
    assert chain.close(closed, layout) is closed  # idempotent, and the same object when nothing changes
    smaller = mask & random_mask(layout, seed + 1, less)
    assert not (chain.close(smaller, layout) & ~closed).any()  # monotone
    if name == "mlp":
        assert torch.equal(closed, slow_closure(chain, mask, layout))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("density", [0.02, 0.1, 0.3])
def test_closure_against_the_slow_one(name: str, density: float) -> None:
    layout, chain = CHAINS[name]
    changed = 0
    for seed in range(3):
        mask = random_mask(layout, seed, density)
        closed = chain.close(mask, layout)
        changed += not torch.equal(closed, mask)
        assert torch.equal(closed, slow_closure(chain, mask, layout))
        live = chain.live_units(mask, layout)
        for layer, units, block in zip(chain.layers[:-1], live, chain.blocks(closed, layout), strict=False):
            assert units.tolist() == [bool(block[u].any()) for u in range(layer.units)]
        assert live[-1].all()
    assert changed or name == "single" or density > 0.2  # the case is not vacuous


def test_a_death_travels_both_ways() -> None:
    module = mlp(2, 2, 2, 2, 2)
    layout, chain = Layout.of(module), Chain.of(module, torch.zeros(1, 2))
    mask = torch.ones(layout.size, dtype=torch.bool)
    blocks = chain.blocks(mask, layout)
    blocks[1][0] = False  # unit 0 of the second layer hears nobody ...
    blocks[2][:, 1] = False  # ... and unit 1 has no listener: the network is cut
    assert [int(units.sum()) for units in chain.live_units(mask, layout)] == [0, 0, 0, 2]
    left = {s.name: bool(chain.close(mask, layout)[s.slice].any()) for s in layout}
    assert [name for name, live in left.items() if live] == ["6.bias"]


# ------------------------------------------------------------------------------------------- whole units


@given(seed=st.integers(0, 2**32))
def test_keeping_units_and_counting_them(seed: int) -> None:
    for layout, chain in CHAINS.values():
        g = torch.Generator().manual_seed(seed)
        kept = [torch.rand(la.units, generator=g) < 0.6 for la in chain.layers]
        kept = [k | (torch.arange(len(k)) == 0) for k in kept]
        kept[-1][:] = True
        mask = chain.keep_units(kept, layout)
        assert chain.close(mask, layout) is mask
        assert all(torch.equal(a, b) for a, b in zip(chain.live_units(mask, layout), kept, strict=True))
        counts = [int(k.sum()) for k in kept]
        live = [int(b.sum()) * la.positions for b, la in zip(chain.blocks(mask, layout), chain.layers, strict=True)]
        assert chain.scaled_macs(counts) == sum(live)


def test_dense_counts() -> None:
    for _, chain in CHAINS.values():
        widths = [layer.units for layer in chain.layers]
        assert chain.scaled_macs(widths) == sum(layer.macs for layer in chain.layers)


def test_bad_unit_lists() -> None:
    layout, chain = CHAINS["mlp"]
    kept = [torch.ones(layer.units, dtype=torch.bool) for layer in chain.layers]
    with pytest.raises(InputError, match=r"kept has \[5, 4\] units per layer, the chain has \[5, 4, 3\]"):
        chain.keep_units(kept[:-1], layout)
    kept[-1][0] = False
    with pytest.raises(InputError, match="drops outputs of 4"):
        chain.keep_units(kept, layout)
