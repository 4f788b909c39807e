"""Which units are found in models that are no chain, which stay, and what cannot be read."""

import pytest
import torch
from chain_models import Functional
from graph_models import GRAPHS, LstmClassifier, Small
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.unit_finding import find_units
from autoflip_secure.models.unit_graph import UnitGraph


def found(name: str) -> UnitGraph:
    make, shape = GRAPHS[name]
    units = find_units(make(), torch.zeros(1, *shape))
    assert isinstance(units, UnitGraph)
    return units


def test_channels_of_a_norm_group_and_of_a_group_of_filters_are_one_unit() -> None:
    assert [(g.name, g.units) for g in found("groupnorm").groups] == [("stem", 4), ("inner", 3), ("fc", 10)]
    assert [(g.name, g.units) for g in found("grouped").groups] == [("a", 4), ("b", 5), ("fc", 10)]


def test_layers_of_a_concatenation_keep_units_of_their_own() -> None:
    units = found("concatenating")
    assert [(g.name, g.units) for g in units.groups] == [("a", 4), ("b", 5), ("c", 6), ("fc", 10)]
    # c reads 9 channels: a's 4 and b's 5; fc reads all 15; 8x8 inputs
    assert units.scaled_macs([3, 2, 5, 10]) == 64 * (27 * 3 + 9 * 3 * 2 + 5 * 5) + 10 * 10


class Mixing(nn.Module):
    """Units of ``a`` compete in a softmax, those of ``c`` are added to the inputs; only ``b`` has units that may go."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(self.b(self.a(x).softmax(1)).relu()) + x)


def test_a_width_in_the_forward_pass_is_found_by_trying() -> None:
    units = UnitGraph.of(Functional(), torch.zeros(1, 64))
    assert [g.name for g in units.groups] == ["mid", "fc"]
    assert units.kept_whole[0].startswith("units of conv stay: without some of them")


def test_what_mixes_units_is_found_by_trying() -> None:
    units = UnitGraph.of(Mixing(), torch.zeros(1, 5))
    assert [(g.name, g.units) for g in units.groups] == [("b", 6), ("d", 3)]
    assert units.kept_whole == (
        "units of a, c stay: without some of them the outputs change, or the forward pass fails",
    )
    layout = Layout.of(Mixing())
    mask = torch.ones(layout.size, dtype=torch.bool)
    mask[layout["b.weight"].slice] = False  # nobody reads a any more; the graph says nothing about its units
    assert UnitGraph.close(units, mask, layout)[layout["a.weight"].slice].all()


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(self.a(x).relu()) + x)


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no such thing")


class Picky(Small):
    def forward(self, x: Tensor) -> Tensor:
        if float(self.a.bias.detach().abs().max()) > 0.2:
            raise ValueError("a bias is large")
        return super().forward(x)


def test_what_cannot_be_read_is_refused_with_place_and_reason() -> None:
    with pytest.raises(UnsupportedModelError, match=r"units of embedding stay: Embedding.*lstm stay: LSTM is neither"):
        find_units(LstmClassifier(), torch.zeros(1, 5, dtype=torch.long))
    with pytest.raises(UnsupportedModelError, match="layer 'a' of Shared is used more than once"):
        UnitGraph.of(Shared(), torch.zeros(1, 4))
    with pytest.raises(UnsupportedModelError, match="torch-pruning cannot follow Broken: no such thing"):
        UnitGraph.of(Broken(), torch.zeros(1, 4))
    picky = Picky()
    nn.init.zeros_(picky.a.bias)
    with pytest.raises(UnsupportedModelError, match=r"units of Picky cannot be tried out .*it fails: a bias is large"):
        UnitGraph.of(picky, torch.zeros(1, 3))
    tied = Small()
    tied.fc.weight = nn.Parameter(torch.zeros(2, 4))
    tied.c.weight = tied.b.weight
    with pytest.raises(UnsupportedModelError, match=r"b\.weight and c\.weight of Small are one tensor"):
        UnitGraph.of(tied, torch.zeros(1, 3))
