"""Frozen parameters get no noise and no attack, no plug-in can touch them, and audits are about the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from frozen_networks import CLIENTS, Memory, Y, cells, network, problem, trainer_for
from torch import Tensor, nn

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.exploration import ExplorationConfig
from autoflip_secure.algorithm.radial_agreement import RadialAgreement
from autoflip_secure.attacks.poisoning.gaussian_noise import GaussianNoise
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.privacy.mechanisms import ClientLevel
from autoflip_secure.defenses.privacy.module_checks import fixed
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.interfaces import Aggregate, Pruner, PruneView, RoundView
from autoflip_secure.scenarios.audits import clients as audit_clients
from autoflip_secure.scenarios.audits.claims import audited, claim
from autoflip_secure.scenarios.audits.labels import label_inference
from autoflip_secure.scenarios.audits.view import Views
from autoflip_secure.secure_rows.secret_rows import LocalRows
from autoflip_secure.secure_rows.secure_sum import Revealed, SecureSum, SecureSumConfig, SharedBatch, Traffic
from autoflip_secure.training import SequentialTrainer

# ------------------------------------------------------------------------------------ noise, attacks, plug-ins


@pytest.mark.parametrize("noise", ["central", "distributed"])
def test_client_level_noise_lies_where_something_travels(noise: Any) -> None:
    whole = problem(network(["1.weight", "3.bias"], norm=False))
    private = ClientLevel(noise=noise, noise_multiplier=1.0, clip=1.0)
    seen = Memory()
    own = replace(cells(whole, {"privacy": private, "rounds": 1})[0], noise_multipliers=(1.0,) * CLIENTS)
    run_cells([own], trainer_for(whole), watch=seen)
    moved = seen.states["0"].weights != whole.initial
    assert not moved[whole.layout.frozen].any()
    assert moved[whole.layout.sent].all()  # every one is noised


def test_gaussian_noise_attacks_trained_weights_alone() -> None:
    whole, seen = problem(network(["1.weight", "4.bias"], norm=True)), Memory()
    attack = {"attack": GaussianNoise(sigma=50.0, scope=1.0), "rounds": 1}
    run_cells(cells(whole, attack), SequentialTrainer(), watch=seen)
    (rows,) = seen.rows["0"]
    large = (rows.abs() > 5).any(0)
    assert not large[~whole.layout.trained].any()
    assert large[whole.layout.trained].all()
    assert not rows[:, whole.layout.frozen].any()


class Careless(Mean):
    """Moves everything."""

    kind: Any = "careless"

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        found = super().aggregate(state, view)
        return replace(found, delta=found.delta + 1)


class Cutting(Pruner):
    """Masks half of everything, and scales what is left."""

    kind: Any = "cutting"

    def mask(self, view: PruneView) -> Tensor:
        return torch.arange(len(view.mask)) % 2 == 0

    def rescale(self, weights: Tensor, old: Tensor, new: Tensor, view: PruneView) -> Tensor:
        return 2 * weights * new


def test_no_plug_in_can_touch_frozen_weights() -> None:
    whole = problem(network(["1.weight", "3.bias"]))
    seen = Memory()
    run_cells(cells(whole, {"pruner": Cutting(), "aggregator": Careless()}), trainer_for(whole), watch=seen)
    state, frozen = seen.states["0"], whole.layout.frozen
    assert torch.equal(state.weights[frozen], whole.initial[frozen])
    assert state.mask[frozen].all()
    assert not state.mask[~frozen].all()


class Batch(LocalRows, SharedBatch):
    """Rows in this process."""

    events, revealed = (), Revealed()

    def forget(self) -> None:
        """There is nobody who could."""


class Counting(SecureSum):
    """Parties in this process that note how long the rows are."""

    parties = 2

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def share(self, rows: Tensor, clients: tuple[int, ...]) -> Batch:
        self.lengths.append(rows.shape[1])
        return Batch(rows, clients)

    def tell(self, numbers: int) -> None:
        """What clients say of themselves takes no room in a row."""

    @property
    def traffic(self) -> Traffic:
        return Traffic(0, 0, 0, 0)


def test_secure_sums_are_as_long_as_what_is_trained() -> None:
    whole = problem(network(["1.weight", "5.bias"]))
    linear = {"exploration": ExplorationConfig(epochs=1, method="linear"), "rounds": 2}
    scored: list[Any] = [Mean(), AgreementWeighted(), RadialAgreement(noise="norm")]
    protocols = [{"aggregator": aggregator} | linear for aggregator in scored]
    secure = {"secure_sum": SecureSumConfig(parties=2, updates=True, sketch=None)}
    parties = Counting()
    open_ = run_cells(cells(whole, *protocols), trainer_for(whole))
    hidden = cells(whole, *[own | secure for own in protocols])
    shared = run_cells(hidden, trainer_for(whole), connect=lambda config: parties)
    for ours, theirs, same in zip(open_[:2], shared[:2], (2, 1), strict=True):  # then guidance sees no rows
        steps = [[entry.step_norm for entry in record.rounds[:same]] for record in (ours, theirs)]
        assert steps[0] == pytest.approx(steps[1], rel=1e-3)
    assert set(parties.lengths) == {974 - 768 - 10}
    assert len(parties.lengths) == 2 + 3 * 2  # two explore, three send updates


@pytest.mark.parametrize("affine", [True, False])
def test_a_replaced_normalisation_is_as_frozen_as_it_was(affine: bool) -> None:
    frozen, trained = nn.BatchNorm1d(4, affine=affine).requires_grad_(False), nn.BatchNorm1d(4)
    repaired = fixed(nn.Sequential(nn.Linear(3, 4), frozen, nn.Linear(4, 4), trained))
    assert [p.requires_grad for p in repaired[1].parameters()] == [False] * 2 * affine
    assert [p.requires_grad for p in repaired[3].parameters()] == [True] * 2


# ---------------------------------------------------------------------------------------------- audits


def test_canaries_have_their_length_where_something_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = problem(network(["1.weight", "1.bias"], norm=True))
    private = ClientLevel(noise="central", noise_multiplier=1.0, clip=1.0, allow_unproven=True)
    cell = replace(cells(whole, {"privacy": private, "rounds": 1})[0], noise_multipliers=(1.0,) * CLIENTS)
    planted: list[Tensor] = []
    inner = audit_clients.Canaries.__init__

    def noted(self: Any, known: Tensor, lengths: dict[int, Tensor]) -> None:
        planted.append(known)
        inner(self, known, lengths)

    monkeypatch.setattr(audit_clients.Canaries, "__init__", noted)
    claimed = claim(audited(cell), "public")
    assert claimed is not None
    audit_clients._runs(cell, claimed, "public", 1, "everything", (0, 0))
    assert planted
    trained = whole.layout.trained
    for known in planted:
        assert not known[:, ~trained].any()
        assert known.norm(dim=1).min() > 0.9  # a few of a direction's numbers lie on running statistics
        assert known[:, trained].ne(0).all()


def test_labels_are_not_guessed_from_a_frozen_output_layer() -> None:
    for frozen, readable in ((["1.weight"], True), (["5.weight"], True), (["5.weight", "5.bias"], False)):
        whole = problem(network(frozen))
        # nobody owns all classes
        few = replace(whole, clients=tuple(rows[Y[rows] < 7] for rows in whole.clients))
        (cell,) = cells(few, {"aggregator": AgreementWeighted(), "rounds": 1})
        views, trainer = Views(), trainer_for(few)
        run_cells([cell], trainer, watch=views)
        found = label_inference(cell, trainer, views)
        assert bool(found) == readable
        assert not readable or found[0].auc > 0.6
