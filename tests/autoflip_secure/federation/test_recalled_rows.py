"""Rows of absent clients in a round: the last one of each, and what is said of who is here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from digits_cells import PROBLEM, cell, run
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import sized
from torch import Tensor

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.algorithm.exploration import explore
from autoflip_secure.defenses.aggregators.mean import Mean
from autoflip_secure.defenses.aggregators.median import TrimmedMean
from autoflip_secure.defenses.pre_aggregators.last_rows import LastRows
from autoflip_secure.defenses.pre_aggregators.nnm import NNM
from autoflip_secure.federation.aggregating import Remembering
from autoflip_secure.federation.attack_trial import defence_of
from autoflip_secure.federation.channels import Measured
from autoflip_secure.federation.server import begin, finish_round
from autoflip_secure.interfaces import Aggregate, Aggregator, ClientRows, RoundView

P = PROBLEM.layout.size
CLIENTS = len(PROBLEM.clients)
ALIVE = torch.ones(P, dtype=torch.bool)


class Telling(Aggregator):
    """The mean; trust and scores by a client's number, and what it was shown goes into the statistics."""

    scores_clients = True
    known_by = ({"kind": "sign_flip"},)

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """As it says."""
        trust = (view.clients + 1.0) / (view.clients + 1.0).sum()
        return Aggregate(trust @ view.updates, trust, trust, state, {"samples": view.samples})


def rounds(momentum: float, cohorts: list[list[int]], aggregator: Aggregator | None = None) -> list[tuple[Any, Tensor]]:
    """Of each round its outcome and its honest rows."""
    before = (LastRows(momentum=momentum),)
    one = cell(aggregator=aggregator or Mean(weighting="equal", before=before), cohort=3)
    state, found = begin(one, None), list[tuple[Any, Tensor]]()
    for number, cohort in enumerate(cohorts):
        rows = 1e-3 * torch.randn(len(cohort), P, generator=torch.Generator().manual_seed(number))
        state, outcome = finish_round(one, state, torch.tensor(cohort), rows)
        found.append((outcome, rows))
    return found


@given(
    st.lists(st.lists(st.integers(0, CLIENTS - 1), min_size=3, max_size=3, unique=True), min_size=1, max_size=5),
    st.sampled_from([0.0, 0.7]),
)
@settings(max_examples=sized(8, 60))
def test_every_step_is_made_of_what_all_clients_said_last(cohorts: list[list[int]], momentum: float) -> None:
    """MIFA by hand: m_k <- beta m_k + (1 - beta) u_k, and the mean over all that were seen."""
    memory: dict[int, Tensor] = {}
    for (outcome, rows), cohort in zip(rounds(momentum, cohorts), cohorts, strict=True):
        for k, row in zip(cohort, rows, strict=True):
            memory[k] = momentum * memory[k] + (1 - momentum) * row if k in memory else row
        torch.testing.assert_close(outcome.delta, sum(memory.values()) / len(memory), rtol=1e-4, atol=1e-8)
        assert outcome.aggregated == len(memory)
        assert sum(outcome.trust) == pytest.approx(1)
        assert len(outcome.trust) == len(cohort)


def test_trust_and_scores_are_those_of_who_is_here() -> None:
    (_, _), (second, _) = rounds(0.0, [[0, 1, 2], [7, 2, 5]], Telling(before=(LastRows(),)))
    assert second.trust == pytest.approx([8 / 17, 3 / 17, 6 / 17])
    assert second.scores == pytest.approx([8 / 20, 3 / 20, 6 / 20])  # of 0, 1, 2, 5 and 7 together
    mixed = rounds(0.0, [[0, 1, 2], [7, 2, 5]], Telling(before=(LastRows(), NNM(bad_share=0.0))))[1][0]
    assert mixed.trust == pytest.approx([1 / 3] * 3, abs=1e-6), "every row is the mean of all"


def test_what_was_pruned_meanwhile_is_zero_and_what_is_shown_stays_as_it_is() -> None:
    rows = ClientRows(torch.tensor([3, 1]), torch.ones(2, P), torch.tensor([5.0, 6.0]), torch.tensor([0.1, 0.2]))
    memory = LastRows().start(4)
    _, after = LastRows().recall(memory, rows, ALIVE)
    assert memory == (None,) * 4
    alive = torch.arange(P) < 10
    later = ClientRows(torch.tensor([2]), 2 * alive[None].float(), torch.tensor([7.0]), torch.zeros(1))
    found, _ = LastRows().recall(after, later, alive)
    assert found.clients.tolist() == [2, 1, 3]
    assert found.samples.tolist() == [7, 6, 5]
    assert torch.equal(found.updates, torch.tensor([[2.0], [1.0], [1.0]]) * alive)


def test_a_trial_knows_the_memory_and_leaves_it_as_it_is() -> None:
    one = cell(aggregator=AgreementWeighted(before=(LastRows(),)), cohort=3)
    explored = 0.01 * torch.randn(CLIENTS, P)
    losses = [[1.0]] * CLIENTS
    state = begin(one, explore(torch.arange(CLIENTS), torch.ones(CLIENTS), explored, "paper", losses, "numbers"))
    for number in range(2):
        rows = 0.01 * torch.randn(3, P, generator=torch.Generator().manual_seed(number))
        state, _ = finish_round(one, state, torch.tensor([number, 4, 5]), rows)
    defence = defence_of(one, state, torch.tensor([1, 2, 3]), Measured())
    assert defence is not None
    assert defence.trial is not None
    assert isinstance(state.aggregator, Remembering)
    assert defence.state is state.aggregator.own, "an attack that knows the aggregator's memory finds it"
    kept = state.aggregator.memory
    tried = defence.trial(rows)
    assert state.aggregator.memory is kept
    _, outcome = finish_round(one, state, torch.tensor([1, 2, 3]), rows)
    assert torch.equal(tried.delta, outcome.delta)


def test_a_client_that_sends_what_cannot_be_used_keeps_its_last_row() -> None:
    one = cell(aggregator=Mean(weighting="equal", before=(LastRows(),)), cohort=2)
    state = begin(one, None)
    first = torch.stack([torch.full((P,), 1e-3), torch.full((P,), 3e-3)])
    state, _ = finish_round(one, state, torch.tensor([0, 1]), first)
    broken = torch.stack([torch.full((P,), torch.nan), torch.full((P,), 5e-3)])
    state, outcome = finish_round(one, state, torch.tensor([0, 2]), broken)
    torch.testing.assert_close(outcome.delta, torch.full((P,), 3e-3), rtol=1e-4, atol=0)
    assert outcome.rejected == [0]


def test_f_is_of_all_rows_and_in_the_record() -> None:
    """With ten clients known two of them may be malicious, though a cohort has four."""
    (record,) = run(cell(aggregator=TrimmedMean(bad_share=0.2, before=(LastRows(),)), cohort=4, rounds=12))
    found = [entry.assumed_malicious["trimmed_mean"] for entry in record.rounds if entry.assumed_malicious]
    assert found[0] == 1
    assert found[-1] == 2


def test_together_in_a_block_or_alone_the_numbers_are_the_same() -> None:
    cells = [cell(name, seed, aggregator=Mean(before=(LastRows(momentum=m),)), rounds=3) for name, seed, m in
             (("a", 0, 0.0), ("b", 1, 0.5))]  # fmt: skip
    together = run(*cells, kind="sequential")
    alone = [run(one, kind="sequential")[0] for one in cells]
    assert [r.digests for r in together] == [r.digests for r in alone]
    assert [r.final_loss for r in together] == [r.final_loss for r in alone]


def test_what_is_kept_of_a_client_is_its_own_row_alone() -> None:
    """A part of the round's rows would keep all of them in memory, whoever comes back first."""
    rows = ClientRows(torch.arange(4), torch.randn(4, P), torch.ones(4), torch.zeros(4))
    _, memory = LastRows().recall(LastRows().start(CLIENTS), rows, ALIVE)
    assert [one.update.untyped_storage().nbytes() for one in memory if one is not None] == [4 * P] * 4
