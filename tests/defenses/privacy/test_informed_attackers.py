"""Malicious clients that see what honest ones trained send on what clip norm and noise do not cover."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from ledger_cells import CENTRAL, by_observer, cell_of, scenario
from torch import Tensor

from autoflip_secure.defenses.privacy.schedule import schedule_of
from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import watch_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import UpdateAttack
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.privacy_planning import ledger, refuse_unproven

MIMIC = {"kind": "mimic", "index": 0, "clients": [7, 8, 9]}


class Rows(Watcher):
    """Keeps what the trusted server gets in round 1, clipped."""

    def __init__(self) -> None:
        self.first: tuple[Tensor, Tensor] | None = None

    def round(self, cell: Cell, before: ServerState, clients: Tensor, sent: Tensor, after: ServerState) -> None:
        self.first = self.first or (clients, sent.clone())


def test_one_client_moves_the_sum_by_more_than_the_clip_norm() -> None:
    """What the ledger may not call proven: three copies of a row move with it."""
    settings: dict[str, Any] = {"algorithm": "fedavg", "cohort": 10, "rounds": 1, "attack": MIMIC}
    cell = cell_of(**settings, privacy={**CENTRAL, "clip": 0.1, "allow_unproven": True})
    watch = Rows()
    trainer = CellBuilder().trainer(scenario(**settings).cells[0])
    watch_cells([cell], trainer, watch)
    assert watch.first is not None
    clients, rows = watch.first
    copied = int((~cell.malicious_in(1)).nonzero()[0])
    alike = [k for k, row in zip(clients.tolist(), rows, strict=True) if torch.equal(row, rows[copied])]
    assert alike == [copied, 7, 8, 9]
    assert rows[alike].sum(0).norm() == pytest.approx(0.4, rel=1e-4)


@pytest.mark.parametrize(
    "attack",
    [
        MIMIC,
        {"kind": "sign_flip", "of": "mean", "scope": 0.2},
        [{"kind": "gaussian_noise", "scope": 0.2}, {**MIMIC, "window": {"first": 6}, "explorers": False}],
    ],
)
@pytest.mark.parametrize("sampling", ["poisson", "fixed"])
def test_nothing_is_proven_against_anybody(attack: Any, sampling: str) -> None:
    settings = {"algorithm": "fedavg", "sampling": sampling, "attack": attack}
    cell = cell_of(**settings, privacy=CENTRAL)
    assert all(not one.proven and one.clients == [] for one in by_observer(ledger(cell)).values())
    assert "knows honest clients' updates without noise" in by_observer(ledger(cell))["public"].reason
    with pytest.raises(InputError, match=r"no guarantee: the attack .* without noise.*allow_unproven: true"):
        refuse_unproven(cell)
    with pytest.raises(InputError, match="no guarantee: the attack"):
        cell_of(**settings, privacy={"kind": "client_level", "target_epsilon": 8})
    allowed = {"kind": "client_level", "target_epsilon": 8, "allow_unproven": True}
    calm = cell_of(**{**settings, "attack": "none"}, privacy=allowed)
    if sampling == "poisson":  # where who is malicious makes no difference
        assert cell_of(**settings, privacy=allowed).noise_multipliers == calm.noise_multipliers, "as if it were proven"


@pytest.mark.parametrize(
    ("attack", "privacy"),
    [
        ({"kind": "gaussian_noise", "scope": 0.2}, CENTRAL),  # its own row
        ({"kind": "model_replacement", "scope": 0.2}, CENTRAL),  # its colluders'
        ({**MIMIC, "clients": None, "scope": 0.0}, CENTRAL),  # nobody
        (MIMIC, {"kind": "sample_level", "noise_multiplier": 1.0}),  # rows that have their noise
    ],
)
def test_attackers_that_see_nothing_without_noise_change_no_guarantee(attack: Any, privacy: Any) -> None:
    cell = cell_of(algorithm="fedavg", attack=attack, privacy=privacy)
    found = by_observer(ledger(cell))
    assert found["public"].proven
    assert found["public"].clients
    refuse_unproven(cell)


def test_an_attack_on_the_exploration_alone_counts_where_somebody_explores() -> None:
    early = {**MIMIC, "window": {"first": 0, "last": 0}}
    assert schedule_of(cell_of(attack=early, privacy=CENTRAL)).informed == ("mimic",)
    assert schedule_of(cell_of(algorithm="fedavg", attack=early, privacy=CENTRAL)).informed == ()


class Old(UpdateAttack):
    """Says nothing of what it knows, and is shown every row as trained."""

    kind: Literal["old"] = "old"

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: Any) -> Tensor:
        return updates


@pytest.mark.parametrize("noise", ["central", "distributed"])
def test_an_attack_that_does_not_say_what_it_knows_knows_everything(noise: str) -> None:
    cell = cell_of(algorithm="fedavg", privacy={**CENTRAL, "noise": noise})
    asked = replace(cell, protocol=cell.protocol.model_copy(update={"attack": Old(scope=0.2)}))
    assert not any(one.proven for one in by_observer(ledger(asked)).values())
