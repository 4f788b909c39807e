"""Audits of what clients send beside their updates: canaries are planted there, and planted faults are found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from audited_cells import SMALL, built
from sizes import sized

from autoflip_secure.defenses.privacy import ledger as ledgers
from autoflip_secure.defenses.privacy.mechanisms import ClientLevel
from autoflip_secure.federation.cell import Cell
from autoflip_secure.interfaces import ChannelRequest, ClientView
from autoflip_secure.records.audit import EmpiricalEpsilon
from autoflip_secure.scenarios.audits.cell_audit import _beside, audit
from autoflip_secure.scenarios.audits.client_canaries import LENGTH, Planted
from autoflip_secure.scenarios.audits.clients import bounds_of, client_epsilons
from autoflip_secure.scenarios.running.privacy_planning import ledger

TAYLOR = "algorithm: {name: taylor, pruner: {every: 1, until: 1, bound: 0.1}}\nrounds: 8\n"
LEVEL = "privacy: {kind: client_level, clip: 1.0, noise: "
CENTRAL = TAYLOR + LEVEL + "central, noise_multiplier: 2}\nsampling: poisson\n"
DISTRIBUTED = TAYLOR + LEVEL + "distributed, noise_multiplier: 4}\n"
SUMMED = DISTRIBUTED + "secure_sum: {parties: 3, updates: true}\n"


def bounds(folder: Path, mode: str, runs: int) -> tuple[Cell, list[EmpiricalEpsilon]]:
    cell, _ = built(folder, mode)
    return cell, client_epsilons(cell, replace(SMALL, client_runs=runs), 0.98)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [CENTRAL, DISTRIBUTED, SUMMED], ids=["central", "distributed", "summed"])
def test_update_and_channel_together_show_no_more_than_is_proven(mode: str, tmp_path: Path) -> None:
    cell, found = bounds(tmp_path, mode, sized(20, 40))
    assert len(found) == bounds_of(cell)
    assert [bound.part for bound in found].count("channels") == 1
    made = ledger(cell)
    assert made is not None
    for bound in found:
        assert bound.proven is not None
        assert bound.can_fail
        assert not bound.violated
        if bound.noise == "as run":
            assert bound.proven == made.epsilon(bound.observer)
    assert max(bound.lower for bound in found) > 0


@pytest.mark.slow
def test_a_channel_that_nobody_noises_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClientLevel, "publish_channel", lambda self, channel, mean, view: mean)
    _, found = bounds(tmp_path, CENTRAL.replace("rounds: 8", "rounds: 3"), 20)
    (alone,) = [bound for bound in found if bound.part == "channels"]
    assert alone.violated
    assert alone.right > 0.9 * alone.guesses


@pytest.mark.slow
def test_rows_of_a_channel_that_clients_do_not_noise_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClientLevel, "send_channel", lambda self, channel, rows, view: rows)
    _, found = bounds(tmp_path, DISTRIBUTED, 20)
    (alone,) = [bound for bound in found if bound.part == "channels"]
    assert alone.violated


@pytest.mark.slow
def test_a_ledger_that_forgets_the_channel_is_found_by_looking_at_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts the update as if nothing were released with it: too little by a factor of the square root of 2."""
    monkeypatch.setattr(ledgers, "joint", lambda noise, beside: noise)
    _, found = bounds(tmp_path, CENTRAL, 300)
    assert any(bound.violated for bound in found if bound.part == "everything")
    assert not any(bound.violated for bound in found if bound.part == "channels"), "alone, either is as it says"


def test_canaries_are_longer_than_the_bound_and_out_is_what_the_ledgers_neighbours_are(tmp_path: Path) -> None:
    cell, _ = built(tmp_path, DISTRIBUTED)
    ((channel, source),) = [
        (channel, one)
        for one in cell.channel_sources
        for channel in one.wants(_asked(cell))
    ]  # fmt: skip
    known = {(channel.name, channel.size): torch.eye(10, channel.size)}
    (planted, _) = Planted(known, torch.tensor([1.0, 0.0, -1.0] + 7 * [1.0])).sources(cell.channel_sources)
    assert planted.wants(_asked(cell)) == source.wants(_asked(cell))
    zeros, layout = torch.zeros(3, 4), cell.problem.layout
    clients, held = torch.tensor([2, 0, 1]), torch.ones(3, 4, dtype=torch.bool)
    view = ClientView(1, 8, clients, torch.ones(3), zeros, zeros, held, layout, None, lambda at: zeros)
    rows = planted.measure(channel, view)
    assert LENGTH * (channel.bound or 0) == 100
    assert rows[:, :3].tolist() == [[0, 0, -100], [100, 0, 0], [0, 0, 0]]


def _asked(cell: Cell) -> Any:
    return ChannelRequest(1, cell.protocol.rounds, cell.problem.layout, cell.problem.units)


@pytest.mark.slow
def test_an_audit_says_what_it_attacks_of_what_is_sent_beside_updates(tmp_path: Path) -> None:
    cell, trainer = built(tmp_path, CENTRAL)
    record = audit(cell, trainer, "audited", replace(SMALL, client_runs=sized(20, 40)))
    assert any("send units beside their updates: canaries of clients are planted there too" in n for n in record.notes)
    assert record.empirical
    assert not any(bound.violated for bound in record.empirical)
    assert record.privacy is not None
    plain, _ = built(tmp_path, TAYLOR)
    (note,) = _beside(plain)
    assert note.startswith("clients send units beside their updates, which this audit does not attack")
    silent, _ = built(tmp_path, CENTRAL.replace("{name: taylor, pruner: {every: 1, until: 1, bound: 0.1}}", "fedavg"))
    assert _beside(silent) == []
