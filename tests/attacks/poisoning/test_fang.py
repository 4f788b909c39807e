"""Fang's attacks against the equations written out by hand, and against the rules that they are made for."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from attacked_cohort import MALICIOUS, attacked, rows
from hypothesis import given, settings
from sizes import sized
from torch import Tensor

from autoflip_secure.attacks.poisoning.fang import Fang
from autoflip_secure.attacks.poisoning.inner_product import InnerProduct
from autoflip_secure.defenses.aggregators.krum import Krum, krum_scores
from autoflip_secure.defenses.aggregators.median import Median, TrimmedMean
from autoflip_secure.interfaces import Channel
from autoflip_secure.seeds import Purpose, generator

CHANNEL = Channel("x", 3, "rows")


def test_intervals_by_hand() -> None:
    """max above 0 and below, min above 0 and below, and a mean of 0."""
    honest = torch.tensor([[-8.0, -4, 1, -2, 1], [2, -2, 3, 8, -1]])
    assert honest.mean(0).sign().tolist() == [-1, -1, 1, 1, 0]
    least, largest = Fang(b=4).interval(honest)
    assert least.tolist() == [2, -2, 0.25, -8, 0]
    assert largest.tolist() == [8, -0.5, 1, -2, 0]


def test_every_malicious_client_draws_for_itself_and_evenly() -> None:
    cohort = torch.full((4, 20_000), 1.0)
    cohort[1] = 3
    malicious = torch.tensor([False, False, True, True])
    draws = [torch.Generator().manual_seed(k) for k in range(4)]
    found = Fang().channel(CHANNEL, cohort, malicious, draws)
    assert torch.equal(found[:2], cohort[:2])
    assert not torch.equal(found[2], found[3])
    for row in found[2:]:
        assert 0.5 <= float(row.min()) <= float(row.max()) <= 1
        assert float(row.mean()) == pytest.approx(0.75, abs=0.01)
        assert float(row.std()) == pytest.approx(0.5 / math.sqrt(12), rel=0.02)


def test_draws_are_those_of_each_client_s_own_address() -> None:
    found = attacked(Fang(), 4)
    least, largest = Fang().interval(found.honest)
    for lie, client in zip(found.lies, MALICIOUS, strict=True):
        drawn = torch.rand(len(lie), generator=generator(0, Purpose.UPDATE_ATTACK, 4, client))
        assert torch.allclose(lie, torch.where(found.active, least + drawn * (largest - least), 0.0), atol=1e-6)


def scores(everybody: list[list[float]], held: int) -> list[float]:
    """Krum, as it is written."""
    found = []
    for k, own in enumerate(everybody):
        apart = sorted(
            sum((a - b) ** 2 for a, b in zip(own, other, strict=True)) for other in everybody[:k] + everybody[k + 1 :]
        )
        found.append(sum(apart[:held]))
    return found


ROWS = hnp.arrays(np.float64, st.tuples(st.integers(2, 6), st.integers(1, 4)), elements=st.integers(-9, 9))


@given(ROWS, st.integers(1, 4), st.sampled_from(["n-f-1", "n-f-2"]))
@settings(max_examples=sized(30, 200))
def test_the_length_is_the_largest_of_the_halves_that_krum_picks(values: np.ndarray, f: int, neighbours: str) -> None:
    honest, attack = torch.from_numpy(values), Fang(against="krum", neighbours=neighbours, halvings=8)
    h, n = len(values), len(values) + f
    held = max(n - f - (1 if neighbours == "n-f-1" else 2), 1)
    direction = np.sign(values.mean(0))
    d = max(int(np.abs(direction).sum()), 1)
    near = min(scores([[*row] for row in values.tolist()], held))
    bound = math.sqrt(near / (max(h - f - 1, 1) * d)) + max(np.linalg.norm(row) for row in values) / math.sqrt(d)
    assert attack.bound(honest, f) == pytest.approx(bound, abs=1e-9)
    expected, picked = bound / 2**7, False
    for halved in range(8):
        lie = (-bound / 2**halved * direction).tolist()
        found = scores([*values.tolist(), *([lie] * f)], held)
        margin = min(found[:h]) - found[h]
        if abs(margin) < 1e-6:  # a tie, which the last digits decide
            return
        if margin > 0:
            expected, picked = bound / 2**halved, True
            break
    assert attack.length(honest, f) == (pytest.approx(expected), picked)


def test_krum_takes_it_and_twice_as_long_a_row_it_does_not() -> None:
    cohort = 3 * rows()
    found = attacked(Fang(against="krum"), 1, cohort, aggregator=Krum(bad_share=0.3))
    trust = found.knows.trial(found.sent).trust
    assert float(trust[[2, 5, 7]].sum()) == 1
    longer = torch.where(found.cell.malicious_clients[:, None], 2 * found.sent, found.sent)
    assert float(found.knows.trial(longer).trust[[2, 5, 7]].sum()) == 0
    assert found.attacked.events == ()


def test_where_krum_picks_none_the_shortest_is_sent_and_told() -> None:
    """Honest rows that are all alike have distance 0 from each other, which no other row has."""
    alike = rows()[:1].expand(10, -1).clone()
    found = attacked(Fang(against="krum", halvings=5), 1, alike)
    assert found.attacked.events == ("attack fang: Krum picks none of 5 rows in some rounds",)
    honest = found.honest
    expected = -Fang(against="krum").bound(honest, 3) / 16 * honest.mean(0).sign()
    assert torch.allclose(found.lies[0], expected)
    assert int(krum_scores(torch.where(found.active, found.sent, 0.0), 3).argmin()) == 0


@pytest.mark.parametrize("rule", [TrimmedMean(bad_share=0.3), Median()])
def test_it_costs_rules_by_coordinate_more_than_a_plain_reversal_does(rule: TrimmedMean | Median) -> None:
    def progress(attack: Fang | InnerProduct) -> float:
        found = attacked(attack, 1, aggregator=rule)
        step: Tensor = found.knows.trial(found.sent).delta
        return float(torch.where(found.active, step, 0.0) @ found.honest.mean(0))

    assert progress(Fang()) <= progress(InnerProduct(epsilon=0.5)) + 1e-6
    honest = attacked(Fang()).honest.mean(0)
    assert progress(Fang()) < 0.8 * float(honest @ honest)
