"""Linear exploration: the equations in plain floats, real digits, noisy and lying explorers, and what two sums tell."""

from __future__ import annotations

import functools

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from sklearn.datasets import load_digits
from torch import Tensor, nn

from autoflip_secure.algorithm.exploration import ExplorationConfig, explore
from autoflip_secure.algorithm.guidance import normalise
from autoflip_secure.algorithm.linear_exploration import energy_points, energy_rows, linear_landscape
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientJob, TrainingSchedule
from autoflip_secure.models.layout import Layout
from autoflip_secure.secure_rows.secret_rows import LocalRows
from autoflip_secure.seeds import Purpose, generator
from autoflip_secure.training import choose_trainer

N = 20


@functools.cache
def explored(seed: int, split: str) -> tuple[Layout, Tensor]:
    """Deviations of 20 explorers of a small perceptron on digits: even shares, or two classes each."""
    x, y = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
    x = x.float().view(-1, 1, 8, 8) / 16
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hidden = (nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU())
        module = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(24, 10))
    layout, rng = Layout.of(module), np.random.default_rng(seed)
    if split == "iid":
        parts = np.array_split(rng.permutation(len(x)), N)
    else:
        shards = np.array_split(np.argsort(y.numpy(), kind="stable"), 2 * N)
        order = rng.permutation(2 * N)
        parts = [np.concatenate([shards[i] for i in order[2 * k : 2 * k + 2]]) for k in range(N)]
    start = layout.vector(module)
    jobs = [
        ClientJob(start, torch.from_numpy(p), y[torch.from_numpy(p)].long(), seed, (0, k)) for k, p in enumerate(parts)
    ]
    trainer = choose_trainer(module, layout, x[:1])
    return layout, trainer.train(module, layout, x, jobs, TrainingSchedule(lr=0.1, epochs=3)).updates


CASES = [(seed, split) for seed in (10, 11) for split in ("iid", "two classes")]


def in_floats(d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a_k, keep_k and D_0 in double, from the docstring alone (no more than two explorers may be told apart)."""
    e = d**2 / (d**2).sum(1, keepdims=True)
    order = np.argsort(-e.mean(0), kind="stable")
    a, t = (e[:, order[: round(q * d.shape[1])]].sum(1) for q in (0.3, 0.05))

    def fine(x: np.ndarray) -> np.ndarray:
        centre = np.median(x)
        return np.asarray(x >= centre - 3 * max(1.4826 * np.median(abs(x - centre)), 0.05 * centre))

    keep = fine(a) & fine(1 - t)
    if (~keep).sum() == 1:
        keep[np.flatnonzero(keep)[np.argmin(a[keep])]] = False
    return a, keep, e[keep].mean(0)


def local(energies: Tensor) -> tuple[LocalRows, list[int]]:
    owners = list(range(100, 100 + len(energies)))
    return LocalRows(energy_points(len(energies)).encode(energies, owners), tuple(owners)), owners


def noisy(d: Tensor, seed: int, sigma: float, count: int) -> tuple[Tensor, list[int]]:
    draw = generator(seed, Purpose.UPDATE_ATTACK)
    malicious = torch.randperm(len(d), generator=draw)[:count].tolist()
    d = d.clone()
    for k in malicious:
        d[k] += sigma * torch.randn(d.shape[1], generator=draw)
    return d, malicious


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_ring_equals_floats_on_digits_with_the_same_masks(case: tuple[int, str], sigma: float) -> None:
    layout, d = explored(*case)
    d, _ = noisy(d, case[0], sigma, 4)
    a, keep, energy = in_floats(d.double().numpy())
    rows, _ = local(energy_rows(d))
    seen = linear_landscape(rows, energy_points(N), draws=torch.Generator().manual_seed(case[0]))
    assert seen.invalid == ()
    assert seen.kept.tolist() == keep.tolist()
    np.testing.assert_allclose(seen.agreement.numpy(), a, rtol=1e-10)
    assert np.abs(seen.energy.numpy() - energy).max() <= 1e-9 * energy.max()
    for threshold in (0.1, 0.2, 0.3, 0.5):
        guidances = [normalise(x, layout) for x in (seen.energy, torch.from_numpy(energy))]
        assert torch.equal(*(guidance >= threshold for guidance in guidances))
    plain = explore(torch.arange(N), torch.ones(N), d, "linear", [[0.0]] * N)
    assert torch.equal(plain.energy, seen.energy.float())  # bit for bit: the plain run computes in the ring too
    assert torch.equal(plain.kept, seen.kept)


@pytest.mark.parametrize("case", CASES)
def test_only_the_sum_is_the_mean_of_energies(case: tuple[int, str]) -> None:
    _, d = explored(*case)
    expected = energy_rows(d).mean(0)
    rows, _ = local(energy_rows(d))
    seen = linear_landscape(rows, energy_points(N), "sum")
    assert float((seen.energy - expected).abs().max()) <= 1e-9 * float(expected.max())
    assert bool(seen.kept.all())
    assert seen.agreement.tolist() == [1.0] * N


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("sigma", "count"), [(0.05, 4), (0.5, 4), (0.5, 8)])
def test_noisy_explorers_are_left_out_as_by_the_robust_form(case: tuple[int, str], sigma: float, count: int) -> None:
    layout, clean = explored(*case)
    d, malicious = noisy(clean, case[0], sigma, count)

    def sparsity(method: str, deviations: Tensor) -> float:
        energy = explore(torch.arange(N), torch.ones(N), deviations, method, [[0.0]] * N).energy
        return float((normalise(energy, layout) < 0.3)[layout.prunable].float().mean())

    kept = explore(torch.arange(N), torch.ones(N), d, "linear", [[0.0]] * N).kept
    assert not bool(kept[malicious].any())
    assert sparsity("linear", d) == pytest.approx(sparsity("linear", clean), abs=0.03)
    assert sparsity("plain", d) < sparsity("linear", d) - 0.1  # the attack works when nothing defends


def test_a_spike_is_left_out() -> None:
    _, clean = explored(10, "iid")
    d = clean.clone()
    for k in (3, 8):
        d[k] = 0
        d[k, k : 40 * k : 13] = 1.0
    kept = explore(torch.arange(N), torch.ones(N), d, "linear", [[0.0]] * N).kept
    assert not bool(kept[[3, 8]].any())
    assert int(kept.sum()) >= N - 4


LIES = {
    "two large entries that nearly cancel": ([0.6, 30.0, -29.6] + [0.0] * 37, 12 / 16),
    "twice the energy": ([0.05] * 40, 1),
    "multiples of 2^62: the worst case, 1/2 a vector": ([2.0**10 * (-1) ** j for j in range(40)], 12 / 16),
    "nothing, with noise": ([5.0 * (-1) ** (j // 3) for j in range(40)], 0.99),
}


@pytest.mark.parametrize("lie", LIES)
def test_rows_that_are_no_energies_are_seen(lie: str) -> None:
    """Of many draws of the public signs, at least the share that the docstring promises finds the liar."""
    values, promised = LIES[lie]
    rows, owners = local(energy_rows(torch.randn(6, 40, generator=torch.Generator().manual_seed(0))))
    points = energy_points(6)
    rows.values[2] = (torch.tensor(values, dtype=torch.float64) * 2.0**points.bits).to(torch.int64)
    found = [
        linear_landscape(rows, points, draws=torch.Generator().manual_seed(s)).invalid == (owners[2],)
        for s in range(60)
    ]
    assert sum(found) / 60 >= promised
    honest = linear_landscape(rows, points, draws=torch.Generator().manual_seed(found.index(True)))
    assert not honest.kept[2]
    assert float(honest.energy.max()) < 1


@given(st.integers(2, 8), st.integers(0, 10**6))
def test_no_group_of_explorers_has_one_member(explorers: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    d = torch.rand(50, generator=draw) ** 6 + 0.01 * torch.randn(explorers, 50, generator=draw)
    loud = torch.rand(explorers, generator=draw) < 0.3
    d[loud] += torch.randn(int(loud.sum()), 50, generator=draw)
    rows, _ = local(energy_rows(d))
    kept = linear_landscape(rows, energy_points(explorers)).kept
    assert int(kept.sum()) != 1
    assert int((~kept).sum()) != 1


def test_an_explorer_that_did_not_move_is_honest_and_does_not_count() -> None:
    d = torch.rand(6, 30, generator=torch.Generator().manual_seed(1)) + 0.5
    d[4] = 0
    rows, _ = local(energy_rows(d))
    seen = linear_landscape(rows, energy_points(6), draws=torch.Generator().manual_seed(1))
    assert seen.invalid == ()
    assert not seen.kept[4]
    still = linear_landscape(local(torch.zeros(4, 9).double())[0], energy_points(4))
    assert still.energy.tolist() == [0.0] * 9


@pytest.mark.parametrize("reveal", ["scores", "sum"])
def test_a_sum_of_one_is_refused(reveal: str) -> None:
    rows, _ = local(energy_rows(torch.ones(1, 5)))
    with pytest.raises(InputError, match="1 of 1 explorers sent usable energies"):
        linear_landscape(rows, energy_points(1), reveal, torch.Generator())


def test_reveal_belongs_to_linear() -> None:
    assert ExplorationConfig(method="linear", reveal="sum").reveal == "sum"
    with pytest.raises(ValueError, match="reveal = 'sum' needs method = 'linear', not 'robust'"):
        ExplorationConfig(reveal="sum")
