"""Attacks and bounds of the privacy audit: known answers, coverage, and that each can fail."""

from itertools import product
from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sizes import sized
from torch import nn

from attacks.canaries import coins, directions, noise_images
from attacks.empirical_epsilon import MOST, clopper_pearson, guess, one_run, one_run_p_value
from attacks.label_inference import class_scores
from attacks.membership import lira, logit_confidence, loss_threshold
from autoflip_secure.parameters import Layout


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_logit_confidence_is_the_logit_of_softmax() -> None:
    scores = torch.randn(3, 50, 7, generator=source(), dtype=torch.float64)
    labels = torch.randint(0, 7, (50,), generator=source(1))
    p = scores.softmax(-1)[:, torch.arange(50), labels]
    assert torch.allclose(logit_confidence(scores, labels), (p / (1 - p)).log())
    assert torch.allclose(loss_threshold(logit_confidence(scores, labels)[0]), p[0].log())
    sure = torch.tensor([[[2000.0, 0.0, -5.0]]])
    assert torch.isfinite(logit_confidence(sure, torch.tensor([1]))).all(), "no cancellation"


def test_lira_by_hand() -> None:
    shadows = torch.tensor([[3.0, 0.0], [5.0, 2.0], [0.0, 1.0], [2.0, 3.0]])
    included = torch.tensor([[True, False], [True, False], [False, True], [False, True]])
    phi = torch.tensor([4.5, 0.5])
    # means in 4, 2 and out 1, 2: each group deviates by 1 four times, with 4 - 2 degrees of freedom
    spread = 2**0.5
    expected = [(-((4.5 - 4) ** 2) + (4.5 - 1) ** 2) / (2 * spread**2), (-((0.5 - 2) ** 2) + 0.25) / (2 * spread**2)]
    assert lira(phi, shadows, included).tolist() == pytest.approx(expected)


def test_lira_beats_the_loss_where_samples_differ_in_hardness() -> None:
    from sklearn.metrics import roc_auc_score

    rng = source(3)
    hard = 5 * torch.randn(2000, generator=rng)
    included = torch.rand(16, 2000, generator=rng) < 0.5
    shadows = hard + 1.5 * included + torch.randn(16, 2000, generator=rng)
    truth = torch.rand(2000, generator=rng) < 0.5
    phi = hard + 1.5 * truth + torch.randn(2000, generator=rng)
    by_loss = roc_auc_score(truth, loss_threshold(phi))
    by_lira = roc_auc_score(truth, lira(phi, shadows, included))
    assert by_loss < 0.62
    assert by_lira > 0.8


def test_clopper_pearson_known_answers() -> None:
    worst = 1 - 0.025 ** (1 / 100)  # upper bound of a rate after 0 of 100
    assert clopper_pearson(100, 100, 0, 100, 0.0) == pytest.approx(log((1 - worst) / worst))
    assert clopper_pearson(50, 100, 50, 100, 1e-5) == 0
    assert clopper_pearson(0, 100, 100, 100, 0.0) == 0, "the attack is worse than chance: nothing is shown"
    # mirrored: what tells is the true negatives
    assert clopper_pearson(100, 100, 60, 100, 0.0) == pytest.approx(clopper_pearson(40, 100, 0, 100, 0.0))


def test_one_run_without_delta_is_the_binomial_tail() -> None:
    for guesses in (10, 100, 500):
        rate = 0.05 ** (1 / guesses)
        assert one_run(2 * guesses, guesses, guesses, 0.0) == pytest.approx(log(rate / (1 - rate)), rel=1e-6)
    assert one_run(100, 100, 50, 0.0) == 0
    assert one_run(100, 0, 0, 1e-5) == 0


@settings(deadline=None, max_examples=sized(20, 60))
@given(st.integers(1, 30), st.integers(0, 30), st.floats(0, 5), st.floats(0, 0.01))
def test_one_run_p_value_is_the_theorem(guesses: int, missed: int, epsilon: float, delta: float) -> None:
    """Theorem 5.2 summed term by term."""
    right, coin = max(guesses - missed, 0), 1 / (1 + exp(-epsilon))
    mass = [float(binom.pmf(i, guesses, coin)) for i in range(guesses + 1)]
    steepest = max((sum(mass[right - i : right]) / i for i in range(1, right + 1)), default=0.0)
    expected = min(1.0, sum(mass[right:]) + 2 * 40 * delta * steepest)
    assert one_run_p_value(40, guesses, right, epsilon, delta) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_both_bounds_hold_for_randomised_response(epsilon: float) -> None:
    """Randomised response is exactly epsilon-DP: the bounds may exceed it in one case of twenty, and come near."""
    rng, keep = np.random.default_rng(11), exp(epsilon) / (1 + exp(epsilon))
    over, found = np.zeros(2), np.zeros(2)
    trials = sized(100, 300)
    for _ in range(trials):
        truth = rng.random(400) < 0.5
        answer = np.where(rng.random(400) < keep, truth, ~truth)
        lower = (
            one_run(400, 400, int((truth == answer).sum()), 0.0),
            clopper_pearson(
                int(answer[truth].sum()), int(truth.sum()), int(answer[~truth].sum()), int((~truth).sum()), 0
            ),
        )
        over += np.array(lower) > epsilon
        found += np.array(lower) / trials
    assert (over / trials <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5).all()
    assert (found > 0.7 * epsilon).all() if epsilon > 1 else (found > 0.3 * epsilon).all()


def test_a_bound_without_the_delta_term_would_be_too_large() -> None:
    """Publishing everything with chance delta is (0, delta)-DP, and fools a bound that forgets delta."""
    assert one_run(1000, 20, 20, 1e-3) < one_run(1000, 20, 20, 0.0)
    assert one_run(10**6, 20, 20, 1e-3) == 0


def test_largest_bound_is_finite() -> None:
    assert one_run(10**4, 10**4, 10**4, 0.0) < MOST
    assert np.isfinite(clopper_pearson(10**6, 10**6, 0, 10**6, 1e-9))


def test_guess_takes_the_extremes() -> None:
    scores = torch.tensor([5.0, -3.0, 0.1, 4.0, -9.0, 0.2])
    included = torch.tensor([True, False, True, False, False, False])
    assert guess(scores, included, 2) == (4, 3)


def test_canaries() -> None:
    like = 3 * torch.randn(2000, 1, 4, 4, generator=source(1))
    images, labels = noise_images(500, like, 7, source(2))
    assert images.shape == (500, 1, 4, 4)
    assert float(images.std()) == pytest.approx(3.0, rel=0.05)
    assert set(labels.tolist()) == set(range(7))
    tokens, _ = noise_images(50, torch.tensor([[3, 9], [9, 4]]), 2, source(2))
    assert set(tokens.flatten().tolist()) == {3, 4, 9}
    rows = directions(30, 4000, 2.5, source(3))
    assert torch.allclose(rows.norm(dim=1), torch.tensor(2.5))
    assert float((rows @ rows.T / 6.25 - torch.eye(30)).abs().max()) < 0.1
    thrown = coins(10_000, source(4))
    assert 0.47 < float(thrown.float().mean()) < 0.53


def test_label_inference_reads_one_step_of_gradient_descent() -> None:
    """One step on samples of classes 1 and 3 moves their outputs up the most (the gradient by hand: p - y)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5))
    layout = Layout.of(net)
    x, y = torch.rand(40, 1, 4, 4), torch.tensor([1, 3] * 20)
    nn.functional.cross_entropy(net(x), y).backward()
    parts = {name: -0.5 * p.grad for name, p in net.named_parameters() if p.grad is not None}
    step = torch.cat([parts[segment.name].flatten() for segment in layout])
    scores = class_scores(step[None], layout)[0]
    assert set(scores.argsort(descending=True)[:2].tolist()) == {1, 3}
    assert set(class_scores(-step[None], layout)[0].argsort(descending=True)[:2].tolist()) != {1, 3}


def test_every_pair_of_classes_is_told_apart() -> None:
    layout = Layout.of(nn.Sequential(nn.Linear(6, 4)))
    for a, b in product(range(4), range(4)):
        if a < b:
            bias = torch.full((4,), -1.0)
            bias[[a, b]] = 1.0
            row = torch.cat([bias.repeat_interleave(6), bias])[None]
            assert set(class_scores(row, layout)[0].argsort(descending=True)[:2].tolist()) == {a, b}
