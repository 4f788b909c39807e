"""Clean data at the server, from a scenario to its record: what a run has, what is refused, what is said of privacy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sizes import every

from autoflip_secure.errors import InputError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.reports.study.study import study
from autoflip_secure.reports.wording.caveats import caveats_of
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.running.build import CellBuilder, run_block
from autoflip_secure.scenarios.running.checks import check

BASE = """
data: {kind: digits, train_samples: 240, test_samples: 60}
model: {kind: mlp, hidden: [8]}
clients: 6
cohort: 4
rounds: 2
seeds: [3]
training: {epochs: 1}
algorithm: {name: fltrust, aggregator: {root_samples: 30}}
"""
OWN = '''
from typing import ClassVar

from autoflip_secure.interfaces import Aggregate, Aggregator


class Follows(Aggregator):
    """Does what clean data say."""

    needs_clean_data: ClassVar[bool] = True
    root_samples: int = 12

    def aggregate(self, state, view):
        trust = view.samples / view.samples.sum()
        return Aggregate(0.5 * (view.root + trust @ view.updates), trust, None, state)


class Forgets(Follows):
    """Does not say that it needs any."""

    needs_clean_data: ClassVar[bool] = False
'''
NETS = """
from torch import nn

def normed(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, num_classes))
"""


def planned(*overrides: str) -> Plan:
    return plan(resolve(Document.parse(BASE, "s.yaml"), overrides))


def ran(*overrides: str) -> list[RunRecord]:
    work = planned(*overrides)
    check(work.blocks)
    return [record for block in work.blocks for record in run_block(block)]


def test_a_run_says_what_the_server_owned() -> None:
    (mean,), (trusted,) = ran("algorithm=fedavg"), ran()
    assert mean.root_set is None
    assert trusted.root_set is not None
    assert trusted.root_set.samples == 30
    assert sum(trusted.client_samples) == sum(mean.client_samples) - 30
    assert RunRecord.model_validate(trusted.model_dump(mode="json")) == trusted
    [said] = [one for one in caveats_of(study([mean, trusted]), [], [], 0) if "clean data" in one]
    assert said.startswith("The server has clean data (FLTrust: 30 samples), taken from the clients' training data")
    assert not [one for one in caveats_of(study([mean]), [], [], 0) if "clean data" in one]


def test_the_split_is_the_same_with_and_without() -> None:
    builder = CellBuilder()
    cells = []
    for overrides in ((), ("algorithm=fedavg",), ("algorithm.aggregator.root_samples=29",)):
        [block] = planned(*overrides, "partition={kind: dirichlet, alpha: 0.3}").blocks
        cells.append(builder.cell(block.cells[0], block.cells[0], torch.device("cpu")))
    owner, plain, fewer = (cell.problem for cell in cells)
    assert owner.root is not None
    assert fewer.root is not None
    assert plain.root is None
    assert set(fewer.root.tolist()) < set(owner.root.tolist())
    for mine, whole in zip(owner.clients, plain.clients, strict=True):
        assert mine.tolist() == [row for row in whole.tolist() if row not in owner.root]
    assert torch.equal(cells[0].malicious_clients, cells[1].malicious_clients)
    assert torch.equal(owner.initial, plain.initial)


def test_what_clients_are_tested_on_stays_theirs() -> None:
    [block] = planned("evaluation=personal", "held_out=0.5").blocks
    problem = CellBuilder().cell(block.cells[0], block.cells[0], torch.device("cpu")).problem
    assert problem.root is not None
    assert not {row for rows in problem.held_out for row in rows.tolist()} & set(problem.root.tolist())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("algorithm.aggregator.root_samples=235",),
            r"^s\.yaml:9: .*root_samples = 235: of the 240 rows of the training set 234 can be the server's, with one",
        ),
        (("algorithm.aggregator.root_samples=0",), "root_samples = 0: should be greater than or equal to 1"),
        (
            ("secure_sum={updates: true}",),
            "'fltrust' needs every client's update, which a secure sum hides; use 'mean'",
        ),
        (
            ("privacy={kind: client_level, noise_multiplier: 1}",),
            "weighs updates by what it sees in them.* use aggregator: mean, or privacy.noise: distributed",
        ),
        (("algorithm.pruner=lottery",), "fltrust .*: works with whole rows"),
        (
            ("model='root_nets:normed'", "algorithm.aggregator.root_samples=33", "training.batch_size=16"),
            "root_samples = 33: BatchNorm cannot train on one sample, and the server's root set .*root_samples = 34 do",
        ),
    ],
)
def test_what_is_refused(
    overrides: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=message):
        check(planned(*overrides).blocks)


@pytest.mark.parametrize(
    "privacy",
    every(
        2,
        [
            "{kind: client_level, noise: distributed, clip: 1, noise_multiplier: 1}",
            "{kind: sample_level, clip: 1, noise_multiplier: 1}",
        ],
    ),
)
def test_the_ledger_says_that_nothing_covers_it(privacy: str) -> None:
    """What the aggregator does with noised rows is post-processing, so the clients' guarantee stands; its own data have
    none."""
    (trusted,) = ran(f"privacy={privacy}", "clients=5")
    assert trusted.privacy is not None
    assert any("no guarantee covers it" in note for note in trusted.privacy.notes)
    assert all(one.proven for one in trusted.privacy.guarantees)
    (mean,) = ran(f"privacy={privacy}", "clients=5", "algorithm=median")
    assert mean.privacy is not None
    assert not any("root set" in note for note in mean.privacy.notes)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_roots.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own")
def test_one_from_outside_gets_clean_data_if_it_says_so() -> None:
    (record,) = ran("algorithm={name: mine, pruner: none, aggregator: 'own_roots:Follows'}")
    assert record.root_set is not None
    assert record.root_set.samples == 12
    with pytest.raises(InputError, match=r"own_roots:Forgets.*aggregate"):
        check(planned("algorithm={name: mine, pruner: none, aggregator: 'own_roots:Forgets'}").blocks)
