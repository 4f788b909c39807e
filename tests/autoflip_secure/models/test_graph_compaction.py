"""Models that are no chain, made smaller: equal outputs, budgets that hold, dead units that nobody hears."""

import copy
from functools import partial

import pytest
import torch
from graph_models import GRAPHS, Normed, ResNet20, Small
from sizes import sized
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.interfaces import PruneView
from autoflip_secure.models.compaction import compact
from autoflip_secure.models.costs import CostModel
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.unit_finding import find_units
from autoflip_secure.models.units import Units
from autoflip_secure.pruning.random import RandomUnits
from autoflip_secure.seeds import Purpose, generator

MADE: dict[str, tuple[nn.Module, Layout, Units]] = {}


def made(name: str) -> tuple[nn.Module, Layout, Units]:
    """A model, built and read once."""
    if name not in MADE:
        make, shape = GRAPHS[name]
        torch.manual_seed(3)
        module = make()
        MADE[name] = module, Layout.of(module), find_units(module, torch.zeros(1, *shape))
    return MADE[name]


def random_weights(module: nn.Module, layout: Layout, g: torch.Generator) -> Tensor:
    """As drawn by the model, with every bias, scale and running statistic away from 0 and 1."""
    vector = layout.vector(module)
    for segment in layout:
        noise = torch.randn(segment.stop - segment.start, generator=g)
        if segment.kind != "weight":
            vector[segment.slice] += 0.3 * (noise.abs() if segment.name.endswith("running_var") else noise)
    return vector


def random_mask(units: Units, layout: Layout, g: torch.Generator, share: float, weights: float) -> Tensor:
    kept = [torch.rand(group.units, generator=g) < share for group in units.groups]
    kept[-1][:] = True
    mask = units.keep_units(kept, layout) & ((torch.rand(layout.size, generator=g) < weights) | ~layout.prunable)
    return units.close(mask, layout)


def sizes(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


NAMES = ["resnet20", "groupnorm", "concatenating", "grouped", "small"]
LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("mobilenet", "efficientnet")]


def test_every_model_is_looked_at() -> None:
    assert {*NAMES, *(str(case.values[0]) for case in LARGE)} == set(GRAPHS)


@pytest.mark.parametrize("name", [*NAMES, *LARGE])
def test_equal_outputs(name: str) -> None:
    """In double precision, where rounding cannot hide a mistake; biases, scales and statistics are all away from 0."""
    module, layout, units = made(name)
    shape, different = GRAPHS[name][1], 0
    for seed in range(sized(1, 10)):
        g = torch.Generator().manual_seed(seed)
        vector, mask = random_weights(module, layout, g), random_mask(units, layout, g, 0.4 + 0.3 * (seed % 2), 0.9)
        smaller = compact(module, units, layout, vector, mask).double().eval()
        masked = copy.deepcopy(module).double().eval()
        layout.load(masked, vector * mask)
        x = torch.randn(3, *shape, generator=g, dtype=torch.double)
        torch.testing.assert_close(smaller(x), masked(x), rtol=1e-9, atol=1e-9)
        whole = copy.deepcopy(module).double().eval()
        layout.load(whole, vector)
        if torch.allclose(smaller(x), whole(x), rtol=0, atol=1e-6):  # these random weights let nothing through
            torch.testing.assert_close(whole(x), whole(x)[:1].expand(3, -1))
        else:
            different += 1
        assert sizes(smaller) < sizes(module)
    assert different  # what goes makes a difference


@pytest.mark.parametrize("name", [*NAMES, *LARGE])
def test_equal_gradients_and_statistics_in_training(name: str) -> None:
    """In training too, where batches make the statistics of a BatchNorm; without dropout, which would draw anew."""
    module, layout, units = made(name)
    g = torch.Generator().manual_seed(5)
    vector, mask = random_weights(module, layout, g), random_mask(units, layout, g, 0.5, 0.9)
    smaller = compact(module, units, layout, vector, mask)
    masked = copy.deepcopy(module)
    layout.load(masked, vector * mask)
    x = torch.randn(4, *GRAPHS[name][1], generator=g)
    outputs = []
    for net in (smaller, masked):
        for layer in net.double().train().modules():
            if type(layer).__name__ in ("Dropout", "StochasticDepth"):
                layer.eval()
        outputs.append(net(x.double()))
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(*outputs, rtol=1e-7, atol=1e-7)
    small, large = (dict(net.named_parameters()) for net in (smaller, masked))
    last = [n for n in large if n.endswith("bias")][-1]
    torch.testing.assert_close(small[last].grad, large[last].grad, rtol=1e-7, atol=1e-7)
    none_dead = torch.ones(Layout.of(smaller).size, dtype=torch.bool)
    torch.testing.assert_close(statistics(smaller, none_dead), statistics(masked, mask), rtol=1e-7, atol=1e-9)


def statistics(module: nn.Module, mask: Tensor) -> Tensor:
    """Running statistics of live channels: those of dead ones go on in the masked model, and nobody reads them."""
    state, layout = module.state_dict(), Layout.of(module)
    return torch.cat([torch.zeros(0), *(state[s.name][mask[s.slice]] for s in layout if s.kind == "buffer")])


def test_the_comparison_can_fail() -> None:
    """A beta that lives on in a dead channel of a normalisation reaches the outputs."""
    module, layout, units = made("resnet20")
    g = torch.Generator().manual_seed(1)
    vector, mask = random_weights(module, layout, g), random_mask(units, layout, g, 0.5, 1.0)
    x = torch.randn(2, 3, 8, 8, generator=g)
    outputs = []
    for more in (None, "fc.weight"):  # nobody hears a dead channel but through a column that lives on
        net, open_mask = copy.deepcopy(module).eval(), mask.clone()
        for name in ("stages.8.bn2.bias", more):
            if name is not None:
                open_mask[layout[name].slice] = True
        layout.load(net, vector * open_mask)
        outputs.append(net(x))
    smaller = compact(module, units, layout, vector, mask).eval()
    torch.testing.assert_close(outputs[0], smaller(x), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(outputs[1], smaller(x), rtol=1e-3, atol=1e-3)


def test_whole_norm_groups_and_groups_of_filters_go() -> None:
    module, layout, units = made("groupnorm")
    kept = [torch.tensor([True, False, True, True]), torch.tensor([False, True, False]), torch.ones(10).bool()]
    smaller = compact(module, units, layout, layout.vector(module), units.keep_units(kept, layout))
    assert isinstance(smaller, Normed)
    assert (smaller.norm.num_groups, smaller.norm.num_channels) == (3, 6)
    assert (smaller.inner_norm.num_groups, smaller.inner_norm.num_channels) == (1, 2)
    module, layout, units = made("grouped")
    kept = [torch.tensor([True, False, False, True]), torch.tensor([True, True, False, True, True]), kept[2]]
    smaller = compact(module, units, layout, layout.vector(module), units.keep_units(kept, layout))
    assert [(m.in_channels, m.out_channels, m.groups) for m in smaller.modules() if isinstance(m, nn.Conv2d)] == [
        (3, 4, 1), (4, 6, 2), (6, 4, 1), (4, 8, 4),
    ]  # fmt: skip


def test_a_group_without_units_cuts_nothing_where_the_stream_leads_past_it() -> None:
    module, layout, units = made("small")
    kept = [torch.ones(4).bool(), torch.zeros(5).bool(), torch.ones(2).bool()]
    mask, vector = units.keep_units(kept, layout), layout.vector(module)
    smaller = compact(module, units, layout, vector, mask).eval()
    assert isinstance(smaller, Small)
    assert smaller.b.out_features == 1
    masked = copy.deepcopy(module).eval()
    layout.load(masked, vector * mask)
    x = torch.randn(4, 3)
    torch.testing.assert_close(smaller(x), masked(x))
    assert not any(k.any() for k in units.live_units(mask, layout)[1:2])


# --------------------------------------------------------------------------------- budgets, FLOPs


def costs(name: str, batch: int = 2) -> CostModel:
    module, layout, units = made(name)
    return CostModel(module, layout, units, "ok", torch.zeros(1, *GRAPHS[name][1]), batch)


def view(name: str, seed: int) -> PruneView:
    module, layout, units = made(name)
    return PruneView(
        layout=layout, units=units, weights=layout.vector(module), mask=torch.ones(layout.size, dtype=torch.bool),
        exploration=None, guidance=None, round=0, rounds=5, generator=partial(generator, seed, Purpose.PRUNING),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["resnet20", "concatenating", *LARGE])
def test_budgets_hold_for_the_model_that_is_left(name: str) -> None:
    """Counted by torch's formulas on the smaller module, which knows nothing of units."""
    counted, seen = costs(name), view(name, 0)
    whole = counted.forward(seen.mask)
    assert whole.dense == whole.compacted == 2 * made(name)[2].scaled_macs([g.units for g in made(name)[2].groups])
    for threshold in (0.2, 0.4):
        flops = counted.forward(RandomUnits(threshold=threshold).mask(seen))
        assert flops.compacted is not None
        assert whole.dense is not None
        assert flops.compacted <= (1 - threshold) ** 2.1 * whole.dense
        assert flops.compacted > 0.5 * (1 - threshold) ** 2.1 * whole.dense
        assert counted.compaction_of(RandomUnits(threshold=threshold).mask(seen)) == "ok"


def test_multiply_adds_by_counts_are_those_of_the_smaller_model() -> None:
    for name in ("resnet20", "groupnorm", "grouped"):
        _, layout, units = made(name)
        g = torch.Generator().manual_seed(2)
        kept = [torch.rand(group.units, generator=g) < 0.6 for group in units.groups]
        for flags in kept:
            flags[0] = True
        kept[-1][:] = True
        flops = costs(name).forward(units.keep_units(kept, layout))
        assert flops.compacted == 2 * units.scaled_macs([int(k.sum()) for k in kept])


def test_units_that_stay_are_left_in_the_smaller_model() -> None:
    """Here the stream is added to the inputs, so it keeps its units; the inner ones may go."""

    class Open(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.fc = nn.Linear(6, 9), nn.Linear(9, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x + self.b(self.a(x).tanh()))

    module = Open()
    layout, units = Layout.of(module), find_units(module, torch.zeros(1, 6))
    assert [(g.name, g.units) for g in units.groups] == [("a", 9), ("fc", 3)]
    left = units.of_weights(units.keep_units([torch.arange(9) < 4, torch.ones(3).bool()], layout), layout)
    assert {n: (u.units, u.live, u.live_inputs) for n, u in left.items()} == {
        "a.weight": (9, 4, 6), "b.weight": (6, 6, 4), "fc.weight": (3, 3, 6),
    }  # fmt: skip


def test_a_model_without_known_units_says_why_nothing_is_compacted() -> None:
    module = ResNet20(width=2, blocks=1)
    layout = Layout.of(module)
    counted = CostModel(module, layout, None, "nobody asked", torch.zeros(1, 3, 8, 8), 2)
    assert counted.forward(torch.ones(layout.size, dtype=torch.bool)).compacted is None
    assert counted.compaction == "nobody asked"
    with pytest.raises(UnsupportedModelError, match="no unit of"):
        find_units(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm([4, 6, 6]), nn.Flatten(), nn.Linear(144, 2)),
            torch.zeros(1, 3, 8, 8),
        )
