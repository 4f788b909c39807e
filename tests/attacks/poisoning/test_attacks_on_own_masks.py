"""What attackers make of honest rows where clients hold different coordinates: each is a matter of those that hold it.

The oracle goes coordinate by coordinate over plain lists of the honest clients that hold it.
"""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import torch
from attack_cases import ON_ROWS, Case, name
from attacked_cohort import CLIENTS, MALICIOUS, cell, problem, rows
from torch import Tensor

from autoflip_secure.attacks.poisoning.decorrelated import Decorrelated
from autoflip_secure.attacks.poisoning.fang import Fang
from autoflip_secure.attacks.poisoning.hybrid_sparse import HybridSparse
from autoflip_secure.attacks.poisoning.inner_product import InnerProduct
from autoflip_secure.attacks.poisoning.largest_deviation import MinMax
from autoflip_secure.attacks.poisoning.little_is_enough import LittleIsEnough
from autoflip_secure.attacks.poisoning.mask_collusion import MaskCollusion
from autoflip_secure.attacks.poisoning.mimic import Mimic
from autoflip_secure.attacks.poisoning.sign_flip import SignFlip
from autoflip_secure.federation.attacking import attack_updates
from autoflip_secure.interfaces import PublicView

HONEST = [k for k in range(CLIENTS) if k not in MALICIOUS]
LAYOUT = problem().layout


def masks() -> Tensor:
    """Of ten clients: each leaves out three of ten weights; the first 9 weights are held by 0, 1 and 2 honest clients
    in turns, and by all malicious ones."""
    held = torch.rand(CLIENTS, LAYOUT.size, generator=torch.Generator().manual_seed(5)) < 0.7
    held[:, ~LAYOUT.prunable] = True
    held[:, :9] = False
    held[list(MALICIOUS), :9] = True
    for j in range(9):
        held[HONEST[: j % 3], j] = True
    return held


def sent(attack: Any, held: Tensor, number: int = 1) -> tuple[Tensor, Tensor]:
    """Rows as trained under these masks, and as they are sent."""
    if getattr(attack, "clients", ()) is None and attack.scope:
        attack = attack.model_copy(update={"clients": MALICIOUS})
    trained = torch.where(held if held.dim() == 2 else held[None], rows(), 0.0)
    found = attack_updates(cell(attack), trained, torch.arange(CLIENTS), held, number, problem().initial)
    return trained, found.rows


def own_values(trained: Tensor, held: Tensor, j: int) -> list[float]:
    """Of the honest clients that hold a coordinate."""
    return [float(trained[k, j]) for k in HONEST if held[k, j]]


def attacked_places(held: Tensor) -> list[tuple[int, int]]:
    """(client, coordinate) of what malicious clients hold and train."""
    return [(k, j) for k in MALICIOUS for j in range(LAYOUT.size) if held[k, j] and LAYOUT.trained[j]]


def mean_of(values: list[float]) -> float:
    return statistics.fmean(values) if values else 0.0


@pytest.mark.parametrize(("attack", "factor"), [(InnerProduct(epsilon=2), -2), (SignFlip(of="mean", scale=3), -3)])
def test_means_are_over_those_that_hold_a_coordinate(attack: Any, factor: float) -> None:
    held = masks()
    trained, found = sent(attack, held)
    for k, j in attacked_places(held):
        assert float(found[k, j]) == pytest.approx(factor * mean_of(own_values(trained, held, j)), abs=1e-6)
    assert not found[~held].any()
    assert torch.equal(found[HONEST], trained[HONEST])


def test_so_is_the_step_that_they_ask_the_server_for() -> None:
    """ε = h/f cancels the honest clients where all hold a coordinate; where c hold it, ε = c/f would."""
    held = masks()
    count = held[HONEST].sum(0)
    few = int(count[LAYOUT.prunable & (count > 2) & held[list(MALICIOUS)].all(0)].min())
    assert few < len(HONEST)
    _, found = sent(InnerProduct(epsilon=few / len(MALICIOUS)), held)
    ones = torch.ones(CLIENTS)
    view = PublicView(
        round=1, clients=torch.arange(CLIENTS), samples=ones, weights=problem().initial, mask=held.any(0),
        guidance=None, layout=LAYOUT, shrinkage=0 * ones, masks=held,
    )  # fmt: skip
    step = view.coverage_mean(found.mean(0), ones)
    here = (count == few) & held[list(MALICIOUS)].all(0) & LAYOUT.trained
    assert bool(here.any())
    assert float(step[here].abs().max()) < 1e-6


def test_deviations_are_over_those_that_hold_a_coordinate() -> None:
    held = masks()
    trained, found = sent(LittleIsEnough(z=1.5), held)
    for k, j in attacked_places(held):
        values = own_values(trained, held, j)
        s = statistics.stdev(values) if len(values) > 1 else 0.0
        assert float(found[k, j]) == pytest.approx(mean_of(values) - 1.5 * s, abs=1e-6)


def test_extremes_and_quartiles_are_of_those_that_hold_a_coordinate() -> None:
    held = masks()
    trained, beyond = sent(Fang(b=1), held)  # the extreme itself
    _, capped = sent(HybridSparse(sensitive=1.0, aggressive=1e5, z=0), held)
    for k, j in attacked_places(held):
        values = own_values(trained, held, j)
        mean = mean_of(values)
        extreme = max(values, default=0) if mean < 0 else min(values, default=0)
        assert float(beyond[k, j]) == pytest.approx(extreme, abs=1e-6)
        low, high = (
            statistics.quantiles(values, method="inclusive")[::2] if len(values) > 1 else (values or [0.0])[:1] * 2
        )
        fence = low - 1.5 * (high - low)
        assert float(capped[k, j]) == pytest.approx(fence, abs=1e-5)


def test_min_max_is_as_far_from_rows_of_holders_as_two_of_them_are() -> None:
    held = masks()
    trained, found = sent(MinMax(), held)
    for who in MALICIOUS:
        own = held[who] & LAYOUT.trained
        places, completed = own.nonzero().squeeze(1).tolist(), torch.zeros(len(HONEST), int(own.sum())).double()
        for row, k in zip(completed, HONEST, strict=True):
            for number, j in enumerate(places):
                row[number] = float(trained[k, j]) if held[k, j] else mean_of(own_values(trained, held, j))
        furthest = (completed - found[who][own].double()).norm(dim=1).max()
        assert float(furthest) == pytest.approx(float(torch.cdist(completed, completed).max()), rel=1e-4)


def test_a_copy_has_what_is_neutral_where_the_copied_client_holds_nothing() -> None:
    held = masks()
    trained, found = sent(Mimic(index=0), held)
    for k, j in attacked_places(held):
        expected = float(trained[0, j]) if held[0, j] else mean_of(own_values(trained, held, j))
        assert float(found[k, j]) == pytest.approx(expected, abs=1e-6)


def test_what_is_cancelled_is_what_was_sent() -> None:
    held = masks()
    trained, found = sent(MaskCollusion(share=1.0), held)
    for k, j in attacked_places(held):
        if any(segment.start <= j < segment.stop for segment in LAYOUT.hidden):
            total = sum(own_values(trained, held, j))
            assert float(found[k, j]) == pytest.approx(-total / len(MALICIOUS), abs=1e-6)


BY_ROWS = [
    one
    for one in ON_ROWS
    if one.attack.threat_card.knowledge != "defence"  # refused there
    and not isinstance(one.attack, Decorrelated)  # whose memory is each client's there
]


@pytest.mark.parametrize("case", BY_ROWS, ids=name)
def test_where_all_hold_the_same_it_is_what_it_is_under_one_mask(case: Case) -> None:
    one = torch.rand(LAYOUT.size, generator=torch.Generator().manual_seed(3)) < 0.7
    _, alone = sent(case.attack, one.expand(CLIENTS, -1), case.round)
    _, together = sent(case.attack, one, case.round)
    assert torch.equal(alone.nan_to_num(7.5), together.nan_to_num(7.5))


def test_a_diverged_honest_row_counts_for_no_coordinate() -> None:
    held, attack = masks(), InnerProduct(epsilon=1, clients=MALICIOUS)
    trained = torch.where(held, rows(), 0.0)
    trained[0] = torch.nan
    found = attack_updates(cell(attack), trained, torch.arange(CLIENTS), held, 1, problem().initial).rows
    for k, j in attacked_places(held):
        values = [float(trained[i, j]) for i in HONEST[1:] if held[i, j]]
        assert float(found[k, j]) == pytest.approx(-mean_of(values), abs=1e-6)
