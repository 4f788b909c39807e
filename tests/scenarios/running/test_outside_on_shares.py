"""An aggregator from outside runs on shares as in the open, if a reader is enough for it; and learns no more."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoflip_secure.errors import InputError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.build import run_block
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.scenarios.store.reading import read_record

MODULE = '''
from typing import ClassVar

import torch

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.interfaces import Aggregate, Aggregator, Groups, ReadingAggregator


class Along(ReadingAggregator):
    """Weights max(0, cos(u_k, v)) / |u_k|, as in FLTrust (Cao et al. 2021), with the last step as v."""

    needs_guidance: ClassVar[bool] = False
    scores_clients: ClassVar[bool] = True
    known_by: ClassVar = ({"kind": "greedy_oracle", "stealth": 0.9},)

    def start(self, layout, weights, clients, exploration):
        return torch.zeros_like(weights)

    def decide(self, state, reader, view):
        norms, ones = reader.norms().to(view.samples), torch.ones_like(view.samples)
        scores = reader.cosines(state).to(view.samples).clamp(0, 1) if bool(state.any()) else ones
        trust = scores / norms.clamp_min(1e-12)
        trust = trust / trust.sum().clamp_min(1e-12)
        delta = reader.weighted_sum(trust)
        return Aggregate(delta, trust, scores, delta * view.layout.trained)


class Curious(Along):
    """Asks for as many entries of every row as it can get."""

    entries: int = 1000

    def decide(self, state, reader, view):
        reader.products(torch.eye(len(view.weights))[: self.entries])
        return super().decide(state, reader, view)


class Grouped(Along):
    """The same by squares."""

    def decide(self, state, reader, view):
        reader.squared_norms(Groups(torch.arange(len(view.weights)), len(view.weights)))
        return super().decide(state, reader, view)


class Peeking(Along):
    """Takes the view for one with rows."""

    def decide(self, state, reader, view):
        view.updates.mean()
        return super().decide(state, reader, view)


class Twice(Along):
    """Two sums make a third."""

    def decide(self, state, reader, view):
        reader.weighted_sum(torch.ones_like(view.samples) / len(view.samples))
        return super().decide(state, reader, view)


class Rows(Along):
    """A reading aggregator that looks at rows after all."""

    def aggregate(self, state, view):
        return super().aggregate(state, view)


class Profiled(AgreementWeighted):
    """A score of this package with another threshold, made outside."""

    zero_at: float = 2.5
'''
BASE = """
name: shares
clients: 6
cohort: 4
rounds: 3
partition: {kind: pathological, classes_per_client: 3}
training: {epochs: 1, batch_size: 32}
exploration: {epochs: 1, method: linear}
data: {kind: digits, train_samples: 240, test_samples: 80}
model: {kind: mlp, hidden: [10]}
attack: {kind: gaussian_noise, sigma: 0.5, clients: [1]}
seeds: [5]
"""
SECRET = "secure_sum={parties: 2, updates: true, sketch: null}"


@pytest.fixture(scope="module", autouse=True)
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shares")
    (folder / "own_readers.py").write_text(MODULE)
    sys.path.append(str(folder))
    yield folder
    sys.path.remove(str(folder))


def work(kind: str, *overrides: str) -> Plan:
    aggregator = f"{{kind: 'own_readers:{kind}'}}"
    algorithm = f"algorithm={{name: mine, pruner: none, aggregator: {aggregator}}}"
    return plan(resolve(Document.parse(BASE, "s.yaml"), (algorithm, *overrides)))


def swept(folder: Path, kind: str, *overrides: str) -> RunRecord:
    """The record of a whole sweep, with its own party processes."""
    run_sweep(work(kind, *overrides), folder, 1, Listener(lambda *_: None, print))
    (path,) = (folder / "cells").glob("*.json")
    return read_record(path)


def test_an_aggregator_from_outside_runs_on_shares_untouched(tmp_path: Path) -> None:
    (plain,), secret = run_block(work("Along").blocks[0]), swept(tmp_path / "out", "Along", SECRET)
    assert len(secret.rounds) == 3
    for one, other in zip(plain.rounds, secret.rounds, strict=True):
        assert one.participants == other.participants
        assert other.trust == pytest.approx(one.trust, abs=1e-3)
        assert other.scores == pytest.approx(one.scores, abs=1e-3)
        assert other.step_norm == pytest.approx(one.step_norm, rel=1e-3)
    assert secret.final_accuracy == pytest.approx(plain.final_accuracy, abs=0.03)
    assert plain.rounds[-1].scores != [1.0] * 4, "something was scored"
    assert secret.secure_sum is not None
    (phase,) = secret.secure_sum.phases
    assert (phase.phase, phase.batches, phase.sums) == ("updates", 3, 3)
    assert phase.numbers_per_client == 4 + 1 + 1  # the check, a norm, and a product from the second round on
    assert secret.secure_sum.server_sees == ["updates: a weighted sum, and a few numbers about each"]
    assert phase.largest_error is not None
    assert phase.largest_error < 1e-5


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Curious", r"own_readers:Curious': the aggregator asks for 760 numbers .* at most 18 with this model"),
        ("Grouped", r"the aggregator asks for 760 numbers about each client in one round, and"),
        ("Peeking", r"decide on 4 secret updates failed|aggregate of 4 updates failed with AttributeError"),
        ("Twice", r"asks for a second sum of one round"),
    ],
)
def test_who_wants_more_is_refused_before_anything_runs(kind: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(work(kind, SECRET).blocks)


def test_in_the_open_numbers_are_not_counted() -> None:
    for kind in ("Curious", "Grouped", "Twice"):
        check(work(kind).blocks)


def test_who_looks_at_rows_is_refused_when_the_scenario_is_read() -> None:
    with pytest.raises(InputError, match=r"'own_readers:Rows' needs every client's update.*write it as a Reading"):
        work("Rows", SECRET)
    check(work("Rows").blocks)


def test_a_score_of_this_package_may_be_derived_from() -> None:
    check(work("Profiled", SECRET).blocks)
