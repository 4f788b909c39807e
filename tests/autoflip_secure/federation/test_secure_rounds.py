"""Sums of rows that bring their own noise: none is asked for that lacks a row, and no honest row falls out of range."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.secure_rounds import LARGEST_ENTRY, NEVER, largest_clip, secret_mean
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.secure_rows.secret_rows import LocalRows
from autoflip_secure.secure_rows.secure_sum import Revealed, SecureSum, SecureSumConfig, SharedBatch, Traffic

SUMS = "{parties: 2, updates: true}"


class Batch(LocalRows, SharedBatch):
    """Rows in this process; remembers whether their sum was asked for."""

    def __init__(self, values: Tensor, clients: tuple[int, ...], lost: tuple[int, ...]) -> None:
        super().__init__(values, clients)
        self.events = tuple(f"client {k}: no share reached party 1: left out" for k in lost)
        self.revealed, self.forgotten = Revealed(), False

    def total(self, weights: Tensor | None = None) -> Tensor:
        self.revealed = Revealed(sums=self.revealed.sums + 1)
        return super().total(weights)

    def forget(self) -> None:
        self.forgotten = True


class Lossy(SecureSum):
    """Parties that the shares of some clients do not reach, from the second batch on."""

    parties = 2

    def __init__(self, lost: tuple[int, ...]) -> None:
        self.lost, self.batches = lost, list[Batch]()

    def share(self, rows: Tensor, clients: tuple[int, ...]) -> Batch:
        arrived = [place for place, k in enumerate(clients) if k not in self.lost or not self.batches]
        lost = tuple(k for place, k in enumerate(clients) if place not in arrived)
        self.batches.append(Batch(rows[arrived], tuple(clients[place] for place in arrived), lost))
        return self.batches[-1]

    @property
    def traffic(self) -> Traffic:
        return Traffic(0, 0, 0, 0)


@pytest.mark.parametrize("noised", [True, False])
def test_a_sum_that_lacks_a_share_of_the_noise_is_not_asked_for(noised: bool) -> None:
    parties, rows = Lossy((4,)), torch.ones(3, 5)
    clients, alike, live = (3, 4, 5), torch.ones(3, dtype=torch.int64), torch.ones(5, dtype=torch.bool)
    for lost in (False, True):
        found = secret_mean(clients, rows, alike, live, parties, noised=noised)
        batch = parties.batches[-1]
        assert batch.forgotten
        whole = not (noised and lost)
        assert batch.revealed.sums == found.revealed.sums == int(whole)
        assert found.taken.tolist() == [whole, whole and not lost, whole]
        assert bool(found.delta.any()) == whole
        assert ("no step: of clients 4 no share of the noise arrived" in str(found.events)) == (not whole)


def test_who_sends_a_value_out_of_range_follows_no_protocol_and_holds_nobody_up() -> None:
    rows = torch.ones(3, 5)
    rows[1, 2] = 2 * LARGEST_ENTRY
    live = torch.ones(5, dtype=torch.bool)
    found = secret_mean((3, 4, 5), rows, torch.ones(3, dtype=torch.int64), live, Lossy(()), noised=True)
    assert found.taken.tolist() == [True, False, True]
    assert torch.equal(found.delta, torch.ones(5))


SMALL: dict[str, Any] = {
    "data": {"kind": "digits", "train_samples": 120, "test_samples": 40}, "model": {"kind": "mlp", "hidden": [4]},
    "clients": 4, "cohort": 3, "rounds": 4, "seeds": [31], "algorithm": "fedavg", "partition": "iid",
    "secure_sum": {"parties": 2, "updates": True},
    "privacy": {"kind": "client_level", "noise": "distributed", "noise_multiplier": 2.0},
}  # fmt: skip


def test_a_round_in_which_noise_went_missing_takes_no_step_and_says_so() -> None:
    """The ledger counts every share of the noise in every sum; a sum that lacks one must not be seen by anybody."""
    spec = resolve(Document("here", SMALL)).cells[0]
    builder = CellBuilder()
    cell, trainer = builder.cell(spec, spec, torch.device("cpu")), builder.trainer(spec)
    parties = Lossy((2,))

    def connect(config: SecureSumConfig) -> SecureSum:
        return parties

    (record,) = run_cells([cell], trainer, connect=connect)
    lacking = [one for one in record.rounds[1:] if 2 in one.participants]
    assert lacking
    assert len(lacking) < 3
    for one, batch in zip(record.rounds, parties.batches, strict=True):
        assert (one.step_norm == 0) == (one in lacking)
        assert (batch.revealed.sums == 0) == (one in lacking)
        event = f"round {one.round}: no step: of clients 2 no share of the noise arrived"
        assert (event in str(record.events)) == (one in lacking)


def test_noise_that_went_missing_on_another_channel_ends_the_round_before_anything_is_summed() -> None:
    taylor = {"name": "own", "pruner": {"kind": "taylor", "every": 1, "until": 1.0, "bound": 0.1}, "aggregator": "mean"}
    spec = resolve(Document("here", {**SMALL, "algorithm": taylor})).cells[0]
    builder = CellBuilder()
    cell, trainer = builder.cell(spec, spec, torch.device("cpu")), builder.trainer(spec)
    parties = Lossy((2,))
    (record,) = run_cells([cell], trainer, connect=lambda config: parties)
    whole = [one for one in record.rounds if 2 not in one.participants]
    lacking = [one for one in record.rounds[1:] if 2 in one.participants]
    assert lacking
    assert whole
    for one in lacking:
        assert one.step_norm == 0
        assert f"round {one.round}: units: no step: of clients 2 no share of the noise arrived" in str(record.events)
    lost = [batch for batch in parties.batches if 2 not in batch.clients and batch.events]
    assert len(lost) >= len(lacking)
    assert all(batch.forgotten and batch.revealed.sums == 0 for batch in lost)
    assert all(one.step_norm > 0 for one in whole)


def test_reports_whose_noise_may_fall_out_of_range_are_refused() -> None:
    def blocks(bound: float) -> Any:
        pruner = {"kind": "taylor", "every": 1, "until": 1.0, "bound": bound}
        return plan(resolve(Document("here", {**SMALL, "algorithm": {"name": "own", "pruner": pruner,
                                                                     "aggregator": "mean"}}))).blocks  # fmt: skip

    with pytest.raises(InputError, match=r"channel units with bound 30 .* beyond \+-256") as refused:
        check(blocks(30.0))
    check(blocks(float(str(refused.value).split("give a bound of ")[1].split()[0])))


@given(st.floats(0, 1e4), st.integers(1, 10**13))
def test_the_largest_clip_leaves_room_for_all_noise_of_a_run(noise: float, entries: int) -> None:
    """By the exact tail of the normal distribution."""
    clip = largest_clip(noise, entries)
    assert 0 < clip <= LARGEST_ENTRY
    if noise > 1e-6:
        log_chance = torch.tensor(2.0 * entries).log() + norm.logsf((LARGEST_ENTRY - clip) / (noise * clip))
        assert log_chance <= torch.tensor(NEVER, dtype=torch.float64).log() + 1e-6
        assert log_chance > torch.tensor(NEVER, dtype=torch.float64).log() - 5, "no stricter than it needs to be"


def test_settings_whose_noise_may_fall_out_of_range_are_refused_with_a_clip_that_fits() -> None:
    def blocks(clip: float) -> Any:
        return plan(resolve(Document("here", {**SMALL, "privacy": {**SMALL["privacy"], "clip": clip}}))).blocks

    with pytest.raises(InputError, match=r"privacy\.clip = 30: with .* beyond \+-256") as refused:
        check(blocks(30.0))
    fits = float(str(refused.value).split("give clip: ")[1].split()[0])
    assert 10 < fits < 30
    check(blocks(fits))
    parties_do_without = {**SMALL, "secure_sum": "none", "privacy": {**SMALL["privacy"], "clip": 30.0}}
    check(plan(resolve(Document("here", parties_do_without))).blocks)


def test_equal_weights_are_equal_in_the_open_and_in_shares() -> None:
    """Clients differ in size; the step of one round is the mean of what they sent, whoever computes it."""
    text = """
    clients: 4
    cohort: 4
    rounds: 1
    seeds: [3]
    partition: {kind: dirichlet, alpha: 0.5}
    data: {kind: digits, train_samples: 200, test_samples: 50}
    model: {kind: mlp, hidden: [8]}
    algorithm: {name: mine, pruner: none, aggregator: {kind: mean, weighting: WEIGHTS}}
    """
    trust: dict[tuple[str, str], list[float]] = {}
    steps: dict[tuple[str, str], float] = {}
    for weighting in ("equal", "samples"):
        for sums in ("none", SUMS):
            document = Document.parse(text.replace("WEIGHTS", weighting), "s.yaml")
            (block,) = plan(resolve(document, (f"secure_sum={sums}",))).blocks
            builder = CellBuilder()
            cell = builder.cell(block.cells[0], block.cells[0], torch.device("cpu"))
            (record,) = run_cells([cell], builder.trainer(block.cells[0]), connect=lambda _: Lossy(()))
            trust[weighting, sums], steps[weighting, sums] = record.rounds[0].trust, record.rounds[0].step_norm
    assert trust["equal", "none"] == trust["equal", SUMS] == [0.25] * 4
    assert len(set(trust["samples", "none"])) > 1
    for weighting in ("equal", "samples"):
        assert steps[weighting, SUMS] == pytest.approx(steps[weighting, "none"], rel=1e-4)
    assert steps["equal", "none"] != pytest.approx(steps["samples", "none"], rel=1e-3)
