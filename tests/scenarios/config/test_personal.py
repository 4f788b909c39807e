"""Own masks and personal evaluation in a scenario: what is refused, what a cell is called, what is held out."""

from __future__ import annotations

import itertools
from statistics import fmean

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from sizes import sized

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config import tables
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import CellSpec, resolve
from autoflip_secure.scenarios.config.plan import plan
from autoflip_secure.scenarios.data.held_out import hold_out
from autoflip_secure.scenarios.running.build import CellBuilder, run_block

TINY = """
clients: 6
cohort: 3
rounds: 2
seeds: [4]
training: {epochs: 1}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
partition: {kind: pathological, classes_per_client: 2}
"""
LOTTERY = "algorithm=lotteryfl"


def cells(*overrides: str) -> tuple[CellSpec, ...]:
    return resolve(Document.parse(TINY, "s.yaml"), overrides).cells


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            (LOTTERY, "privacy={kind: sample_level, noise_multiplier: 1}"),
            r"privacy.*not protect.*decided on training",
        ),
        (("algorithm=fedspa", "secure_sum={parties: 3, updates: true}"), r"single client holds is that client's value"),
        (("algorithm=fedspa", "server_momentum=0.9"), r"server_momentum.*what nobody holds"),
        (
            ("algorithm=fedspa", "privacy={kind: client_level, noise_multiplier: 1}"),
            r"nothing is proven about the masks",
        ),
        ((LOTTERY, "privacy={kind: client_level, noise_multiplier: 1}"), r"nothing is proven about the masks"),
        ((LOTTERY, "server_momentum=0.9"), r"server_momentum.*what nobody holds in a round keeps its value"),
        ((LOTTERY, "secure_sum={parties: 3, updates: true}"), r"single client holds is that client's value"),
        (("algorithm=subfedavg",), r"training.epochs.*1: the pruner subfedavg compares weights after epoch 1"),
        (("evaluation=personal", "privacy={kind: sample_level, noise_multiplier: 1}"), r"evaluation.*no ledger counts"),
        (("evaluation=personal", "attack={kind: label_flip, scope: 1}"), r"all 6 are malicious"),
        (("evaluation=personal", "attack={kind: label_flip, clients: [0, 1, 2, 3, 4, 5]}"), r"all 6 are malicious"),
        (("held_out=0.3",), r"held_out.*0.3: counts with evaluation: personal only"),
        (("evaluation=personal", "held_out=1"), r"held_out"),
        (("evaluation=ours",), r"evaluation"),
        (("sweep={product: {evaluation: [global, personal]}}",), r"sweep: evaluation = .*different tests.*two sweeps"),
        (
            ("sweep=[{product: {evaluation: [personal], algorithm: [lotteryfl]}}, {product: {algorithm: [fedavg]}}]",),
            r"different tests",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_runs(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cells(*overrides)


@pytest.mark.parametrize("kind", sorted(tables.AGGREGATORS))
def test_aggregators_of_whole_rows_are_refused_with_own_masks(kind: str) -> None:
    overrides = (LOTTERY, f"algorithm.aggregator={{kind: {kind}}}", "algorithm.name=mine")
    overrides = (overrides[0].replace("algorithm=lotteryfl", "algorithm.pruner={kind: lottery}"), *overrides[1:])
    if tables.AGGREGATORS[kind].own_masks:
        assert cells(*overrides)
        return
    with pytest.raises(InputError, match=f"{kind}: works with whole rows.*use mean, or another pruner"):
        cells(*overrides)


def test_a_scenario_that_asks_for_nothing_new_has_the_names_that_it_had() -> None:
    (cell,) = cells("algorithm=fedavg")
    assert not {"evaluation", "held_out"} & cell.config.keys()
    assert cell.config["algorithm"]["aggregator"] == {"kind": "mean"}
    (other,) = cells("algorithm=fedavg", "evaluation=personal")
    assert other.config == cell.config | {"evaluation": "personal"}
    (third,) = cells("algorithm=fedavg", "evaluation=personal", "held_out=0.3")
    assert third.config == other.config | {"held_out": 0.3}
    assert len({cell.key, other.key, third.key}) == 3


@settings(max_examples=sized(30, 300), deadline=None)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=6), st.floats(0.01, 0.99), st.integers(0, 2**40))
def test_rows_are_trained_on_or_tested_on_and_each_clients_draw_is_its_own(
    sizes: list[int], share: float, seed: int
) -> None:
    ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
    clients = [torch.arange(first, last).flip(0) for first, last in itertools.pairwise(ends)]
    kept, held = hold_out(clients, share, seed)
    for rows, one, other in zip(clients, kept, held, strict=True):
        assert sorted([*one.tolist(), *other.tolist()]) == sorted(rows.tolist())
        assert len(other) == max(1, min(len(rows) - 1, round(share * len(rows))))
        assert one.tolist() == sorted(one.tolist(), reverse=True)  # as they were given
        assert other.tolist() == sorted(other.tolist(), reverse=True)
    alone, _ = hold_out(clients[:1], share, seed)
    assert torch.equal(alone[0], kept[0])


def test_a_client_with_one_row_is_named() -> None:
    with pytest.raises(InputError, match=r"client 1 has 1 of the rows, .*evaluation: global"):
        hold_out([torch.arange(4), torch.arange(1)], 0.2, 0)


def test_a_cell_is_tested_on_what_it_was_not_trained_on_and_says_what_guessing_gives() -> None:
    attack = "attack={kind: label_flip, clients: [2]}"
    (block,) = plan(resolve(Document.parse(TINY, "s.yaml"), ("evaluation=personal", LOTTERY, attack))).blocks
    builder = CellBuilder()
    cell = builder.cell(block.cells[0], block.cells[0], torch.device("cpu"))
    (dense,) = plan(resolve(Document.parse(TINY, "s.yaml"), (LOTTERY,))).blocks
    everything = builder.cell(dense.cells[0], dense.cells[0], torch.device("cpu")).problem.clients
    problem = cell.problem
    for own, trained, tested in zip(everything, problem.clients, problem.held_out, strict=True):
        assert sorted([*trained.tolist(), *tested.tolist()]) == sorted(own.tolist())
    (record,) = run_block(block)
    assert record.client_samples == [len(rows) for rows in problem.clients]
    assert record.personal is not None
    assert record.personal.held_out == [len(problem.held_out[k]) for k in (0, 1, 3, 4, 5)]
    held = [problem.y_train[problem.held_out[k]].tolist() for k in record.personal.clients]
    shares = [max(map(labels.count, labels)) / len(labels) for labels in held]
    assert record.data is not None
    assert record.data.largest_class == pytest.approx(fmean(shares))
    (plain,) = run_block(dense)
    assert plain.personal is None
    assert plain.client_state == record.client_state


def test_one_evaluation_may_be_written_in_every_grid() -> None:
    assert cells("evaluation=personal", "sweep=[{product: {evaluation: [personal]}}, {product: {cohort: [2]}}]")
