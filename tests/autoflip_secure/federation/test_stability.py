"""Measures of stability: each against the definition written out by hand, and nothing else of a run changed by them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from digits_cells import AUTOFLIP, PROBLEM, cell, run
from scipy import stats

from autoflip_secure.algorithm.agreement import AgreementWeighted
from autoflip_secure.federation import stability
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.engine import run_cells
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.pruning.none import NoPruning
from autoflip_secure.training import choose_trainer

ASKED = {"measures": ("stability",)}


class _Seen(Watcher):
    def __init__(self) -> None:
        self.states: list[ServerState] = []
        self.rows: list[torch.Tensor] = []

    def round(
        self, cell: Cell, before: ServerState, clients: torch.Tensor, sent: torch.Tensor, after: ServerState
    ) -> None:
        self.states.append(before)
        self.rows.append(sent.clone())


def test_every_number_by_hand_from_what_the_server_received() -> None:
    seen = _Seen()
    one = cell(rounds=4, **ASKED, **AUTOFLIP)
    trainer = choose_trainer(PROBLEM.module, PROBLEM.layout, PROBLEM.x_train[:1])
    (record,) = run_cells([one], trainer, watch=seen)
    assert seen.states[0].exploration is not None
    first = seen.states[0].exploration.energy.double().numpy()
    hidden = PROBLEM.layout.prunable.numpy()
    for number, (before, rows) in enumerate(zip(seen.states, seen.rows, strict=True)):
        found = record.rounds[number].stability
        assert found is not None
        live = hidden & before.mask.numpy()
        u = rows.double().numpy()
        energy = np.mean([row**2 / (row**2).sum() for row in u], axis=0)[live]
        assert found.rank_correlation == pytest.approx(stats.spearmanr(first[live], energy).statistic)
        cosine = first[live] @ energy / np.linalg.norm(first[live]) / np.linalg.norm(energy)
        assert found.cosine == pytest.approx(cosine)
        count = round(0.3 * live.sum())
        top = [set(np.argsort(-x, kind="stable")[:count]) for x in (first[live], energy)]
        assert found.top_overlap == len(top[0] & top[1]) / count
        pairs = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.combinations(u, 2)]
        assert found.between_clients == pytest.approx(np.mean(pairs))
        start = seen.states[0].mask.numpy()
        assert found.mask_overlap == (live & start)[hidden].sum() / (live | (start & hidden)).sum()
    steps = [b.weights * b.mask - a.weights * b.mask for a, b in itertools.pairwise(seen.states)]
    assert record.rounds[0].stability is not None
    assert record.rounds[0].stability.successive is None
    assert record.rounds[1].stability is not None
    if torch.equal(seen.states[0].mask, seen.states[2].mask):  # no rescaling between them
        a, b = (step.double() for step in steps[:2])
        assert record.rounds[1].stability.successive == pytest.approx(float(a @ b / a.norm() / b.norm()), rel=1e-3)


def test_a_run_is_the_same_with_and_without_and_the_record_without_has_no_word_of_it() -> None:
    plain, measured = run(cell(**AUTOFLIP), cell(**ASKED, **AUTOFLIP))
    assert "stability" not in plain.model_dump_json()
    bare = [entry.model_copy(update={"stability": None}) for entry in measured.rounds]
    assert bare == plain.rounds
    assert measured.events == plain.events


def test_who_explores_nothing_has_no_map_and_its_drift_all_the_same() -> None:
    fedavg, scored = run(cell(**ASKED), cell(**ASKED, pruner=NoPruning(), aggregator=AgreementWeighted()))
    for entry in fedavg.rounds:
        assert entry.stability is not None
        assert (entry.stability.rank_correlation, entry.stability.top_overlap) == (None, None)
        assert entry.stability.between_clients is not None
        assert entry.stability.mask_overlap == 1
    assert all(e.stability is not None and e.stability.rank_correlation is not None for e in scored.rounds)


def test_a_map_that_is_what_a_round_does_is_stable_and_its_reverse_is_not() -> None:
    values = torch.rand(50, dtype=torch.float64)
    ranks = stability.ranks(values.numpy())
    assert np.array_equal(ranks, stats.rankdata(values.numpy()))
    assert stability.top_overlap(values, values) == 1
    assert stability.top_overlap(values, -values) == 0
    tied = np.array([0.0, 0.0, 1.0, 0.0])
    assert np.array_equal(stability.ranks(tied), stats.rankdata(tied))


def test_edges() -> None:
    nobody = torch.zeros(0, 3, dtype=torch.float64)
    assert stability.mean_cosine(nobody) is None
    still = torch.tensor([[1.0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    assert stability.mean_cosine(still) is None
    empty = torch.zeros(4, dtype=torch.bool)
    assert stability.jaccard(empty, empty) == 1
