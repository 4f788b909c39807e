"""Collusion on masks against what agreement comes to by hand, and against the mask that follows it."""

from __future__ import annotations

import math

import pytest
import torch
from attacked_cohort import Round, attacked, problem, rows
from torch import Tensor

from autoflip_secure.algorithm.guidance import evolve
from autoflip_secure.attacks.poisoning.mask_collusion import MaskCollusion
from autoflip_secure.interfaces import Guidance
from autoflip_secure.pruning.threshold import refinement


def chosen(found: Round, share: float, largest: bool) -> Tensor:
    """S by hand: sorted by |w mu|, tensor by tensor."""
    marked = torch.zeros_like(found.active)
    sensitivity = (problem().initial * found.honest.mean(0)).abs().tolist()
    for segment in problem().layout.hidden:
        live = [j for j in range(segment.start, segment.stop) if found.active[j]]
        live.sort(key=lambda j: sensitivity[j], reverse=largest)
        for j in live[: math.ceil(share * len(live))]:
            marked[j] = True
    return marked


def agreement(sent: Tensor) -> Tensor:
    return sent.sum(0).abs() / sent.abs().sum(0)


@pytest.mark.parametrize("does", ["cancel", "agree"])
def test_agreement_on_the_chosen_weights_is_what_they_want_and_elsewhere_they_are_honest(does: str) -> None:
    mask = torch.rand(problem().layout.size, generator=torch.Generator().manual_seed(3)) < 0.7
    found = attacked(MaskCollusion(does=does, share=0.3), 1, rows(), mask)
    here = chosen(found, 0.3, does == "cancel")
    assert 10 < int(here.sum()) < int(problem().layout.prunable.sum())
    of_honest, of_all = agreement(found.honest)[here], agreement(found.sent)[here]
    assert torch.allclose(of_all, torch.zeros_like(of_all) if does == "cancel" else (1 + of_honest) / 2, atol=1e-5)
    assert torch.equal(found.sent[:, ~here], torch.where(mask, found.trained, 0.0)[:, ~here])


def test_the_weights_are_chosen_once() -> None:
    first = attacked(MaskCollusion(), 1)
    later = attacked(MaskCollusion(), 2, rows(seed=4), memory=first.attacked.memory)
    there = (later.sent != later.trained).any(0)
    assert torch.equal(there, (first.sent != first.trained).any(0))
    assert not torch.equal(there, chosen(later, 0.1, True))


@pytest.mark.parametrize(("does", "sign"), [("cancel", -1), ("agree", 1)])
def test_a_mask_refined_by_agreement_loses_or_keeps_them(does: str, sign: int) -> None:
    """Against the same rounds without an attack, by the number that the refinement compares with its threshold."""
    attack, memory = MaskCollusion(does=does), None
    layout, even = problem().layout, torch.full((10,), 0.1)
    lied = calm = Guidance(torch.ones(layout.size), torch.ones(layout.size))
    for number in range(1, 21):
        found = attacked(attack, number, rows(seed=number), memory=memory)
        memory = found.attacked.memory
        lied, calm = evolve(lied, found.sent, even, 0.1), evolve(calm, found.trained, even, 0.1)
    assert memory is not None
    [here] = memory.of.values()
    mask = torch.ones_like(here)
    between = (refinement(lied, layout, mask, "rank") / refinement(calm, layout, mask, "rank").clamp_min(1e-9))[here]
    assert sign * (float(between.median()) - 1) > 0.1
