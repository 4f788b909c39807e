"""Rows -> other rows -> a step -> clients again; and running statistics, which no accepted client sets alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.defenses.aggregators.krum import Krum, MultiKrum
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import Median, TrimmedMean
from autoflip_secure.defenses.pre_aggregators.arc import ARC
from autoflip_secure.defenses.pre_aggregators.bucketing import Bucketing
from autoflip_secure.defenses.pre_aggregators.clip import Clip
from autoflip_secure.defenses.pre_aggregators.nnm import NNM
from autoflip_secure.federation.aggregating import Assumed, aggregate, premix
from autoflip_secure.interfaces import Aggregate, Aggregator, Exploration, Guidance, RoundView
from autoflip_secure.models.layout import Layout
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.config.tables import AGGREGATORS
from autoflip_secure.scenarios.running.build import run_block

NORMED = Layout.of(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)))
P, BUFFERS = NORMED.size, NORMED.where(*(s for s in NORMED.segments if s.kind == "buffer"))


def draws(place: int) -> torch.Generator:
    return torch.Generator().manual_seed(place)


def view(rows: Tensor, samples: Tensor | None = None) -> RoundView:
    n = len(rows)
    return RoundView(
        round=1, clients=torch.arange(n), samples=torch.ones(n) if samples is None else samples, updates=rows,
        weights=torch.ones(P), mask=torch.ones(P, dtype=torch.bool), layout=NORMED, shrinkage=torch.arange(n) * 0.1,
        guidance=Guidance(torch.ones(P), torch.ones(P)), generator=lambda *_: draws(0),
    )  # fmt: skip


def cohort(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, P, generator=torch.Generator().manual_seed(seed))


def run(aggregator: Aggregator, seen: RoundView, **options: Any) -> Aggregate:
    n, ones = len(seen.clients), torch.ones(len(seen.clients))
    explored = Exploration(torch.arange(n), ones, cohort(n, 9), torch.ones(P), ones, ones.bool())
    return aggregate(aggregator, aggregator.start(NORMED, seen.weights, n, explored), seen, draws, **options)


def test_without_pre_aggregators_the_aggregator_is_shown_what_there_is() -> None:
    seen = view(cohort(6))
    mixed = premix(TrimmedMean(), seen, draws)
    assert mixed.view is seen
    assert mixed.shares is None


def test_mixed_rows_have_mixed_samples_and_shrinkage() -> None:
    samples = torch.tensor([10.0, 20.0, 30.0, 40.0, 50.0])
    seen = view(cohort(5), samples)
    mixed = premix(Median(before=(Bucketing(size=2), Clip(norm=0.5))), seen, draws)
    assert len(mixed.view.updates) == len(mixed.view.clients) == 3
    shares = mixed.shares
    assert shares is not None
    torch.testing.assert_close(mixed.view.samples, shares @ samples)
    order = torch.randperm(5, generator=draws(0)).tolist()
    for row, bucket in enumerate((order[:2], order[2:4], order[4:])):
        assert shares[row].nonzero().squeeze(1).tolist() == sorted(bucket)
        mean = seen.updates[bucket].mean(0)
        factor = float(mixed.view.updates[row] @ mean / (mean @ mean))
        assert 0 < factor <= 1
        torch.testing.assert_close(mixed.view.updates[row], factor * mean)  # clipped after, not before
        torch.testing.assert_close(mixed.view.shrinkage[row], factor * seen.shrinkage[bucket].mean())


def test_a_client_is_trusted_as_the_rows_are_that_it_is_in() -> None:
    rows = torch.zeros(5, P)
    rows[:, 0] = torch.tensor([0.0, 0.1, 0.2, 0.35, 9.0])
    found = run(Krum(before=(NNM(),)), view(rows))  # f = 1: means of four; all honest rows become the same one
    assert found.trust.tolist() == pytest.approx([0.25, 0.25, 0.25, 0.25, 0])
    torch.testing.assert_close(found.delta[~BUFFERS], rows[:4].mean(0)[~BUFFERS])


def test_scores_are_means_over_the_rows_a_client_is_in() -> None:
    rows = cohort(5).abs()
    rows[4] = -30 * rows[0]
    seen = view(rows)
    aggregator = AgreementWeighted(before=(NNM(),))
    mixed, found = premix(aggregator, seen, draws), run(aggregator, seen)
    state = aggregator.start(NORMED, seen.weights, 5, None)
    inner = aggregator.aggregate(state, mixed.view)
    assert mixed.shares is not None
    assert inner.scores is not None
    assert found.scores is not None
    for k in range(5):
        weights = mixed.shares[:, k]
        assert float(found.scores[k]) == pytest.approx(float(weights @ inner.scores / weights.sum()), abs=1e-6)
    assert float(found.trust.sum()) == pytest.approx(float(inner.trust.sum()), abs=1e-6)
    assert set(found.statistics) == set(inner.statistics)


@pytest.mark.parametrize(
    ("aggregator", "rows", "before", "rules"),
    [
        (TrimmedMean(bad_share=0.3, before=(ARC(), NNM(bad_share=0.1))), 10, (3, 1),
         {"arc": 3, "nnm": 1, "trimmed_mean": 3}),
        (Median(before=(NNM(),)), 10, (2,), {"nnm": 2}),  # no f of its own: a fifth
        (TrimmedMean(bad_share=0.2, before=(Bucketing(size=2), NNM())), 10, (0, 2), {"nnm": 2, "trimmed_mean": 2}),
        (Krum(bad_share=0.3, before=(Bucketing(size=2),)), 20, (0,), {"krum": 4}),  # 6 of 10 buckets is not below half
        (Mean(), 10, (), {}),
        (MultiKrum(bad_share=0.4, before=(NNM(),)), 1, (0,), {"nnm": 0, "multi_krum": 0}),
    ],
)  # fmt: skip
def test_f_of_every_rule(aggregator: Aggregator, rows: int, before: tuple[int, ...], rules: dict[str, int]) -> None:
    found = Assumed.of(aggregator, rows)
    assert (found.before, found.rules) == (before, rules)


def test_f_after_bucketing_is_what_it_was_before() -> None:
    """Of ten rows two may be malicious, and so may two of the five buckets: one cut at each end is not enough."""
    seen = view(cohort(10))
    mixed = premix(TrimmedMean(before=(Bucketing(size=2),)), seen, draws)
    ordered = mixed.view.updates.sort(dim=0).values
    found = run(TrimmedMean(before=(Bucketing(size=2),)), seen, median_buffers=False)
    torch.testing.assert_close(found.delta, ordered[2])


KINDS = sorted(AGGREGATORS)


@pytest.mark.parametrize("kind", KINDS)
def test_no_accepted_client_sets_running_statistics(kind: str) -> None:
    """Client 0's trainable part lies in the middle of the others, so that it is accepted, and chosen by Krum; to
    FoolsGold, which accepts who is unlike the others, it is."""
    rows = torch.ones(7, P) + 0.1 * cohort(7)
    rows[0, ~BUFFERS] = rows[1:, ~BUFFERS].mean(0)
    rows[0] *= -1 if kind == "foolsgold" else 1
    rows[0, BUFFERS] = 1e6
    aggregator: Aggregator = AGGREGATORS[kind]()
    seen = replace(view(rows), root=torch.ones(P))
    found = run(aggregator, seen)
    assert float(found.trust[0]) > 0, "the doubt: it is accepted"
    assert float(found.delta[BUFFERS].abs().max()) < 2
    accepted = rows[found.trust > 0]
    expected = accepted if len(accepted) >= 3 else rows
    torch.testing.assert_close(found.delta[BUFFERS], expected[:, BUFFERS].quantile(0.5, dim=0))
    judged = run(aggregator, seen, median_buffers=False)
    torch.testing.assert_close(found.delta[~BUFFERS], judged.delta[~BUFFERS], rtol=0, atol=0)
    if kind in ("mean", "krum", "multi_krum", "agreement"):
        assert float(judged.delta[BUFFERS].abs().max()) > 1e4, "the doubt: without it, it would have set them"


def test_where_nobody_is_accepted_nothing_moves() -> None:
    class Nobody(Aggregator):
        def aggregate(self, state: Any, view: RoundView) -> Aggregate:
            return Aggregate(torch.zeros(P), torch.zeros(len(view.updates)), None, state)

    assert not run(Nobody(), view(cohort(5))).delta.any()


NETWORK = """
from math import prod

from torch import nn


def normed(input_shape, num_classes):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(prod(input_shape), 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, num_classes)
    )
"""
ATTACKED = """
name: attacked
clients: 5
cohort: 5
rounds: 4
training: {epochs: 2}
data: {kind: digits, train_samples: 500, test_samples: 200}
model: "attacked_nets:normed"
attack: {kind: buffers, scope: 0.2}
seeds: [3]
evaluate_every: 4
sweep: {product: {algorithm: [fedavg, multi_krum]}}
"""


@pytest.mark.slow
def test_a_model_with_batch_norm_learns_beside_absurd_running_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "attacked_nets.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))

    def accuracies() -> list[float]:
        blocks = plan(resolve(Document.parse(ATTACKED, "s.yaml"), ())).blocks
        return [record.final_accuracy for block in blocks for record in run_block(block)]

    assert min(accuracies()) > 0.6
    monkeypatch.setattr("autoflip_secure.federation.aggregating.with_median_buffers", lambda found, view: found.delta)
    assert max(accuracies()) < 0.3, "the doubt: averaged like weights, one client ruins the model"
