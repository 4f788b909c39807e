"""FedLEx's matrix G, from the specification: squared deviations of the explorers, tensor by tensor, biases too."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.interfaces import BroadcastView, Exploration
from autoflip_secure.local_rules.fedlex import FedLEx
from autoflip_secure.models.layout import Layout
from autoflip_secure.seeds import Purpose, generator

MODULE = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
MODULE[2].bias.requires_grad_(False)  # type: ignore[union-attr]
LAYOUT = Layout.of(MODULE)
DEVIATIONS = 1e-2 * torch.randn(4, LAYOUT.size, generator=torch.Generator().manual_seed(2)) * LAYOUT.trained


def explored(method: str = "plain") -> Exploration:
    return explore(torch.arange(4), torch.ones(4), DEVIATIONS, method, [[0.5]] * 4)


def matrix(rule: FedLEx, found: Exploration | None = None, seed: int = 0) -> Tensor:
    view = BroadcastView(LAYOUT, found or explored(), partial(generator, seed, Purpose.LOCAL_RULE))
    return rule.broadcast(view)


def by_hand(normalisation: str, rescale: str) -> np.ndarray:
    rows = DEVIATIONS.double().numpy()
    found = np.ones(LAYOUT.size)
    for segment in LAYOUT:
        if segment.trained:
            x = np.array([np.mean([row[j] ** 2 for row in rows]) for j in range(segment.start, segment.stop)])
            if normalisation == "minmax":
                g = (x - x.min()) / (x.max() - x.min())
            else:
                low, middle, high = np.percentile(x, [25, 50, 75])
                g = np.clip((x - middle) / (high - low), 0, 1)
            found[segment.slice] = g / g.mean() if rescale == "mean" else g
    return found


@pytest.mark.parametrize("rescale", ["none", "mean"])
@pytest.mark.parametrize("normalisation", ["minmax", "robust_scaler"])
@pytest.mark.parametrize("landscape", ["deviations", "energy"])
def test_the_matrix_is_that_of_the_specification(landscape: str, normalisation: str, rescale: str) -> None:
    """Energy by the plain method is the summed squares over their total, and G does not know the scale."""
    rule = FedLEx(landscape=landscape, normalisation=normalisation, rescale=rescale)
    expected = torch.from_numpy(by_hand(normalisation, rescale)).float()
    torch.testing.assert_close(matrix(rule), expected, atol=1e-5, rtol=1e-4)
    biases = [segment for segment in LAYOUT if segment.kind == "bias" and segment.trained]
    assert biases
    assert all(float(expected[segment.slice].std()) > 0 for segment in biases)
    assert (expected[~LAYOUT.trained] == 1).all()


def test_by_energy_it_follows_the_exploration_method_and_needs_no_explorer() -> None:
    robust = explored("robust")
    assert not torch.allclose(matrix(FedLEx(landscape="energy"), robust), matrix(FedLEx(), robust), atol=1e-3)
    assert FedLEx().needs_explorers
    assert not FedLEx(landscape="energy").needs_explorers
    nothing = explore(torch.arange(0), torch.ones(0), DEVIATIONS[:0], "robust", [])
    assert torch.equal(matrix(FedLEx(), nothing), torch.ones(LAYOUT.size))


def test_a_matrix_per_round_is_that_of_the_participants_before_it() -> None:
    rule, found = FedLEx(matrix="per_round", rescale="none"), explored()
    assert rule.remembers_explorers
    assert rule.needs_explorers
    assert rule.renews(2, 9)
    assert not FedLEx().renews(2, 9)
    whole = matrix(rule)
    torch.testing.assert_close(whole, torch.from_numpy(by_hand("minmax", "none")).float(), atol=1e-5, rtol=1e-4)

    def later(*participants: int) -> Tensor:
        draws = partial(generator, 0, Purpose.LOCAL_RULE)
        return rule.broadcast(BroadcastView(LAYOUT, found, draws, 3, torch.ones(LAYOUT.size), whole, participants))

    kept = DEVIATIONS[[1, 3]].double().square().mean(0)
    for segment in LAYOUT:
        own = kept[segment.slice]
        if segment.trained:
            expected = ((own - own.min()) / (own.max() - own.min())).float()
            torch.testing.assert_close(later(3, 9, 1)[segment.slice], expected, atol=1e-5, rtol=1e-4)
    assert later(9) is whole
    with pytest.raises(ValueError, match=r"matrix = per_round needs what single explorers found.*matrix: once"):
        FedLEx(matrix="per_round", landscape="energy")


def test_permuted_the_values_stay_and_their_places_are_drawn_by_address() -> None:
    usual, other = matrix(FedLEx()), matrix(FedLEx(permuted=True))
    assert torch.equal(other, matrix(FedLEx(permuted=True)))
    assert not torch.equal(other, matrix(FedLEx(permuted=True), seed=1))
    for segment in LAYOUT:
        assert torch.equal(usual[segment.slice].sort().values, other[segment.slice].sort().values)
    weight = LAYOUT["0.weight"].slice
    assert float((usual[weight] == other[weight]).float().mean()) < 0.3
