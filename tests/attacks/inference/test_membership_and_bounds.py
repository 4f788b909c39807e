"""Attacks and bounds of the privacy audit: known answers, coverage, and that each can fail."""

from itertools import product
from math import exp

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import binom, norm
from sizes import sized
from torch import nn

from autoflip_secure.attacks.inference.canaries import coins, directions, noise_images
from autoflip_secure.attacks.inference.empirical_epsilon import Curve, guess, refuted, refuted_by_runs, shares_right
from autoflip_secure.attacks.inference.label_inference import class_scores
from autoflip_secure.attacks.inference.membership import lira, logit_confidence, loss_threshold
from autoflip_secure.models.layout import Layout


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


def gaussian(mu: float) -> Curve:
    """The trade-off of N(0, 1) and N(mu, 1) in its pairs, by the textbook."""
    epsilons = np.linspace(0, mu**2 / 2 + 6 * mu, 200)
    return Curve(epsilons, norm.cdf(mu / 2 - epsilons / mu) - np.exp(epsilons) * norm.cdf(-mu / 2 - epsilons / mu))


def pure(epsilon: float, delta: float = 0.0) -> Curve:
    return Curve(np.array([epsilon]), np.array([delta]))


@settings(deadline=None, max_examples=sized(30, 100))
@given(st.floats(0.1, 4), st.floats(1e-4, 1 - 1e-4))
def test_the_curve_is_the_best_test_between_two_normals(mu: float, false_positives: float) -> None:
    """Neyman and Pearson: true positives at so many false positives."""
    true_positives = float(norm.sf(norm.isf(false_positives) - mu))
    curve = gaussian(mu)
    assert curve.least(true_positives) == pytest.approx(false_positives, abs=2e-3)
    assert curve.least(true_positives) <= false_positives + 1e-9, "pairs say no more than the mechanism"
    assert curve.accuracy == pytest.approx(norm.cdf(mu / 2), abs=1e-9), "half of the way between the means"


def test_accuracy_of_one_pair_is_that_of_randomised_response() -> None:
    assert pure(1.0).accuracy == pytest.approx(exp(1) / (1 + exp(1)))
    assert pure(0.0, 0.2).accuracy == pytest.approx(0.6), "told with chance delta, else a coin"
    assert pure(800.0).accuracy == 1.0


def largest_tail(curve: Curve, canaries: int, guesses: int, right: int) -> float:
    """The recursion by bisection: the largest tail that is not refuted."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if refuted(curve, canaries, guesses, right, 1 - middle) else (middle, high)
    return high


@settings(deadline=None, max_examples=sized(10, 40))
@given(st.integers(2, 6), st.floats(0.1, 2.5), st.floats(0, 0.2), st.data())
def test_no_mechanism_is_right_more_often_than_the_one_run_bound_says(
    guesses: int, epsilon: float, delta: float, data: st.DataObject
) -> None:
    """A linear program over all laws of the number of right guesses that obey the theorem's inequalities."""
    canaries, right = guesses + data.draw(st.integers(0, 3)), data.draw(st.integers(1, guesses))
    numbers = np.arange(guesses + 1)
    rows, limits = [], []
    for i in range(1, guesses + 1):
        inside = numbers * (numbers >= i) / canaries
        outside = (guesses - numbers) * (numbers >= i - 1) / canaries
        rows += [inside - exp(epsilon) * outside, inside - exp(-epsilon) * outside]
        limits += [delta, 1 - exp(-epsilon) * (1 - delta)]  # P <= e^eps Q + delta, of both directions
    found = linprog(
        -(numbers >= right).astype(float), A_ub=np.array(rows), b_ub=np.array(limits),
        A_eq=np.ones((1, guesses + 1)), b_eq=[1.0],
    )  # fmt: skip
    bound = largest_tail(pure(epsilon, delta), canaries, guesses, right)
    assert bound == pytest.approx(-found.fun, abs=1e-5)
    assert bound >= float(binom.sf(right - 1, guesses, exp(epsilon) / (1 + exp(epsilon)))) - 1e-9


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_both_bounds_hold_for_randomised_response(epsilon: float) -> None:
    """Randomised response is exactly epsilon-DP: it may be refuted in one case of twenty, 0.6 of it must be."""
    rng, keep = np.random.default_rng(11), exp(epsilon) / (1 + exp(epsilon))
    over, found, trials = np.zeros(2), np.zeros(2), sized(60, 300)
    for _ in range(trials):
        right = rng.random((100, 20)) < keep
        total = int(right[:20].sum())
        over += refuted(pure(epsilon), 400, 400, total), refuted_by_runs(pure(epsilon), right.mean(1))
        less = pure(0.6 * epsilon)
        found += refuted(less, 400, 400, total), refuted_by_runs(less, right.mean(1))
    assert (over / trials <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5).all()
    assert found[1] > 0.8 * trials, "with many runs little is lost"
    assert found[0] > 0.3 * trials or epsilon < 1


def test_runs_whose_canaries_stand_and_fall_together_are_no_violation() -> None:
    """One coin for a whole run: all guesses right or all wrong. A binomial over all canaries would be fooled."""
    rng, epsilon, trials = np.random.default_rng(5), 1.0, sized(200, 1000)
    most, alarms, fooled = exp(epsilon) / (1 + exp(epsilon)), 0, 0
    for _ in range(trials):
        shares = (rng.random(100) < most).astype(float)
        alarms += refuted_by_runs(pure(epsilon), shares)
        fooled += binom.sf(50 * shares.sum() - 1, 5000, most) < 0.05
    assert alarms / trials <= 0.05 + 2 * (0.05 * 0.95 / trials) ** 0.5
    assert fooled / trials > 0.2


def test_publishing_everything_with_chance_delta_refutes_nothing() -> None:
    """It is (0, delta)-DP, and fools a bound that forgets delta."""
    assert refuted(pure(0.0), 1000, 20, 20)
    assert not refuted(pure(0.0, 1e-3), 10**6, 20, 20)
    with pytest.raises(ValueError, match="right = 21: more than guesses = 20"):
        refuted(pure(0.0), 1000, 20, 21)


def test_thresholds_come_from_the_runs_before() -> None:
    """Scores of any size and sign of their middle: after the first runs nearly all guesses are right."""
    rng = np.random.default_rng(3)
    truth = torch.from_numpy(rng.random((50, 8)) < 0.5)
    scores = 1e6 + truth * 40.0 + torch.from_numpy(rng.normal(size=(50, 8)))
    assert shares_right(scores, truth)[1:].min() == 1.0
    assert shares_right(torch.from_numpy(rng.normal(size=(300, 8))), truth.repeat(6, 1)).mean() == pytest.approx(
        0.5, abs=0.04
    )
    later = truth.clone()
    later[30:] = ~later[30:]
    assert (shares_right(scores, later)[:30] == shares_right(scores, truth)[:30]).all(), "no coin is known beforehand"


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
