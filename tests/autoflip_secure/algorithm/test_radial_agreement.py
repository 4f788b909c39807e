"""Radial agreement against a slow server written with plain numbers, and against the identity that it rests on."""

from __future__ import annotations

import pytest
import torch
from slow_servers import SlowRadial
from torch import nn

from autoflip_secure.algorithm.radial_agreement import RadialAgreement
from autoflip_secure.algorithm.radial_layers import Layers, radial_cosine
from autoflip_secure.interfaces import Exploration, OpenRows, RoundView
from autoflip_secure.models.layout import Layout

LAYOUT = Layout.of(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
P = LAYOUT.size
CLIENTS = 8


def view(
    rows: torch.Tensor,
    clients: list[int],
    weights: torch.Tensor,
    shrinkage: float = 0.0,
    of: Layout = LAYOUT,
    mask: torch.Tensor | None = None,
) -> RoundView:
    return RoundView(
        round=1,
        clients=torch.tensor(clients),
        samples=torch.tensor([10.0 + k for k in clients]),
        updates=rows,
        weights=weights,
        mask=torch.ones(of.size, dtype=torch.bool) if mask is None else mask,
        guidance=None,
        layout=of,
        shrinkage=torch.full((len(clients),), shrinkage),
    )


def exploration(deviations: torch.Tensor, energy: torch.Tensor) -> Exploration:
    n = len(deviations)
    return Exploration(
        torch.arange(n),
        torch.ones(n),
        deviations,
        energy,
        torch.ones(n),
        torch.ones(n, dtype=torch.bool),
        ((0.0,),) * n,
    )


@pytest.mark.parametrize("seed", range(8))
def test_scores_and_step_equal_the_slow_server_over_many_rounds(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weights, energy = torch.randn(P, generator=draw), torch.rand(P, generator=draw) ** 4

    def rows(n: int) -> torch.Tensor:
        return energy.sqrt() * (0.3 * weights + torch.randn(n, P, generator=draw))

    deviations = rows(CLIENTS)
    deviations[1] += 0.7 * torch.randn(P, generator=draw)
    aggregator = RadialAgreement()
    state = aggregator.start(LAYOUT, weights, CLIENTS, exploration(deviations, energy))
    slow = SlowRadial(LAYOUT, weights.double().numpy(), energy.double().numpy(), deviations.double().numpy())
    saw = set()
    for _ in range(8):
        clients = torch.randperm(CLIENTS, generator=draw)[:5].sort().values.tolist()
        updates = rows(5)
        for i, k in enumerate(clients):
            if k == 1:
                updates[i] += 1.5 * torch.randn(P, generator=draw)  # noisy
            if k == 2:
                updates[i] -= 3 * energy.sqrt() * weights  # contradicts the model
            if k == 3:
                updates[i] *= 9  # oversized
        result = aggregator.aggregate(state, view(updates, clients, weights))
        scores, step = slow.round(
            updates.double().numpy(), clients, [10.0 + k for k in clients], weights.double().numpy()
        )
        assert result.scores is not None
        assert result.scores.tolist() == pytest.approx(scores, abs=5e-4)
        assert result.delta.tolist() == pytest.approx(step.tolist(), abs=5e-4)
        saw |= {round(s, 1) for s in scores}
        state = result.state
    assert {0.0, 1.0} <= saw  # the rounds really met both filtered and trusted clients


def test_the_identity_for_a_softmax_output_layer() -> None:
    """-<grad L, w_out> = sum_i (q_i - p_i) f_i: positive for right labels, negative for contradicting ones."""
    draw = torch.Generator().manual_seed(0)
    w = torch.randn(5, 4, generator=draw, requires_grad=True)
    features = torch.randn(60, 4, generator=draw)
    logits = features @ w.T
    believed = logits.argmax(1)
    for labels, sign in ((believed, 1), ((believed + 1) % 5, -1)):
        loss = nn.functional.cross_entropy(logits, labels)
        (gradient,) = torch.autograd.grad(loss, w, retain_graph=True)
        q_minus_p = nn.functional.one_hot(labels, 5) - logits.softmax(1)
        along = float(-(gradient * w.detach()).sum())
        assert along == pytest.approx(float((q_minus_p * logits).sum(1).mean().detach()), rel=1e-4)
        assert sign * along > 0


def test_weight_decay_is_taken_out() -> None:
    weights = torch.randn(P, generator=torch.Generator().manual_seed(2))
    rows = torch.randn(4, P, generator=torch.Generator().manual_seed(3))
    aggregator = RadialAgreement()
    state = aggregator.start(LAYOUT, weights, CLIENTS, exploration(rows, torch.rand(P)))
    plain = aggregator.aggregate(state, view(rows, [0, 1, 2, 3], weights))
    decayed = aggregator.aggregate(state, view(rows - 0.25 * weights, [0, 1, 2, 3], weights, shrinkage=0.25))
    torch.testing.assert_close(decayed.statistics["radial"], plain.statistics["radial"], atol=1e-4, rtol=1e-3)


def test_layers_before_a_normalisation_are_left_out() -> None:
    layout = Layout.of(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)))
    weights = torch.randn(layout.size, generator=torch.Generator().manual_seed(0))
    rows = torch.zeros(1, layout.size)
    for segment in layout:
        if segment.output:
            rows[0, segment.slice] = weights[segment.slice]
        elif segment.normalised:
            rows[0, segment.slice] = -weights[segment.slice]
    live = torch.ones_like(layout.trained)
    assert float(radial_cosine(OpenRows(rows), weights, Layers(layout, live, live))) == pytest.approx(1)


def test_noise_on_a_pruned_model_is_found_as_large_a_weight_and_shorter() -> None:
    """Masked coordinates carry none, so its length goes with the root of the live ones: docs/algorithm.md."""
    layout = Layout.of(nn.Sequential(nn.Linear(60, 60), nn.ReLU(), nn.Linear(60, 3)))
    draw = torch.Generator().manual_seed(4)
    mask = (torch.arange(layout.size) % 4 == 0) | ~layout.prunable
    weights, energy = mask * torch.randn(layout.size, generator=draw), torch.rand(layout.size, generator=draw) ** 8
    honest = 0.05 * mask * energy.sqrt() * torch.randn(CLIENTS, layout.size, generator=draw)
    noise, whole = 0.1 * torch.randn(layout.size, generator=draw), torch.ones_like(mask)
    aggregator, found = RadialAgreement(), []
    for live in (whole, mask):
        rows = honest.clone()
        rows[0] += live * noise
        state = aggregator.start(layout, weights, CLIENTS, exploration(honest, energy))
        one = view(rows, list(range(CLIENTS)), weights, of=layout, mask=live)
        found.append(aggregator.aggregate(state, one).statistics["noise"])
    assert (found[0][0], found[1][0]) > (1, 1), "noisy at 0.25"
    assert float(found[1][0] / found[0][0]) == pytest.approx(float(mask.sum() / layout.size) ** 0.5, rel=0.2)
