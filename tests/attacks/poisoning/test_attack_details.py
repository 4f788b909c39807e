"""What single attacks promise beyond the table of all: prices, searches, memories, formulas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from attacked_cohort import MALICIOUS, Round, attacked, problem, rows
from torch import Tensor

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.attacks.poisoning.faults import Fault
from autoflip_secure.attacks.poisoning.hybrid_sparse import HybridSparse
from autoflip_secure.attacks.poisoning.landscape_lie import LandscapeLie
from autoflip_secure.attacks.poisoning.largest_deviation import MinMax, MinSum
from autoflip_secure.attacks.poisoning.lie_samples import LieSamples
from autoflip_secure.attacks.poisoning.little_is_enough import LittleIsEnough
from autoflip_secure.attacks.poisoning.mimic import Mimic
from autoflip_secure.attacks.poisoning.score_evasion import ScoreEvasion
from autoflip_secure.attacks.poisoning.searched import (
    GreedyOracle,
    OptimisedLittle,
    maximise,
)
from autoflip_secure.defenses.aggregators.median import TrimmedMean
from autoflip_secure.interfaces import AttackView, RowAttack, SampleAttack, Threat


def test_stealth_keeps_scores_high_at_a_price() -> None:
    free, hidden = (attacked(GreedyOracle(stealth=one), 1, aggregator=AgreementWeighted()) for one in (None, 0.9))

    def scores(one: Round) -> Tensor:
        found: Tensor = one.knows.trial(one.sent).scores
        return found[list(MALICIOUS)]

    assert (scores(hidden) >= 0.9).all()
    mean = free.honest.mean(0)
    assert float(free.knows.trial(free.sent).delta @ mean) <= float(hidden.knows.trial(hidden.sent).delta @ mean)


def test_a_search_finds_at_least_what_a_grid_does() -> None:
    """Against a trimmed mean, on which a search upwards from 0 that stops at the first loss finds nothing."""
    bumpy = {t / 100: -((t / 100 - 2.13) ** 2) for t in range(5, 2000)}
    assert maximise(lambda t: -((t - 2.13) ** 2), 0.05, 20, 20) == pytest.approx(2.13, rel=0.05)
    assert max(bumpy, key=bumpy.__getitem__) == pytest.approx(2.13)
    found = attacked(OptimisedLittle(), 1, aggregator=TrimmedMean(bad_share=0.3))
    fixed = attacked(LittleIsEnough(z=0.0), 1, aggregator=TrimmedMean(bad_share=0.3))

    def harm(one: Round) -> float:
        ordered = torch.where(one.active, one.sent, 0.0).sort(0).values[3:-3]
        return float((ordered.mean(0) - one.honest.mean(0)).norm())

    assert harm(found) > harm(fixed)


def test_greedy_is_no_better_for_the_server_than_any_of_its_family() -> None:
    found = attacked(GreedyOracle(), 1, aggregator=TrimmedMean(bad_share=0.3))

    def progress(one: Round) -> float:
        ordered = torch.where(one.active, one.sent, 0.0).sort(0).values[3:-3]
        return float(ordered.mean(0) @ one.honest.mean(0))

    for other in (MinMax(), MinSum(), ScoreEvasion(), LittleIsEnough(), Fault()):
        assert progress(found) <= progress(attacked(other, 1, aggregator=TrimmedMean(bad_share=0.3))) + 1e-6


def test_a_free_rider_sends_the_last_step_that_it_saw() -> None:
    first = attacked(Fault(sends="free_rider"), 1)
    assert first.attacked.memory is not None
    moved = {key: (1, weights - 0.5) for key, (_, weights) in first.attacked.memory.of.items()}
    again = attacked(Fault(sends="free_rider"), 3, memory=replace(first.attacked.memory, of=moved))
    assert torch.allclose(again.lies[:, again.active], torch.tensor(0.25))


def test_a_mimic_keeps_its_direction_after_the_warm_up() -> None:
    first = attacked(Mimic(warmup=1), 1)
    assert first.attacked.memory is not None
    [(seen, v)] = first.attacked.memory.of.values()
    assert seen == 1
    later = attacked(Mimic(warmup=1), 2, rows(seed=9), memory=first.attacked.memory)
    assert later.attacked.memory is not None
    [(_, kept)] = later.attacked.memory.of.values()
    assert torch.equal(v, kept)
    centred = later.honest - later.honest.mean(0)
    assert torch.equal(later.lies[0], later.honest[int((centred @ v).abs().argmax())])


def test_the_z_of_the_formula_is_told() -> None:
    found = attacked(LittleIsEnough(z=None), 1).attacked
    assert found.events == ("attack alie: z = 0.180 with 7 honest and 3 malicious clients",)
    again = attacked(LittleIsEnough(z=None), 2, memory=found.memory).attacked
    assert again.events == ()


def test_a_lie_about_the_landscape_is_as_large_as_is_believed() -> None:
    found = attacked(LandscapeLie(lie="spike"), 0)
    share = float(found.attacked.events[0].rpartition("= ")[2])
    assert "attack landscape_lie: spike: a = " in found.attacked.events[0]
    assert 0 < share <= 1


class Everywhere(RowAttack):
    """Says that it changes updates, and returns other running statistics too."""

    kind: str = "everywhere"
    threat: ClassVar[Threat] = Threat("rows", ("update",))

    def act(self, view: AttackView) -> tuple[Tensor, Any]:
        """One everywhere."""
        return torch.ones_like(view.updates), None


def test_what_a_card_does_not_name_stays_as_trained() -> None:
    found, trained = attacked(Everywhere()), problem().layout.trained
    assert (found.sent[2, trained] == 1).all()
    assert torch.equal(found.sent[2, ~trained], found.trained[2, ~trained])
    assert torch.equal(found.sent[3], found.trained[3])


def test_the_sparse_part_of_the_hybrid_attack_is_aggressive_and_inside_the_fences() -> None:
    attack = HybridSparse(sensitive=0.1, z=0.2)
    found = attacked(attack)
    mean, s, w = found.honest.mean(0), found.honest.std(0), problem().initial
    apart = (mean - found.lies[0]) / s.clamp_min(1e-12)
    for segment in problem().layout:
        if not segment.trained:
            continue
        count = -(-(segment.stop - segment.start) // 10)  # rounded up
        chosen = (w * mean)[segment.slice].abs().topk(count).indices + segment.start
        rest = torch.ones(len(w), dtype=torch.bool)
        rest[chosen] = False
        rest = rest & found.active & problem().layout.where(segment)
        assert torch.allclose(apart[rest], torch.tensor(0.2), atol=1e-3)
        low, high = torch.quantile(found.honest[:, chosen], torch.tensor([0.25, 0.75]), dim=0)
        assert torch.allclose(found.lies[0, chosen], torch.maximum(low - 1.5 * (high - low), (mean - 20 * s)[chosen]))
        assert (apart[chosen] > 0.2).all()


def test_an_attack_on_counts_is_no_attack_on_rows() -> None:
    assert not isinstance(LieSamples(), RowAttack)
    assert isinstance(LieSamples(), SampleAttack)
