"""Masks: thresholds, budgets, rescaling and randomness, each against its definition."""

from __future__ import annotations

from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.algorithm.guidance import initial_guidance, normalise
from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.interfaces import Guidance, Pruner, PruneView
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.layout import Layout
from autoflip_secure.pruning.budget import BudgetMask, kept_counts, unit_guidance
from autoflip_secure.pruning.none import NoPruning
from autoflip_secure.pruning.random import RandomUnits, RandomWeights
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.seeds import Purpose, generator


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 4))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(192, 4),
    )


def view(module: nn.Module, seed: int = 0, round_: int = 0, explorers: int = 6) -> PruneView:
    layout = Layout.of(module)
    draw = torch.Generator().manual_seed(seed)
    scale = torch.rand(layout.size, generator=draw) ** 3
    deviations = scale * torch.randn(explorers, layout.size, generator=draw)
    exploration = explore(torch.arange(explorers), torch.ones(explorers), deviations, "robust", [[0.0]] * explorers)
    return PruneView(
        layout=layout,
        units=Chain.of(module, torch.zeros(1, 1, 4, 4)),
        weights=torch.randn(layout.size, generator=draw),
        mask=torch.ones(layout.size, dtype=torch.bool),
        exploration=exploration,
        guidance=initial_guidance(exploration),
        round=round_,
        rounds=60,
        generator=partial(generator, seed, Purpose.PRUNING),
    )


def pruned(pruner: Pruner, seen: PruneView) -> tuple[Tensor, Tensor]:
    mask = pruner.mask(seen)
    return mask, pruner.rescale(seen.weights, seen.mask, mask, seen)


ALL: list[Pruner] = [NoPruning(), ThresholdMask(), BudgetMask(), RandomWeights(), RandomUnits()]


@pytest.mark.parametrize("make", [mlp, cnn], ids=["mlp", "cnn"])
@pytest.mark.parametrize("pruner", ALL, ids=lambda p: p.kind)
@given(seed=st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_every_pruner_shrinks_zeroes_and_repeats_itself(pruner: Pruner, make: object, seed: int) -> None:
    seen = view(make(), seed)  # type: ignore[operator]
    mask, weights = pruned(pruner, seen)
    assert torch.equal(mask, pruner.mask(seen))
    assert (mask <= seen.mask).all()
    assert not weights[~mask].any()
    output = [s for s in seen.layout if s.output and s.kind == "bias"]
    assert all(mask[s.slice].all() for s in output)  # no class is ever lost
    assert torch.equal(seen.units.close(mask, seen.layout), mask)


def test_threshold_mask_is_guidance_at_least_t_p_with_exemptions() -> None:
    seen = view(cnn())
    mask = ThresholdMask(threshold=0.3).mask(seen)
    guidance = normalise(seen.guidance.energy, seen.layout)  # type: ignore[union-attr]
    first, second = (s for s in seen.layout if s.kind == "weight" and len(s.shape) == 4)
    assert torch.equal(mask[second.slice], guidance[second.slice] >= 0.3)
    assert mask[first.slice].all()
    assert 0.1 < float(mask[second.slice].float().mean()) < 0.9


@given(a=st.floats(0, 0.9), b=st.floats(0, 0.9), seed=st.integers(0, 50))
@settings(max_examples=15, deadline=None)
def test_threshold_mask_is_monotone_in_t_p(a: float, b: float, seed: int) -> None:
    seen = view(mlp(), seed)
    loose, strict = (ThresholdMask(threshold=t).mask(seen) for t in sorted((a, b)))
    assert (strict <= loose).all()


def test_rescaling_keeps_the_norm_of_every_tensor() -> None:
    seen = view(mlp())
    _, weights = pruned(ThresholdMask(), seen)
    for segment in seen.layout.hidden:
        assert float(weights[segment.slice].norm()) == pytest.approx(
            float(seen.weights[segment.slice].norm()), rel=1e-5
        )
    _, unscaled = pruned(ThresholdMask(rescaling="none"), seen)
    assert float(unscaled[seen.layout.hidden[0].slice].norm()) < float(weights[seen.layout.hidden[0].slice].norm())


def test_later_pruning_follows_parameter_agreement_and_its_timetable() -> None:
    seen = view(mlp())
    initial = ThresholdMask().mask(seen)
    agreement = torch.ones(seen.layout.size)
    segment = seen.layout.hidden[0]
    energy = seen.guidance.energy  # type: ignore[union-attr]
    strongest = int(energy[segment.slice].argmax())
    weak = (energy[segment.slice] * initial[segment.slice]).argsort(descending=True)[5]
    agreement[segment.start + weak] = 1e-3  # important, but clients pull it apart
    agreement[segment.start + strongest] = 0.9

    def refined(round_: int) -> Tensor:
        fields = {"mask": initial, "guidance": Guidance(energy, agreement), "round": round_}
        return ThresholdMask().mask(PruneView(**{**seen.__dict__, **fields}))

    assert not refined(5)[segment.start + weak]
    assert refined(5)[segment.start + strongest]
    assert torch.equal(refined(4), initial)
    assert torch.equal(refined(35), initial)  # second half


def test_growth_gives_back_a_share_of_the_cut_to_the_best_of_the_long_dead() -> None:
    seen = view(mlp())
    assert seen.exploration is not None
    assert seen.guidance is not None
    initial = ThresholdMask().mask(seen)
    agreement = torch.full((seen.layout.size,), 1.0)
    first = seen.layout.hidden[0]
    live = initial[first.slice].nonzero().squeeze(1)
    agreement[first.start + live[::2]] = 1e-3
    fields = {"mask": initial, "guidance": Guidance(seen.guidance.energy, agreement), "round": 5}
    later = PruneView(**{**seen.__dict__, **fields})
    without, half = ThresholdMask().mask(later), ThresholdMask(growth=0.5).mask(later)
    cut = int((initial & ~without)[first.slice].sum())
    back = (half & ~without)[first.slice].nonzero().squeeze(1)
    assert cut > 10
    assert len(back) == cut // 2
    assert not initial[first.start + back].any()  # not the ones that were cut just now
    allowed = ~initial & seen.units.keep_units(seen.units.live_units(without, seen.layout), seen.layout)
    dead = seen.exploration.energy[first.slice] * allowed[first.slice]
    assert set(back.tolist()) == set(dead.argsort(descending=True)[: cut // 2].tolist())
    assert not (half & ~initial)[~seen.layout.prunable].any()  # dead units stay dead


def test_budget_is_met_by_the_compacted_model_and_not_by_much_less() -> None:
    for make in (mlp, cnn):
        seen = view(make())
        for threshold in (0.1, 0.3, 0.5):
            chain = seen.units
            widths = [layer.units for layer in chain.layers]
            counts = kept_counts(chain, seen.layout, threshold, 2.1)
            budget = (1 - threshold) ** 2.1 * chain.scaled_macs(widths)
            assert chain.scaled_macs(counts) <= budget
            assert chain.scaled_macs(counts) > 0.75 * budget
            live = chain.live_units(BudgetMask(threshold=threshold).mask(seen), seen.layout)
            assert all(int(units.sum()) <= count for units, count in zip(live, counts, strict=True))


def test_size_budget_counts_live_parameters() -> None:
    seen = view(mlp())
    live = int(BudgetMask().mask(seen).sum())
    assert live == pytest.approx(0.7**3.1 * seen.layout.size, rel=0.12)


def test_typical_units_stay_idle_and_dominating_units_go() -> None:
    module = mlp()
    seen = view(module)
    chain, layout = seen.units, seen.layout
    deviations = torch.ones(3, layout.size)
    first = layout[chain.layers[0].weight]
    rows = deviations[:, first.slice].view(3, 24, 16)
    rows[:, 0] *= 1e-3  # idle
    rows[:, 1] *= 1e3  # dominating
    exploration = explore(torch.arange(3), torch.ones(3), deviations, "robust", [[0.0]] * 3)
    scores = unit_guidance(chain, layout, exploration)[0]
    assert set(scores.argsort()[:2].tolist()) == {0, 1}
    mask = BudgetMask().mask(PruneView(**{**seen.__dict__, "exploration": exploration}))
    assert not chain.live_units(mask, layout)[0][:2].any()


def test_unit_scores_by_hand() -> None:
    seen = view(mlp(), seed=5)
    assert seen.exploration is not None
    kept = seen.exploration.deviations[seen.exploration.kept].double()
    w1, w2 = (seen.layout[layer.weight] for layer in seen.units.layers[:2])
    x = []
    for unit in range(24):
        total = 0.0
        for d in kept:
            e = d.square() / d.square().sum()
            incoming = e[w1.slice].view(24, 16)[unit].mean()
            outgoing = e[w2.slice].view(12, 24)[:, unit].mean()
            total += float(incoming * outgoing) ** 0.25
        x.append(total / len(kept) + 1e-9)
    middle = sorted(x)[11]
    expected = [min(v / middle, middle / v) for v in x]
    assert unit_guidance(seen.units, seen.layout, seen.exploration)[0].tolist() == pytest.approx(expected, rel=1e-4)


def test_units_keep_their_norm_up_to_the_limit() -> None:
    seen = view(mlp())
    mask, weights = pruned(BudgetMask(), seen)
    segment = seen.layout.hidden[0]
    before, after = (v[segment.slice].view(24, 16) for v in (seen.weights, weights))
    alive = mask[segment.slice].view(24, 16).any(1)
    plain = (seen.weights * mask)[segment.slice].view(24, 16)
    factor = (before.norm(dim=1) / plain.norm(dim=1)).clamp(max=5)[alive, None]
    torch.testing.assert_close(after[alive], plain[alive] * factor)


def test_random_pruning_is_as_sparse_as_the_guided_one_and_elsewhere() -> None:
    wide = nn.Sequential(nn.Flatten(), nn.Linear(16, 60), nn.ReLU(), nn.Linear(60, 60), nn.ReLU(), nn.Linear(60, 4))
    seen = view(wide)
    for threshold in (0.3, 0.6, 0.8):  # at the last one closure takes units of both
        guided, random = ThresholdMask(threshold=threshold).mask(seen), RandomWeights(threshold=threshold).mask(seen)
        for segment in seen.layout.hidden:
            assert int(random[segment.slice].sum()) == int(guided[segment.slice].sum())
        assert not torch.equal(guided, random)
        assert torch.equal(seen.units.close(random, seen.layout), random)
    budget, units = BudgetMask().mask(seen), RandomUnits().mask(seen)
    counts = [[int(u.sum()) for u in seen.units.live_units(m, seen.layout)] for m in (budget, units)]
    assert counts[0] == pytest.approx(counts[1], abs=1)
    assert not torch.equal(budget, units)


def test_unknown_units_are_an_error_for_budgets_and_fine_for_thresholds() -> None:
    seen = PruneView(**{**view(mlp()).__dict__, "units": None})
    with pytest.raises(UnsupportedModelError, match="use pruner kind 'threshold'"):
        BudgetMask().mask(seen)
    assert not ThresholdMask().mask(seen).all()
