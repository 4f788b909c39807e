"""Clipped and noised updates: the equations by hand, the noise by its statistics, the engine by a slow server."""

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
from torch import Tensor

from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.defenses.privacy.mechanisms import AdaptiveClip, ClientLevel, ClipState, SampleLevel, clip_to
from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells, watch_cells
from autoflip_secure.federation.server import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import PrivacyView
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import load, resolve
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.privacy_planning import ledger
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


class Notes(Watcher):
    """Keeps what went over the wire."""

    def __init__(self) -> None:
        self.rounds: list[tuple[ServerState, Tensor, Tensor, ServerState]] = []
        self.explored: Tensor | None = None

    def exploration(self, cell: Cell, clients: Tensor, sent: Tensor) -> None:
        self.explored = sent

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.rounds.append((before, clients, sent, after))


def cell_of(**settings: Any) -> tuple[Cell, Any]:
    document = {"clients": 10, "cohort": 4, "rounds": 4, "seeds": [21], "model": {"kind": "mlp", "hidden": [8]}}
    scenario = resolve(Document("here", {**document, **settings}))
    builder = CellBuilder()
    trainer = builder.trainer(scenario.cells[0])
    return builder.cell(scenario.cells[0], scenario.cells[0], torch.device("cpu")), trainer


def test_the_published_step_is_the_clipped_sum_and_noise_over_the_expected_cohort() -> None:
    privacy = {"kind": "client_level", "clip": 0.3, "noise_multiplier": 0.2}
    cell, trainer = cell_of(algorithm="fedavg", sampling="poisson", privacy=privacy)
    notes = Notes()
    (record,) = run_cells([cell], trainer, watch=notes)
    sizes = set()
    for number, (before, clients, sent, after) in enumerate(notes.rounds, 1):
        assert (sent.norm(dim=1) <= 0.3).all()
        drawn = cell.draws.generator(Purpose.SERVER_NOISE, number).standard_normal(sent.shape[1])
        noise = torch.from_numpy(drawn).float()
        step = (sent.sum(0) + 0.2 * 0.3 * noise) / 4  # 4 are expected, whoever came
        assert torch.allclose(after.weights - before.weights, step, atol=1e-6)
        sizes.add(len(clients))
    assert len(sizes) > 1
    assert "add noise to the sum (the server)" in record.pipeline


def test_poisson_cohorts_are_drawn_one_client_at_a_time() -> None:
    cell, _ = cell_of(sampling="poisson", rounds=400)
    came = torch.zeros(400, 10)
    for round_ in range(1, 401):
        came[round_ - 1, cell.cohort(round_)] = 1
    assert came.mean() == pytest.approx(0.4, abs=0.03)
    assert stats.chisquare(came.sum(0).numpy()).pvalue > 1e-3
    assert came.sum(1).var() == pytest.approx(10 * 0.4 * 0.6, rel=0.3)  # a fixed cohort would have none


def test_a_cohort_of_nobody_is_noise_alone_and_still_published() -> None:
    privacy = {"kind": "client_level", "clip": 1.0, "noise_multiplier": 1.0}
    cell, trainer = cell_of(algorithm="fedavg", sampling="poisson", privacy=privacy, clients=10, cohort=1, rounds=8)
    (record,) = run_cells([cell], trainer)
    alone = [r for r in record.rounds if not r.participants]
    assert alone
    assert all(r.step_norm > 0 for r in alone)


@pytest.mark.parametrize("noise", ["central", "distributed"])
def test_guidance_learns_from_the_step_where_the_proof_is_about_the_sum(noise: str) -> None:
    """Masks are published: made of single rows, each with its share of the noise, they would tell more than the sum."""
    privacy = {"kind": "client_level", "clip": 1.0, "noise_multiplier": 0.0, "noise": noise}
    cell, trainer = cell_of(algorithm="guidance_only", privacy=privacy)
    notes = Notes()
    watch_cells([cell], trainer, notes)
    before, _, _, after = notes.rounds[0]
    assert before.guidance is not None
    assert after.guidance is not None
    step = (after.weights - before.weights) * before.mask
    expected = 0.9 * before.guidance.energy + 0.1 * step**2 / step.square().sum()
    assert torch.allclose(after.guidance.energy, expected, atol=1e-9)


def test_bad_clients_do_as_they_like() -> None:
    privacy = {"kind": "client_level", "clip": 0.1, "noise_multiplier": 0.01, "noise": "distributed"}
    attack = {"kind": "gaussian_noise", "sigma": 5.0, "scope": 0.3}
    cell, trainer = cell_of(algorithm="autoflip", privacy=privacy, attack=attack, cohort=8)
    assert isinstance(cell.protocol.attack, GaussianNoise)
    notes = Notes()
    watch_cells([cell], trainer, notes)
    for _, clients, sent, _ in notes.rounds:
        malicious = cell.malicious_clients[clients]
        assert (sent[malicious].norm(dim=1) > 10).all()
        assert (sent[~malicious].norm(dim=1) < 1).all()
    assert notes.explored is not None
    assert torch.equal(notes.explored.norm(dim=1) > 10, cell.malicious_clients)


def test_only_honest_clients_train_by_dp_sgd() -> None:
    privacy = {"kind": "sample_level", "clip": 0.5, "noise_multiplier": 1.0}
    cell, _ = cell_of(privacy=privacy, attack={"kind": "label_flip", "scope": 0.3, "window": {"first": 2, "last": 3}})
    assert all(cell.private_steps(k, 1) is not None for k in range(10))
    assert [cell.private_steps(k, 2) is None for k in range(10)] == cell.malicious_clients.tolist()
    steps = cell.private_steps(0, 1)
    assert steps is not None
    assert (steps.clip, steps.noise_multiplier) == (0.5, 1.0)


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


def test_bad_clients_vote_too() -> None:
    """The server sees who is long and who is short, and not who is malicious."""
    clip = {"start": 1.0, "lr": 1.0, "noise_multiplier": 1e-3}
    privacy = {"kind": "client_level", "clip": clip, "noise_multiplier": 1e-4}
    attack = {"kind": "gaussian_noise", "sigma": 100.0, "clients": [0, 1, 2]}
    cell, trainer = cell_of(algorithm="fedavg", privacy=privacy, attack=attack, cohort=10, rounds=1)
    notes = Notes()
    watch_cells([cell], trainer, notes)
    ((before, _, sent, after),) = notes.rounds
    long = (sent.norm(dim=1) > 0.999).sum()
    assert 3 <= long < 10
    share = (10 - float(long)) / 10
    assert log(after.privacy.clip / before.privacy.clip) == pytest.approx(-(share - 0.5), abs=2e-3)


def test_the_ledger_says_how_votes_are_counted() -> None:
    adaptive, _ = cell_of(
        algorithm="fedavg", privacy={"kind": "client_level", "clip": {"noise_multiplier": 4.0}, "noise_multiplier": 4.0}
    )
    plain, _ = cell_of(algorithm="fedavg", privacy={"kind": "client_level", "clip": 1.0, "noise_multiplier": 4.0})
    with_votes, without = ledger(adaptive), ledger(plain)
    assert with_votes is not None
    assert without is not None
    assert with_votes.guarantees == without.guarantees
    assert ["votes on the clip norm" in note for note in with_votes.notes] == [True]
    assert without.notes == []


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
