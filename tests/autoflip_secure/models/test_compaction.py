"""Compaction: the smaller model gives the same outputs, gradients and statistics as the masked one."""

import copy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.compaction import compact
from autoflip_secure.models.layout import Layout

ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Softplus]  # the last two do not map 0 to 0


def build(hidden: list[int], convolutions: list[int], norm: bool, activation: type[nn.Module]) -> nn.Sequential:
    """A net for inputs of (2, 6, 6): convolutions, then fully connected layers, 3 outputs."""
    layers: list[nn.Module] = []
    channels, side = 2, 6
    for number, filters in enumerate(convolutions):
        layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=not norm)]
        layers += [nn.BatchNorm2d(filters)] * norm + [activation()]
        if number == 0:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        channels = filters
    layers.append(nn.Flatten())
    width = channels * side**2
    for units in hidden:
        layers += [nn.Linear(width, units)] + [nn.BatchNorm1d(units)] * norm + [activation()]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, 3))


def cell(module: nn.Module, seed: int) -> tuple[Layout, Chain, Tensor, torch.Generator]:
    """Layout, chain and random weights: every coordinate non-zero, running variances positive."""
    g = torch.Generator().manual_seed(seed)
    layout = Layout.of(module)
    vector = torch.randn(layout.size, generator=g) * 0.5
    for segment in layout:
        if segment.name.endswith("running_var"):
            vector[segment.slice] = vector[segment.slice].abs() + 0.5
    return layout, Chain.of(module, torch.zeros(1, 2, 6, 6).to(next(module.parameters()))), vector, g


def masked_copy(module: nn.Module, layout: Layout, vector: Tensor, mask: Tensor) -> nn.Module:
    masked = copy.deepcopy(module)
    layout.load(masked, vector * mask)
    return masked


nets = st.builds(
    build,
    hidden=st.lists(st.integers(1, 6), max_size=3),
    convolutions=st.lists(st.integers(1, 5), max_size=2),
    norm=st.booleans(),
    activation=st.sampled_from(ACTIVATIONS),
)


def draw_mask(chain: Chain, layout: Layout, g: torch.Generator, units: float, weights: float) -> Tensor:
    kept = [(torch.rand(la.units, generator=g) < units) | (torch.arange(la.units) == 0) for la in chain.layers]
    kept[-1][:] = True
    mask = chain.keep_units(kept, layout)
    mask &= (torch.rand(layout.size, generator=g) < weights) | ~layout.prunable
    return chain.close(mask, layout)


@settings(max_examples=sized(10, 25), deadline=None)
@given(module=nets, seed=st.integers(0, 2**32), units=st.floats(0.3, 1), weights=st.floats(0.3, 1))
def test_equal_outputs_gradients_and_statistics(module: nn.Sequential, seed: int, units: float, weights: float) -> None:
    """In double precision, where rounding cannot hide a mistake."""
    layout, chain, vector, g = cell(module.double(), seed)
    mask = draw_mask(chain, layout, g, units, weights)
    live = chain.live_units(mask, layout)
    if not all(k.any() for k in live):
        with pytest.raises(UnsupportedModelError, match="the network is cut at"):
            compact(module, chain, layout, vector, mask)
        return
    masked, smaller = masked_copy(module, layout, vector, mask), compact(module, chain, layout, vector, mask)
    x = torch.randn(4, 2, 6, 6, generator=g, dtype=torch.double)
    close = partial(torch.testing.assert_close, rtol=1e-6, atol=1e-9)
    for training in (False, True):
        wanted, got = masked.train(training)(x), smaller.train(training)(x)
        close(got, wanted)
    wanted.square().sum().backward()
    got.square().sum().backward()
    close(smaller[-1].bias.grad, masked[-1].bias.grad)
    small_layout = Layout.of(smaller)
    close(buffers(smaller, small_layout, small_layout.trained | True), buffers(masked, layout, mask))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_equal_outputs_in_single_precision(norm: bool, training: bool) -> None:
    module = build([16], [8, 8], norm, nn.ReLU)
    layout, chain, vector, g = cell(module, 11)
    vector[layout.trained] *= 0.2
    mask = draw_mask(chain, layout, g, 0.5, 0.6)
    smaller = compact(module, chain, layout, vector, mask).train(training)
    x = torch.randn(32, 2, 6, 6, generator=g)
    torch.testing.assert_close(
        smaller(x), masked_copy(module, layout, vector, mask).train(training)(x), rtol=0, atol=1e-6
    )
    assert smaller[0].out_channels < 8


def buffers(module: nn.Module, layout: Layout, mask: Tensor) -> Tensor:
    state = module.state_dict()
    parts = [state[s.name][mask[s.slice]] for s in layout if s.kind == "buffer"]
    return torch.cat(parts or [torch.zeros(0)])


def test_the_comparison_can_fail() -> None:
    module = build([5, 4], [], False, nn.ReLU)
    layout, chain, vector, _ = cell(module, 1)
    kept = [
        torch.tensor([1, 0, 1, 1, 0], dtype=torch.bool),
        torch.ones(4, dtype=torch.bool),
        torch.ones(3, dtype=torch.bool),
    ]
    smaller = compact(module, chain, layout, vector, chain.keep_units(kept, layout))
    x = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(smaller(x), masked_copy(module, layout, vector, torch.ones(layout.size))(x))
    assert [m.weight.shape for m in smaller if isinstance(m, nn.Linear)] == [(3, 72), (4, 3), (3, 4)]
    assert "in_features=72, out_features=3" in repr(smaller)


def test_the_module_itself_is_left_alone() -> None:
    module = build([5], [3], True, nn.ReLU)
    layout, chain, vector, _ = cell(module, 2)
    before, shapes = layout.vector(module), [p.shape for p in module.parameters()]
    kept = [torch.arange(la.units) < max(1, la.units - 2) for la in chain.layers]
    kept[-1][:] = True
    smaller = compact(module, chain, layout, vector, chain.keep_units(kept, layout))
    assert torch.equal(layout.vector(module), before)
    assert [p.shape for p in module.parameters()] == shapes
    assert smaller.training
    assert module.training
    assert smaller[1].num_features == 1
    assert (smaller[0].in_channels, smaller[0].out_channels) == (2, 1)


def test_an_open_mask_is_closed_first() -> None:
    """A neuron that hears nobody is a constant, f(bias); closure drops it, and so does compaction."""
    module = build([3], [], False, nn.Sigmoid)
    layout, chain, vector, g = cell(module, 3)
    mask = torch.ones(layout.size, dtype=torch.bool)
    chain.blocks(mask, layout)[0][1] = False
    x = torch.randn(4, 2, 6, 6, generator=g)
    smaller = compact(module, chain, layout, vector, mask)
    closed = chain.close(mask, layout)
    torch.testing.assert_close(smaller(x), masked_copy(module, layout, vector, closed)(x), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(smaller(x), masked_copy(module, layout, vector, mask)(x))


class Prelus(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.slopes = nn.Conv1d(2, 6, 3), nn.PReLU(6)
        self.b, self.slope, self.c = nn.Conv1d(6, 5, 1), nn.PReLU(), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.slope(self.b(self.slopes(self.a(x.flatten(2)))))
        return torch.nn.functional.log_softmax(self.c(x.mean(2)), 1)


def test_slopes_and_one_dimensional_convolutions() -> None:
    module = Prelus()
    layout, chain, vector, g = cell(module, 4)
    kept = [torch.rand(la.units, generator=g) < 0.6 for la in chain.layers]
    kept[-1][:] = True
    mask = chain.keep_units(kept, layout)
    smaller, x = compact(module, chain, layout, vector, mask), torch.randn(4, 2, 6, 6, generator=g)
    torch.testing.assert_close(smaller(x), masked_copy(module, layout, vector, mask)(x), rtol=1e-5, atol=1e-6)
    assert 0 < smaller.slopes.num_parameters == int(kept[0].sum()) < 6
    assert smaller.slope.num_parameters == 1


class FixedWidth(nn.Module):
    """Runs when dense; ``width`` None makes the batch, not the run, come out wrong."""

    def __init__(self, batch_of: int | None) -> None:
        super().__init__()
        self.a, self.b, self.batch_of = nn.Conv2d(2, 4, 1), nn.Linear(4 * 36, 3), batch_of

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu().view(self.batch_of or x.shape[0], 4 * 36))


class Peeking(nn.Module):
    """Its forward pass uses the number of units: the same path, other outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(72, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x.flatten(1)).relu() / self.a.out_features)


@pytest.mark.parametrize("batch_of", [None, -1])
def test_a_reshape_to_a_fixed_width_is_refused(batch_of: int | None) -> None:
    module = FixedWidth(batch_of)
    layout, chain, vector, _ = cell(module, 5)
    dense = torch.ones(layout.size, dtype=torch.bool)
    assert compact(module, chain, layout, vector, dense) is not module
    kept = [torch.tensor([True, True, False, False]), torch.ones(3, dtype=torch.bool)]
    with pytest.raises(UnsupportedModelError, match=r"FixedWidth cannot run with fewer units.*nn\.Flatten"):
        compact(module, chain, layout, vector, chain.keep_units(kept, layout))


def test_other_outputs_are_refused() -> None:
    module = Peeking()
    layout, chain, vector, _ = cell(module, 6)
    kept = [torch.tensor([True, True, False, False]), torch.ones(3, dtype=torch.bool)]
    with pytest.raises(UnsupportedModelError, match="Peeking gives other outputs"):
        compact(module, chain, layout, vector, chain.keep_units(kept, layout))


def test_a_cut_network_is_refused() -> None:
    module = build([4, 4], [], False, nn.ReLU)
    layout, chain, vector, _ = cell(module, 7)
    mask = torch.ones(layout.size, dtype=torch.bool)
    mask[layout["3.weight"].slice] = False
    with pytest.raises(UnsupportedModelError, match="cut at 1: none of its 4 units is left; prune less"):
        compact(module, chain, layout, vector, mask)
