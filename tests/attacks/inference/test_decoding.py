"""Gradient decoding: exact where it must be, and no stronger than what an update holds."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from autoflip_secure.attacks.inference.canaries import directions, evidence
from autoflip_secure.attacks.inference.decoding import CLEAR, NOISY, decode, sample_gradients
from autoflip_secure.models.layout import Layout


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small() -> tuple[nn.Module, Layout, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 5))
    layout = Layout.of(net)
    weights = torch.cat([dict(net.named_parameters())[segment.name].detach().flatten() for segment in layout])
    return net, layout, weights, torch.rand(70, 1, 6, 6, generator=source()), torch.arange(70) % 5


def test_gradients_are_autograds_and_clipped() -> None:
    net, layout, weights, x, y = small()
    live = torch.ones(layout.size, dtype=torch.bool)
    live[:50] = False
    raw = []
    for one, label in zip(x, y, strict=True):
        net.zero_grad()
        nn.functional.cross_entropy(net(one[None]), label[None]).backward()
        raw.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]) * live)
    rows = torch.stack(raw)
    norms = rows.norm(dim=1, keepdim=True)
    assert torch.allclose(sample_gradients(net, layout, weights, live, x, y), rows / norms, atol=1e-5)
    clip = float(norms.median())
    clipped = sample_gradients(net, layout, weights, live, x, y, clip)
    assert torch.allclose(clipped, rows * (clip / norms).clamp(max=1) / clip, atol=1e-5)


class _Alone(nn.Module):
    """Asks for a plain number, which stacked evaluation cannot give."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layer(x)
        return scores * (1.0 if float(x.detach().sum()) > -1e9 else 0.0)


def test_a_model_that_cannot_be_stacked_is_decoded_one_by_one() -> None:
    net = _Alone()
    layout, weights = Layout.of(net), torch.randn(15, generator=source())
    x, y = torch.randn(9, 4, generator=source(1)), torch.arange(9) % 3
    rows = sample_gradients(net, layout, weights, torch.ones(15, dtype=torch.bool), x, y)
    assert rows.shape == (9, 15)
    assert torch.allclose(rows.norm(dim=1), torch.ones(9), atol=1e-5)


def test_running_statistics_are_as_they_are() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    layout = Layout.of(net)
    weights = torch.cat([net.state_dict()[segment.name].float().flatten() for segment in layout])
    rows = sample_gradients(
        net, layout, weights, torch.ones(layout.size, dtype=torch.bool), torch.randn(5, 4), torch.arange(5) % 3
    )
    assert torch.allclose(rows.norm(dim=1), torch.ones(5), atol=1e-5)
    assert not rows[:, ~layout.trained].any()


def test_one_step_is_taken_apart_exactly_and_noise_hides_it() -> None:
    net, layout, weights, x, y = small()
    gradients = sample_gradients(net, layout, weights, torch.ones(layout.size, dtype=torch.bool), x, y)
    included = torch.rand(20, 70, generator=source(2)) < 0.5
    updates = -0.1 * included.float() @ gradients
    assert torch.allclose(decode(updates, gradients, 1e-9), 0.1 * included.float(), atol=1e-3)

    def area(noise: float, ridge: float) -> float:
        seen = updates + noise * torch.randn(updates.shape, generator=source(3))
        return float(roc_auc_score(included.flatten(), decode(seen, gradients, ridge).flatten()))

    assert area(0.0, CLEAR) > 0.95
    assert 0.55 < area(0.1, NOISY) < area(0.0, NOISY)
    assert abs(area(100.0, NOISY) - 0.5) < 0.05


def test_canary_updates_are_at_right_angles_as_far_as_there_is_room() -> None:
    rows = directions(30, 40, 2.5, source(3))
    assert torch.allclose(rows @ rows.T / 6.25, torch.eye(30), atol=1e-5)
    crowd = directions(50, 40, 2.5, source(3))
    assert torch.allclose(crowd.norm(dim=1), torch.tensor(2.5))


@pytest.mark.parametrize(("otherwise", "rate"), [(0.0, 1.0), (0.0, 0.3), (-1.0, 0.3)])
def test_evidence_is_the_ratio_of_the_two_densities(otherwise: float, rate: float) -> None:
    from scipy.stats import norm

    x, noise = torch.linspace(-3, 3, 13), 0.7
    inside = rate * norm.pdf(x, 1, noise) + (1 - rate) * norm.pdf(x, 0, noise)
    outside = rate * norm.pdf(x, otherwise, noise) + (1 - rate) * norm.pdf(x, 0, noise)
    expected = torch.as_tensor(inside / outside).log()
    assert torch.allclose(evidence(x, noise, otherwise, rate), expected, atol=1e-9)
