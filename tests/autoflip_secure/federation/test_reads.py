"""What the server's side reads of tensors, number by number, is read once a round and not once a cell."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from digits_cells import cell
from torch import Tensor

from autoflip_secure.federation.arriving import Cohort
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channels import Measured
from autoflip_secure.federation.clients import Usable, listed
from autoflip_secure.federation.server import begin, finish_rounds

READS = ("tolist", "item", "__bool__", "__float__", "__int__", "__index__")


class Reads:
    """Counts what is asked of tensors on the host."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.of = Counter[str]()
        for name in READS:
            patch.setattr(Tensor, name, self._counting(name, getattr(Tensor, name)))

    def _counting(self, name: str, inner: Any) -> Any:
        def counted(tensor: Tensor, *args: Any) -> Any:
            self.of[name] += 1
            return inner(tensor, *args)

        return counted


def cohorts(cells: list[Cell], lost: int = 0) -> list[Cohort]:
    """Made-up rows, the first ``lost`` of each cell not finite."""
    found = []
    for number, one in enumerate(cells):
        clients = one.cohort(1)
        rows = torch.randn(len(clients), one.problem.layout.size, generator=torch.Generator().manual_seed(number))
        rows[:lost] = torch.nan
        found.append(Cohort(clients, 0.01 * rows, Measured()))
    return found


def test_reads_of_a_round_do_not_grow_with_the_cells() -> None:
    counts = []
    for number in (2, 5):
        cells = [cell(name=f"cell {seed}", seed=seed) for seed in range(number)]
        states, sent = [begin(one, None) for one in cells], cohorts(cells)
        finish_rounds(cells, states, sent)  # what is remembered of masks, layouts and cells is known from now on
        with pytest.MonkeyPatch.context() as patch:
            reads = Reads(patch)
            finish_rounds(cells, states, sent)
        counts.append(reads.of)
    assert counts[0] == counts[1]
    assert sum(counts[0].values()) > 0


@pytest.mark.parametrize("lost", [0, 2, 4])
def test_each_cell_is_told_its_own_numbers(lost: int) -> None:
    cells = [cell(name=f"cell {seed}", seed=seed, cohort=3 + seed) for seed in range(4)]
    states, sent = [begin(one, None) for one in cells], cohorts(cells, lost)
    together = finish_rounds(cells, states, sent)
    for one, state, cohort, (after, outcome) in zip(cells, states, sent, together, strict=True):
        ((alone, apart),) = finish_rounds([one], [state], [cohort])
        assert torch.equal(after.weights, alone.weights)
        assert (outcome.trust, outcome.participants, outcome.rejected) == (
            apart.trust,
            apart.participants,
            apart.rejected,
        )
        assert outcome.participants == cohort.clients.tolist()
        assert outcome.rejected == outcome.participants[:lost]
        assert [share > 0 for share in outcome.trust] == [k not in outcome.rejected for k in outcome.participants]


def test_usable_rows_are_chosen_and_the_others_named() -> None:
    some, everyone = Usable.of(torch.tensor([True, False, True]), torch.tensor([True, True]))
    assert (some.everyone, some.anybody, everyone.everyone) == (False, True, True)
    rows = torch.arange(6.0).view(3, 2)
    assert some.chosen(rows).tolist() == [[0.0, 1.0], [4.0, 5.0]]
    assert everyone.chosen(rows[:2]).data_ptr() == rows.data_ptr()
    assert some.others([7, 8, 9]) == [8]
    assert not Usable.of(torch.zeros(2, dtype=torch.bool))[0].anybody
    assert listed([]) == []
    assert listed([torch.tensor([1, 2]), torch.zeros(0, dtype=torch.long), torch.tensor([3])]) == [[1, 2], [], [3]]
