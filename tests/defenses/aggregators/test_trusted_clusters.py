"""FLTrust, FLAME and FoolsGold by hand: clean data, the majority's cluster, histories."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from shared_rules import layout, step, view
from sizes import sized
from torch import Tensor, nn

from autoflip_secure.algorithm.order_statistics import squared_distances
from autoflip_secure.defenses.aggregators.cosines import cosines, products
from autoflip_secure.defenses.aggregators.flame import FLAME, majority
from autoflip_secure.defenses.aggregators.fltrust import FLTrust
from autoflip_secure.defenses.aggregators.foolsgold import FoolsGold
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.interfaces import Aggregate
from autoflip_secure.models.layout import Layout

ROWS = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 8.0], [-6.0, -8.0, 0.0], [5.0, 0.0, 0.0]])


def trusted(rows: Tensor, root: list[float]) -> Aggregate:
    return FLTrust().aggregate(None, replace(view(rows), root=torch.tensor(root, dtype=torch.float32)))


def test_fltrust_by_hand() -> None:
    """g = (2, 0, 0): cosines .6, 0, -.6, 1; the rows at length 2 are (1.2, 1.6, 0), …, (2, 0, 0)."""
    found = trusted(ROWS, [2, 0, 0])
    assert found.trust.tolist() == pytest.approx([0.375, 0, 0, 0.625])
    assert found.scores is not None
    assert found.scores.tolist() == pytest.approx([0.8, 0.5, 0.2, 1])
    assert found.delta.tolist() == pytest.approx([0.375 * 1.2 + 0.625 * 2, 0.375 * 1.6, 0])
    assert trusted(1e6 * ROWS, [2, 0, 0]).delta.tolist() == pytest.approx(found.delta.tolist()), "however long rows are"
    assert trusted(ROWS, [20, 0, 0]).delta.tolist() == pytest.approx((10 * found.delta).tolist()), "as long as g is"


def test_fltrust_without_its_root_is_no_mean() -> None:
    """A public benchmark ran it as FedAvg since its reference was None."""
    with pytest.raises(LookupError, match="no update of a clean root set"):
        FLTrust().aggregate(None, replace(view(ROWS), root=None))
    absurd = torch.cat([ROWS, torch.tensor([[-1e6, 1e6, 0.0]])])
    apart = trusted(absurd, [2, 0, 0]).delta - step(Mean(), absurd)
    assert float(apart.norm()) > 1e5
    assert torch.allclose(trusted(absurd, [2, 0, 0]).delta, trusted(ROWS, [2, 0, 0]).delta), "it is not trusted at all"


@pytest.mark.parametrize("root", [[0.0, 0, 0], [0, 0, -1], [1e-30, 0, 0]])
def test_where_nobody_points_along_the_root_there_is_no_step(root: list[float]) -> None:
    found = trusted(ROWS, root)
    assert not found.trust.any()
    assert not found.delta.any()


def test_fltrust_scales_what_is_trained_and_averages_what_is_not() -> None:
    normed = Layout.of(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    rows, root = torch.ones(2, normed.size), torch.ones(normed.size)
    rows[1] = 3
    root[~normed.trained] = 50.0
    found = FLTrust().aggregate(None, replace(view(rows, of=normed), root=root))
    assert found.trust.tolist() == pytest.approx([0.5, 0.5])
    assert found.delta[normed.trained].tolist() == pytest.approx([1] * int(normed.trained.sum()))
    assert found.delta[~normed.trained].tolist() == pytest.approx([2] * int((~normed.trained).sum()))


def crowd(distances: np.ndarray) -> list[bool]:
    """The rows that HDBSCAN admits, in closed form: the first component, joined by ever larger distances, of more than
    half of them."""
    n = len(distances)
    for reach in np.unique(distances):
        of = list(range(n))
        for k, j in itertools.combinations(range(n), 2):
            if distances[k, j] <= reach:
                of = [of[k] if each == of[j] else each for each in of]
        largest = max(of, key=of.count)
        if 2 * of.count(largest) > n:
            return [each == largest for each in of]
    raise AssertionError


def test_hdbscan_admits_the_first_crowd_that_is_a_majority() -> None:
    draws, alone = np.random.default_rng(0), 0
    for trial in range(sized(45, 2000)):
        n = int(draws.integers(2, 13))
        rows = draws.normal(size=(n, 4))
        if trial % 3 == 1:  # copies
            rows[: draws.integers(0, n + 1)] = rows[0]
        if trial % 3 == 2:  # ties
            rows = draws.integers(0, 2, size=(n, 4)) + np.eye(4)[0]
        distances = (1 - cosines(products(torch.from_numpy(rows), torch.from_numpy(rows)))).fill_diagonal_(0)
        expected = crowd(distances.numpy())
        assert majority(distances).tolist() == expected
        alone += all(expected)
    assert alone < 0.7 * sized(45, 2000), "the doubt: some are left out"
    assert majority(torch.zeros(1, 1)).tolist() == [True]


def test_flame_clips_to_the_median_of_all_rows_and_not_of_those_admitted() -> None:
    """Norms 1, 2, 3 along one axis are admitted, 10 and 20 across are not; the median of all five is 3, not 2."""
    rows = torch.tensor([[1.0, 0, 0], [2, 0, 0], [3, 0, 0], [0, 10, 0], [0, 0, 20]])
    found = FLAME(noise=0).aggregate(None, view(rows))
    assert found.trust.tolist() == pytest.approx([1 / 3] * 3 + [0, 0])
    assert found.scores is not None
    assert found.scores.tolist() == [1, 1, 1, 0, 0]
    assert found.delta.tolist() == pytest.approx([2, 0, 0])
    longer = rows.clone()
    longer[2] *= 100  # admitted, and clipped to the median, 10
    assert FLAME(noise=0).aggregate(None, view(longer)).delta.tolist() == pytest.approx([(1 + 2 + 10) / 3, 0, 0])


def test_the_noise_of_flame_is_a_share_of_the_median_norm_on_every_live_coordinate() -> None:
    wide = layout(4001)
    rows = 0.5 + torch.randn(5, wide.size, generator=torch.Generator().manual_seed(1))
    seen = replace(view(rows, of=wide), mask=torch.arange(wide.size) >= 1000)
    added = FLAME(noise=0.25).aggregate(None, seen).delta - FLAME(noise=0).aggregate(None, seen).delta
    median = float(rows.norm(dim=1).median())
    assert float(added[1000:].std()) == pytest.approx(0.25 * median, rel=0.05)
    assert not added[:1000].any()


def alphas(histories: list[list[float]], confidence: float = 1.0) -> list[float]:
    """Algorithm 1 of the paper, loop by loop."""
    n = len(histories)

    def cosine(a: list[float], b: list[float]) -> float:
        product = math.fsum(x * y for x, y in zip(a, b, strict=True))
        return product / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))

    alike = [[0.0 if i == j else cosine(histories[i], histories[j]) for j in range(n)] for i in range(n)]
    v = [max(row) for row in alike]
    for i in range(n):
        for j in range(n):
            if v[j] > v[i]:
                alike[i][j] *= v[i] / v[j]
    unlike = [1 - max(row) for row in alike]
    found = []
    for one in unlike:
        share = one / max(unlike)
        alpha = math.inf if share == 1 else confidence * (math.log(share / (1 - share)) + 0.5)
        found.append(min(1.0, max(0.0, alpha)))
    return found


@pytest.mark.parametrize("confidence", [0.5, 1.0, 3.0])
def test_foolsgold_over_rounds_with_part_of_the_clients(confidence: float) -> None:
    """The histories are of everybody seen so far, and the step is of who takes part."""
    draws = torch.Generator().manual_seed(4)
    rule, width = FoolsGold(confidence=confidence), 12
    state, sums = rule.start(layout(width), torch.zeros(width), 8, None), {}
    alike, between = torch.randn(width, generator=draws), 0
    for number in range(sized(20, 60)):
        clients = torch.randperm(8, generator=draws)[:4].sort().values
        rows = torch.randn(4, width, generator=draws)
        rows[clients < 3] += 2 * alike  # sybils, more or less
        before = {k: row.clone() for k, row in state.sums.items()}
        found = rule.aggregate(state, replace(view(rows), clients=clients, round=number + 1))
        assert all(torch.equal(row, before[k]) for k, row in state.sums.items()), "the state before is left as it was"
        for k, row in zip(clients.tolist(), rows, strict=True):
            sums[k] = row.double() + sums.get(k, 0)
        seen = list(sums)
        expected = dict(zip(seen, alphas([sums[k].tolist() for k in seen], confidence), strict=True))
        own = [expected[k] for k in clients.tolist()]
        between += any(0 < alpha < 1 for alpha in own)
        assert found.scores is not None
        assert found.scores.tolist() == pytest.approx(own, abs=1e-5)
        if sum(own):
            assert found.trust.tolist() == pytest.approx([alpha / sum(own) for alpha in own], abs=1e-5)
            assert found.delta.tolist() == pytest.approx((torch.tensor(own) / sum(own) @ rows).tolist(), abs=1e-5)
        state = found.state
    assert between


def first(rows: Tensor) -> Aggregate:
    """The first round of FoolsGold."""
    n, width = rows.shape
    return FoolsGold().aggregate(FoolsGold().start(layout(width), torch.zeros(width), n, None), view(rows))


def test_sybils_lose_their_say_and_who_is_alone_has_all_of_it() -> None:
    honest = torch.eye(4)[:3] + 0.05
    sybils = torch.tensor([[0.0, 0, 0, 5.0], [0, 0, 0, 7.0]])
    found = first(torch.cat([honest, sybils]))
    assert (found.trust[:3] > 0.3).all()
    assert not found.trust[3:].any()
    alone = first(torch.cat([honest, sybils[:1]]))
    assert (alone.trust > 0.2).all(), "one liar is like nobody"


@pytest.mark.parametrize("copies", [2, 5])
def test_where_everybody_has_a_double_there_is_no_step(copies: int) -> None:
    """And rounding does not decide who is the less alike: copies of single precision at any length."""
    row = torch.randn(40, generator=torch.Generator().manual_seed(2))
    rows = torch.stack([row * (0.7 + k) for k in range(copies)])
    found = first(rows)
    assert not found.trust.any()
    assert not found.delta.any()


def test_cosines_keep_their_digits_beside_a_long_row() -> None:
    rows = torch.randn(4, 50, generator=torch.Generator().manual_seed(3))
    long = rows.clone()
    long[0] *= 1e15
    near, far = (cosines(products(one, one)) for one in (rows, long))
    assert torch.allclose(near, far, atol=1e-7)
    unit = torch.nn.functional.normalize(rows.double())
    assert torch.allclose(near, 1 - squared_distances(unit) / 2, atol=1e-6)
