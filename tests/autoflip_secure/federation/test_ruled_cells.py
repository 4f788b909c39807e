"""Cells with local rules: what is explored, sent, counted and written down, and who may stand beside whom."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from digits_cells import CLIENTS, PROBLEM, cell, run
from seen_rounds import Seen
from torch import Tensor

from autoflip_secure.attacks.poisoning.label_flip import LabelFlip
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells, watch_cells
from autoflip_secure.federation.server import begin
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.interfaces import Exploration, TrainingSchedule
from autoflip_secure.local_rules.fedlex import FedLEx
from autoflip_secure.local_rules.proximal import Proximal
from autoflip_secure.pruning.threshold import ThresholdMask
from autoflip_secure.training import StackedTrainer

RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "proximal": {"local_rule": Proximal(mu=0.5)},
    "weak": {"local_rule": Proximal(mu=1e-9)},
    "fedlex": {"local_rule": FedLEx()},
    "pruned": {"local_rule": FedLEx(landscape="energy"), "pruner": ThresholdMask(refine_every=2)},
    "attacked": {"local_rule": FedLEx(apply="gradient"), "attack": LabelFlip(scope=0.3)},
}
CELLS = {name: cell(name, **settings) for name, settings in RULES.items()}
RECORDS = dict(zip(CELLS, run(*CELLS.values()), strict=True))


@pytest.mark.parametrize("name", ["proximal", "fedlex", "attacked"])
def test_cells_with_other_rules_in_a_block_change_nothing(name: str) -> None:
    [alone] = run(CELLS[name])
    assert alone.numbers() == RECORDS[name].numbers()


def test_both_trainers_agree_and_the_rule_matters() -> None:
    for name in ("proximal", "fedlex"):
        [sequential] = run(CELLS[name], kind="sequential")
        found, other = ([r.step_norm for r in record.rounds] for record in (sequential, RECORDS[name]))
        assert found == pytest.approx(other, rel=1e-3)
    norms = {name: RECORDS[name].rounds[0].step_norm for name in RECORDS}
    assert norms["weak"] == pytest.approx(norms["plain"], rel=1e-5)
    assert norms["proximal"] < 0.95 * norms["plain"]


def test_the_matrix_travels_once_to_each_client_and_only_down() -> None:
    """14 bytes of header and 4 a trained parameter; explorers are not told twice, for they are told in a round."""
    matrix = 14 + 4 * int(PROBLEM.layout.trained.sum())
    told: set[int] = set()
    for plain, ruled in zip(RECORDS["plain"].rounds, RECORDS["fedlex"].rounds, strict=True):
        assert plain.participants == ruled.participants
        new = set(plain.participants) - told
        told |= new
        assert ruled.bytes.downlink_values - plain.bytes.downlink_values == matrix * len(new)
        assert ruled.bytes.downlink_bitmask - plain.bytes.downlink_bitmask == matrix * len(new)
        assert (ruled.bytes.uplink_values, ruled.flops) == (plain.bytes.uplink_values, plain.flops)
    assert RECORDS["proximal"].costs.bytes == RECORDS["plain"].costs.bytes


def test_a_matrix_per_round_travels_to_every_participant_and_is_made_of_the_last_ones() -> None:
    found, matrix = list[tuple[Tensor, Tensor]](), 14 + 4 * int(PROBLEM.layout.trained.sum())

    class Keeping(Watcher):
        def exploration(self, cell: Cell, clients: Tensor, deviations: Tensor) -> None:
            found.append((clients, deviations))

    seen, explored = Seen(), Keeping()
    one = cell("per round", local_rule=FedLEx(matrix="per_round", rescale="none"), rounds=3)
    trainer = StackedTrainer()
    run_cells([one], trainer, watch=explored)
    [record] = run_cells([one], trainer, watch=seen)
    (clients, deviations), *_ = found
    for before, entry, plain in zip(seen.states, record.rounds, RECORDS["plain"].rounds, strict=False):
        assert entry.bytes.downlink_values - plain.bytes.downlink_values == matrix * len(entry.participants)
        here = clients.tolist() if entry.round == 1 else record.rounds[entry.round - 2].participants
        mean = torch.stack([deviations[clients.tolist().index(k)] for k in here]).double().square().mean(0)
        assert before.broadcast is not None
        for segment in PROBLEM.layout:
            own = mean[segment.slice]
            expected = ((own - own.min()) / (own.max() - own.min())).float()
            torch.testing.assert_close(before.broadcast[segment.slice], expected, atol=1e-4, rtol=1e-3)


def test_what_explores_and_what_is_written_down() -> None:
    assert RECORDS["plain"].exploration is None
    assert RECORDS["proximal"].exploration is None
    found, pruned = RECORDS["fedlex"], RECORDS["pruned"]
    assert found.exploration is not None
    assert pruned.exploration is not None
    [guided] = run(cell("guided", pruner=ThresholdMask(), rounds=1))
    assert guided.exploration is not None
    assert found.exploration.losses == pruned.exploration.losses == guided.exploration.losses  # phase 1 knows no rule
    assert found.exploration.explorers == list(range(CLIENTS))
    assert found.guidance is None  # nothing evolves where nobody asks for guidance
    assert pruned.guidance is not None
    assert found.pipeline[2] == "local training of live weights under the rule fedlex"
    assert RECORDS["plain"].pipeline[2] == "local training of live weights"


class Sees(Watcher):
    """Keeps the landscape's rows and the states."""

    def __init__(self) -> None:
        self.deviations = torch.zeros(0)
        self.states: list[ServerState] = []

    def exploration(self, cell: Any, clients: Any, deviations: Any) -> None:
        self.deviations = deviations

    def model(self, cell: Any, state: ServerState, accuracy: float | None) -> None:
        self.states.append(state)

    def round(self, cell: Any, before: ServerState, clients: Any, sent: Any, after: ServerState) -> None:
        self.states += [before, after]


def test_the_matrix_is_fixed_and_made_of_what_the_explorers_sent() -> None:
    sees = Sees()
    watch_cells([cell("x", local_rule=FedLEx(rescale="none"), rounds=2)], StackedTrainer(), sees)
    x = sees.deviations.double().square().mean(0)
    assert len(sees.states) == 4
    for state in sees.states:
        assert state.broadcast is not None
        for segment in PROBLEM.layout:
            own = x[segment.slice]
            expected = ((own - own.min()) / (own.max() - own.min())).float()
            torch.testing.assert_close(state.broadcast[segment.slice], expected, atol=1e-5, rtol=1e-4)


def test_the_trial_before_a_block_trains_by_the_rule() -> None:
    """A rule that mixes the models of a stack is noticed, and the record promises the block alone."""

    class Mixes(Proximal):
        def gradient(self, view: Any, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
            return [gradient - gradient.mean(0) for gradient in gradients]

    adam = {"training": TrainingSchedule(epochs=1), "rounds": 1}
    mixed, usual = run(cell("x", local_rule=Mixes(), **adam), cell("y", **adam)), RECORDS["proximal"]
    assert mixed[0].trainer.bits == "block"
    assert usual.trainer.bits == "stack"


def test_an_exploration_without_rows_scales_nothing() -> None:
    flat = Exploration(
        torch.arange(0), torch.zeros(0), torch.zeros(0, PROBLEM.layout.size),
        torch.full((PROBLEM.layout.size,), 1 / PROBLEM.layout.size), torch.zeros(0), torch.zeros(0).bool(),
    )  # fmt: skip
    state = begin(CELLS["fedlex"], flat)
    assert state.broadcast is not None
    assert (state.broadcast == 1).all()
