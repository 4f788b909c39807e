"""Guidance of rounds (``guidance.matrix: per_round``): the map and mask of each by hand, what it costs, who lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from digits_cells import AUTOFLIP, PLUS, PROBLEM, cell, run
from seen_rounds import Seen, watched
from sizes import every
from torch import Tensor

from autoflip_secure.algorithm.exploration import ExplorationConfig, explore
from autoflip_secure.algorithm.guidance import GuidanceConfig, evolve
from autoflip_secure.attacks.poisoning.landscape_lie import LandscapeLie
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import client_jobs
from autoflip_secure.models.costs import round_bytes
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.training import choose_trainer

OF_ROUNDS = GuidanceConfig(matrix="per_round", normalisation="minmax")
THEIRS = {
    "pruner": ThresholdMask(threshold=0.05, refine_every=None, rescaling="none"),
    "aggregator": Mean(),
    "guidance": OF_ROUNDS,
    "exploration": ExplorationConfig(epochs=2, method="plain"),
}
LAYOUT = PROBLEM.layout


def deviations(one: Cell) -> Tensor:
    """What each client finds before round 1."""
    everywhere, clients = torch.ones(LAYOUT.size, dtype=torch.bool), one.explorers
    jobs = client_jobs(one, PROBLEM.initial, everywhere, clients, 0)
    trainer = choose_trainer(PROBLEM.module, LAYOUT, PROBLEM.x_train[:1])
    schedule = one.protocol.exploration.schedule(one.protocol.training)
    return trainer.train(PROBLEM.module, LAYOUT, PROBLEM.x_train, jobs, schedule).updates


def by_hand(rows: Tensor, threshold: float) -> np.ndarray:
    """[G >= T_p] of the mean of squared deviations, from its least to its largest in each hidden tensor."""
    mean, mask = rows.numpy().astype(np.float64).__pow__(2).mean(0), np.ones(LAYOUT.size, dtype=bool)
    for segment in LAYOUT.hidden:
        own = mean[segment.slice]
        mask[segment.slice] = (own - own.min()) / (own.max() - own.min()) >= threshold
    return mask


def test_mask_of_each_round_is_that_of_the_cohort_before_it_by_hand() -> None:
    one = cell(rounds=4, **THEIRS)
    record, seen = watched(one)
    rows = deviations(one)
    assert PROBLEM.units is not None
    for number, before in enumerate(seen.before):
        who = record.rounds[number - 1].participants if number else range(10)
        wanted = PROBLEM.units.close(torch.from_numpy(by_hand(rows[list(who)], 0.05)), LAYOUT)
        assert torch.equal(before.mask, wanted), number
    assert any(bool((later.mask & ~sooner.mask).any()) for sooner, later in _pairs(seen)), "weights may come back"
    left, goes_on = seen.states[1], seen.before[1]
    assert torch.equal(goes_on.weights, left.weights * goes_on.mask)
    assert record.pipeline[0] == "draw guidance and mask anew, from what the last round's cohort explored"
    assert "evolve parameter agreement" in record.pipeline
    assert torch.equal(seen.states[-1].mask, seen.before[-1].mask), "what is tested is what was trained"


def _pairs(seen: Seen) -> list[tuple[Any, Any]]:
    return list(zip(seen.before, seen.before[1:], strict=False))


def test_parameter_agreement_evolves_as_ever() -> None:
    one = cell(rounds=3, **THEIRS)
    record, seen = watched(one)
    guidance = seen.before[0].guidance
    for before, sent, entry in zip(seen.before, seen.sent, record.rounds, strict=True):
        assert guidance is not None
        assert before.guidance is not None
        assert torch.equal(before.guidance.parameter_agreement, guidance.parameter_agreement)
        guidance = evolve(before.guidance, sent, torch.tensor(entry.trust), 0.1)


def test_a_cohort_of_no_explorers_leaves_all_as_it_is_and_robust_maps_are_those_of_the_explorers_in_it() -> None:
    few = ExplorationConfig(epochs=2, explorers=2)
    one = cell(rounds=6, cohort=2, **THEIRS | {"exploration": few})
    record, seen = watched(one)
    explorers, rows = one.explorers.tolist(), deviations(one)
    kinds = set()
    for entry, before, after in zip(record.rounds, seen.before, seen.before[1:], strict=False):
        here = [number for number, k in enumerate(explorers) if k in entry.participants]
        kinds.add(bool(here))
        assert before.guidance is not None
        assert after.guidance is not None
        if here:
            clients = torch.tensor(explorers)[here]
            found = explore(clients, one.owned(clients), rows[here], "robust", [])
            torch.testing.assert_close(after.guidance.energy, found.energy, rtol=1e-5, atol=1e-12)
        else:
            assert torch.equal(after.mask, before.mask)
    assert kinds == {True, False}


def test_who_takes_part_is_sent_the_mask_of_the_round() -> None:
    record, seen = watched(cell(rounds=4, **THEIRS))
    known = dict.fromkeys(range(10), str(seen.before[0].mask.tolist()))
    for entry, before in zip(record.rounds, seen.before, strict=True):
        name = str(before.mask.tolist())
        new = [k for k in entry.participants if known[k] != name]
        known |= dict.fromkeys(entry.participants, name)
        own, one = round_bytes(before.mask, LAYOUT, len(entry.participants)), round_bytes(before.mask, LAYOUT, 1)
        assert entry.bytes.downlink_values == own.downlink_values + len(new) * (
            one.downlink_bitmask - one.downlink_values
        )
        assert entry.bytes.uplink_values == own.uplink_values


def test_liars_make_the_masks_of_rounds_in_which_they_take_part() -> None:
    lie = {**THEIRS, "attack": LandscapeLie(scope=0.2)}
    (honest, true), (lied, false) = watched(cell(rounds=6, **THEIRS)), watched(cell(rounds=6, **lie))
    for entry, one, other in zip(lied.rounds, true.before[1:], false.before[1:], strict=False):
        assert torch.equal(one.mask, other.mask) == (not any(entry.malicious))
    assert any(any(entry.malicious) for entry in lied.rounds[:-1])
    assert honest.rounds[0].participants == lied.rounds[0].participants


@pytest.mark.parametrize("algorithm", every(3, [PLUS, AUTOFLIP, {k: THEIRS[k] for k in ("pruner", "aggregator")}]))
def test_the_same_numbers_alone_and_in_a_block(algorithm: dict[str, Any]) -> None:
    mine = {"rounds": 5, "guidance": GuidanceConfig(matrix="per_round"), **algorithm}
    alone = run(cell(**mine))[0]
    others = [cell("a", seed=1, rounds=5), cell("b", rounds=5, **AUTOFLIP)]
    assert run(*others, cell(**mine))[-1].numbers() == alone.numbers()
    assert alone.numbers() != run(cell(**mine | {"guidance": GuidanceConfig()}))[0].numbers()


def test_where_nothing_is_guided_the_key_changes_nothing() -> None:
    plain, other = (run(cell(rounds=3, guidance=GuidanceConfig(matrix=m)))[0] for m in ("once", "per_round"))
    assert plain.numbers() == other.numbers()
    assert plain.pipeline == other.pipeline
