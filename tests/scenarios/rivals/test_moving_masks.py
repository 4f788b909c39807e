"""Masks that the server moves by what clients send, in scenarios: through parties, under privacy, and from outside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from secure_scenarios import blocks_of, run

from autoflip_secure.defenses.privacy.ledger import releases
from autoflip_secure.defenses.privacy.schedule import schedule_of
from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.loading import CellSpec
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.running.parties import party_pool

BASE = """
clients: 6
cohort: 3
rounds: 5
seeds: [1]
algorithm: {name: own, pruner: {kind: fedtiny, density: 0.3, every: 2, until: 1.0}, aggregator: mean}
"""
VOTING = "algorithm.pruner={kind: fedrts, density: 0.3, every: 2, until: 1.0}"
SECURE = "sweep: {product: {secure_sum: [none, {parties: 2, updates: true}]}}"
OWN = '''
import torch

from autoflip_secure.interfaces import Pruner


class Streaks(Pruner):
    """Weights go that were small in three rounds on end."""

    def remember(self, view):
        small = view.weights.abs() < 0.05
        return {REMEMBERED}

    def mask(self, view):
        return view.mask & ((view.memory["streak"] < 3) | ~view.layout.prunable)
'''
RIGHT = '{"streak": torch.where(small, view.memory.get("streak", torch.zeros_like(view.weights)) + 1, 0.0)}'


@pytest.mark.slow
@pytest.mark.parametrize(("overrides", "name"), [([], "gradient"), ([VOTING], "votes")])
def test_what_moves_the_mask_may_come_in_shares(overrides: list[str], name: str) -> None:
    work = blocks_of(BASE + SECURE, *overrides)
    with party_pool(work) as pool:
        plain, secure = run(work, pool).values()
    assert plain.digests == secure.digests
    assert secure.final_loss == pytest.approx(plain.final_loss, abs=1e-4)
    assert plain.costs.channels is not None
    assert list(plain.costs.channels) == [name]
    assert secure.secure_sum is not None
    assert secure.secure_sum.server_sees == ["updates: their weighted sum", f"{name}: their weighted sum"]


def test_gradients_are_a_release_of_the_ledger_and_votes_are_refused() -> None:
    private = "privacy={kind: client_level, noise_multiplier: 1.0}"
    (work,) = blocks_of(BASE, private, "algorithm.pruner.bound=0.1", "sampling=poisson")
    check([work])
    spec: CellSpec = work.cells[0]
    found, reason = releases(schedule_of(CellBuilder().cell(spec, spec, torch.device("cpu"))), "public")
    assert reason == ""
    assert [(one.name, one.steps) for one in found] == [("updates", 3), ("updates, gradient", 2)]  # of five rounds
    for overrides, said in (
        ([private], "give algorithm.pruner.bound, use another pruner, or privacy: none"),
        (["privacy=sample_level"], "the pruner fedtiny has clients send gradient beside their update, measured on"),
        ([VOTING, private], "in 1 bits a number, and noise that is rounded is not the noise of the ledger"),
        ([VOTING, "privacy=sample_level"], "DP-SGD covers updates alone"),
    ):
        with pytest.raises(InputError, match=said):
            check(blocks_of(BASE, *overrides))


@pytest.mark.parametrize(
    ("remembered", "said"),
    [
        (RIGHT, None),
        ("[small]", "remember should give named tensors: a dict of name -> tensor"),
        ('{"streak": view.memory.get("streak", torch.zeros(1)).add_(1)}', "remember changes what it is shown in place"),
        ('{"streak": torch.rand(1)}', "remember gives another answer when it is asked the same again"),
    ],
)
def test_a_memory_from_outside_is_tried_and_kept(
    remembered: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"own_streaks_{abs(hash(remembered))}"
    (tmp_path / f"{name}.py").write_text(OWN.replace("{REMEMBERED}", remembered))
    monkeypatch.syspath_prepend(str(tmp_path))
    (work,) = blocks_of(BASE, f"algorithm.pruner={{kind: '{name}:Streaks'}}")
    if said is not None:
        with pytest.raises(InputError, match=said):
            check([work])
        return
    check([work])
    (record,) = run_block(work)
    before = [one.density for one in record.rounds]  # the mask of round 3 was made after rounds 0, 1 and 2
    assert before[:2] == [1.0, 1.0]
    assert before[2] < 1
