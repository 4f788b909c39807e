"""Clipped and noised updates: the equations by hand, the noise by its statistics, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from math import log, sqrt
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from pydantic import ValidationError
from scipy import stats
from sizes import sized

from autoflip_secure.defenses.privacy.mechanisms import AdaptiveClip, ClientLevel, ClipState, SampleLevel
from autoflip_secure.defenses.privacy.noised_rows import clip_to
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import PrivacyView
from autoflip_secure.scenarios.config.loading import load
from autoflip_secure.seeds import PrivateDraws, Purpose


def view(
    rows: int, params: int, *, multiplier: float = 1.0, malicious: tuple[int, ...] = (), seed: int = 3
) -> PrivacyView:
    honest, draws = torch.ones(rows, dtype=torch.bool), PrivateDraws.of(seed)
    honest[list(malicious)] = False
    return PrivacyView(
        round=1,
        honest=honest,
        active=torch.ones(params, dtype=torch.bool),
        expected=float(rows),
        noise_multiplier=multiplier,
        generators=[draws.generator(Purpose.DP_NOISE, 1, k) for k in range(rows)],
        server=draws.generator(Purpose.SERVER_NOISE, 1),
    )


@given(st.integers(1, 6), st.integers(1, 50), st.floats(1e-3, 1e3), st.floats(1e-4, 1e4), st.integers(0, 99))
@settings(max_examples=sized(20, 60), deadline=None)
def test_no_row_is_longer_than_the_clip_norm_and_short_ones_stay(
    rows: int, params: int, clip: float, scale: float, seed: int
) -> None:
    updates = scale * torch.randn(rows, params, generator=torch.Generator().manual_seed(seed))
    clipped = clip_to(updates, clip)
    assert (clipped.double().norm(dim=1) <= clip).all()
    short = updates.double().norm(dim=1) < 0.999 * clip
    assert torch.equal(clipped[short], updates[short])
    parallel = torch.nn.functional.cosine_similarity(clipped.double(), updates.double(), dim=1)
    assert torch.allclose(parallel, torch.ones(rows, dtype=torch.float64), atol=1e-5)


def test_distributed_noise_is_a_share_and_bad_clients_neither_clip_nor_noise() -> None:
    rows, params, clip = 4, 40_000, 2.0
    updates = torch.full((rows, params), 0.1)
    mechanism = ClientLevel(noise="distributed", clip=clip, noise_multiplier=1.5)
    sent = mechanism.send(ClipState(clip), updates, view(rows, params, multiplier=1.5, malicious=(2,)))
    assert torch.equal(sent[2], updates[2])
    honest = torch.tensor([0, 1, 3])
    noise = (sent - clip_to(updates, clip))[honest]
    share = 1.5 * clip / sqrt(rows)
    assert stats.kstest(noise.flatten().numpy() / share, "norm").pvalue > 1e-3
    assert noise.std() == pytest.approx(share, rel=4 / (2 * noise.numel()) ** 0.5)  # 0.8 %
    assert noise.sum(0).std() == pytest.approx(1.5 * clip * sqrt(3 / 4), rel=0.02)
    assert abs(float(torch.corrcoef(noise)[0, 1])) < 0.03  # every client its own


@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
def test_an_honest_client_whose_training_diverged_sends_its_noise_alone(strange: float) -> None:
    """A row that is left out takes its share of the noise with it, and tells the server that it diverged."""
    updates, clip = torch.full((3, 2_000), 0.1), 2.0
    updates[0, 5] = updates[2, 5] = strange
    mechanism = ClientLevel(noise="distributed", clip=clip, noise_multiplier=1.5)
    zeros = updates.clone()
    zeros[0] = 0.0
    for way in (lambda rows: mechanism.send(ClipState(clip), rows, view(3, 2_000, malicious=(2,))),
                lambda rows: mechanism.explore(rows, view(3, 2_000, malicious=(2,)))):  # fmt: skip
        sent = way(updates)
        assert sent[:2].isfinite().all()
        assert torch.equal(sent[0], way(zeros)[0])
        assert not sent[2].isfinite().all(), "a malicious client's row is as it was"


def test_noise_stays_off_what_is_not_sent() -> None:
    half = replace(view(3, 10), active=torch.arange(10) < 5)
    sent = ClientLevel(noise="distributed", noise_multiplier=1).send(ClipState(1.0), torch.zeros(3, 10), half)
    assert (sent[:, :5] != 0).all()
    assert not sent[:, 5:].any()


def test_central_noise_is_on_the_sum_and_every_row_is_clipped() -> None:
    params, clip = 40_000, 2.0
    mechanism = ClientLevel(clip=clip, noise_multiplier=0.7)
    updates = torch.full((5, params), 0.1)
    here = view(5, params, multiplier=0.7, malicious=(0,))
    sent = mechanism.send(ClipState(clip), updates, here)
    assert torch.equal(sent, clip_to(updates, clip))
    step, _ = mechanism.publish(ClipState(clip), sent.mean(0), updates, here)
    noise = (step - sent.mean(0)).numpy()
    assert stats.kstest(noise / (0.7 * clip / 5), "norm").pvalue > 1e-3


def test_explorers_send_deviations_of_one_length() -> None:
    deviations = torch.randn(4, 30) * torch.tensor([[0.01], [1.0], [50.0], [3.0]])
    mechanism = ClientLevel(clip=0.5, noise_multiplier=1.0, exploration_noise_multiplier=0.0)
    sent = mechanism.explore(deviations, view(4, 30, malicious=(3,)))
    assert torch.allclose(sent[:3].norm(dim=1), torch.full((3,), 0.5))
    assert torch.equal(sent[3], deviations[3])
    noisy = ClientLevel(clip=0.5, noise_multiplier=1.0, exploration_noise_multiplier=4.0)
    wide = noisy.explore(torch.ones(2, 30_000), view(2, 30_000))
    assert (wide - 0.5 / sqrt(30_000)).std() == pytest.approx(4.0 * 0.5, rel=0.02)


@given(st.floats(0.05, 5), st.floats(1.01, 20))
@settings(deadline=None)
def test_both_releases_of_adaptive_clipping_cost_what_the_multiplier_says(z: float, factor: float) -> None:
    bits = z / 2 * factor
    mechanism = ClientLevel(clip=AdaptiveClip(noise_multiplier=bits), noise_multiplier=z)
    updates = mechanism.update_multiplier(z)
    assert updates >= z
    # two Gaussian releases of one cohort are one with 1/z² = sum of the (sensitivity / deviation)²
    assert 1 / z**2 == pytest.approx(1 / updates**2 + (0.5 / bits) ** 2)


@pytest.mark.parametrize("length", [0.1, 30.0])
def test_zeros_are_no_vote_on_the_clip_norm(length: float) -> None:
    """The ledger's neighbour zeroes a client out: the count of unclipped updates may change by 1/2 and not by 1."""
    mechanism = ClientLevel(clip=AdaptiveClip(start=1.0, lr=1.0, noise_multiplier=1e-3), noise_multiplier=1e-4)
    rows = torch.stack([torch.full((4,), length), torch.full((4,), 0.01)])
    clips = []
    for first in (rows[0], torch.zeros(4)):
        updates = torch.stack([first, rows[1]])
        clips.append(mechanism.publish(mechanism.start(), torch.zeros(4), updates, view(2, 4, multiplier=1e-4))[1].clip)
    assert abs(log(clips[0] / clips[1])) * 2 == pytest.approx(0.5, rel=0.02)  # lr 1, expected cohort 2


def test_the_clip_norm_finds_its_quantile() -> None:
    mechanism = ClientLevel(
        clip=AdaptiveClip(start=20.0, quantile=0.5, lr=0.3, noise_multiplier=1.0), noise_multiplier=0.5
    )
    state, lengths = mechanism.start(), torch.linspace(1, 3, 50)
    for round_ in range(60):
        here = view(50, 2, multiplier=0.5, seed=round_)
        _, state = mechanism.publish(state, torch.zeros(2), torch.stack([lengths, 0 * lengths], 1), here)
    assert state.clip == pytest.approx(2.0, abs=0.4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"clip": None}, "noise has no scale without a clip norm"),
        ({"clip": 0}, "greater than 0"),
        ({"clip": -1.0}, "greater than 0"),
        ({"noise_multiplier": -1}, "greater than or equal to 0"),
        ({"noise_multiplier": 1, "target_epsilon": 2}, "keep one"),
        ({"target_epsilon": 0}, "greater than 0"),
        ({"delta": 0}, "greater than 0"),
        ({"delta": 1}, "less than 1"),
    ],
)
@pytest.mark.parametrize("kind", [SampleLevel, ClientLevel])
def test_bad_numbers_are_one_clear_sentence(kind: type[SampleLevel], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        kind(**settings)


def test_votes_that_nobody_is_trusted_with_are_refused() -> None:
    """Votes are counted without noise and noised by the server, so only a trusted one may learn a clip norm."""
    adaptive = {"start": 0.5, "noise_multiplier": 4.0}
    with pytest.raises(ValidationError, match=r"needs a server that is trusted with votes.*give a number.*clip: 0\.5"):
        ClientLevel(clip=adaptive, noise="distributed", noise_multiplier=4.0)
    ClientLevel(clip=adaptive, noise="central", noise_multiplier=4.0)


def test_the_clip_norms_release_cannot_cost_more_than_both() -> None:
    with pytest.raises(ValidationError, match=r"give more than 2\.5"):
        ClientLevel(clip=AdaptiveClip(noise_multiplier=2.0), noise_multiplier=5.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("privacy.delta=0.05",), "not below 1/clients = 0.05"),
        (("privacy.noise=distributed", "sampling=poisson"), "set sampling: fixed, or privacy.noise: central"),
        (("privacy.kind=client",), "sample_level"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, changes: tuple[str, ...], said: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("algorithm: fedavg\nprivacy: {kind: client_level, noise_multiplier: 1.0}\n", encoding="utf-8")
    with pytest.raises(InputError, match=said):
        load(path, changes)
