"""One builder a sweep: what a sweep is made of is made once, whoever asks for it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.data.base import _load
from autoflip_secure.scenarios.data.datasets import Digits
from autoflip_secure.scenarios.data.partitions import Iid
from autoflip_secure.scenarios.running import build as problems
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep
from autoflip_secure.seeds import Purpose

SCENARIO = """
name: counted
data: digits
clients: 8
cohort: 4
rounds: 1
training: {{batch_size: 16}}
seeds: [10, 11]
algorithm: fedavg
sweep:
  product:
    privacy: [none, {privacy}]
    algorithm: [fedavg, median]
"""
SAMPLE = "{kind: sample_level, clip: 1.0, target_epsilon: 8}"
CLIENT = "{kind: client_level, clip: 1.0, target_epsilon: 8, noise: distributed, allow_unproven: true}"


def work(privacy: str) -> Plan:
    return plan(resolve(Document.parse(SCENARIO.format(privacy=privacy), "counted.yaml")))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each thing is made from now on."""
    counts: Counter[str] = Counter()

    def counting(owner: Any, name: str) -> None:
        made = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return made(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    counting(problems, "Cell")
    counting(Digits, "read")
    _load.cache_clear()  # of what other tests have read
    counting(Iid, "split")
    counting(type(work(SAMPLE).cells[0].settings.model), "build")
    monkeypatch.setattr(
        "autoflip_secure.scenarios.running.executors.local.cores", lambda: 2
    )  # so that there is something to estimate
    return counts


@pytest.mark.parametrize("privacy", [SAMPLE, CLIENT])
def test_planning_builds_nothing_twice(
    privacy: str, built: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Check, conditions, estimate and the ledger's announcement: 8 cells, 2 splits and 2 models, each once."""

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt  # where blocks would begin

    monkeypatch.setattr("autoflip_secure.scenarios.running.executors.local.Local.run", stop)
    plan_ = work(privacy)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan_, tmp_path, None, Listener(lambda *_: None, lambda _: None))
    assert len(list((tmp_path / "ledger").glob("*.json"))) == 4
    models = 2 * len({c.settings.privacy.unit for c in plan_.cells})  # private ones are checked apart
    assert built == {"Cell": len(plan_.keys), "split": 2, "build": models, "read": 1}


def test_many_data_sets_are_read_once_each(built: Counter[str], tmp_path: Path):
    """More than the four that a process keeps."""
    sizes = ", ".join(f"{{kind: digits, train_samples: {200 + n}, test_samples: 50}}" for n in range(6))
    text = SCENARIO.format(privacy="none").partition("sweep:")[0] + f"sweep: {{product: {{data: [{sizes}]}}}}"
    planned = plan(resolve(Document.parse(text, "counted.yaml")))
    results = run_sweep(planned, tmp_path, 1, Listener(lambda *_: None, lambda _: None))
    assert len(results.records) == 12
    assert built["read"] == 6


def test_a_block_takes_splits_and_noise_over_and_makes_models_of_its_own(built: Counter[str], tmp_path: Path):
    """A user's module may remember what passed through it: a block's has met nothing but that block."""
    plan_ = work(SAMPLE)
    builder = problems.CellBuilder()
    cells = [builder.cell(spec, block.cells[0], torch.device("cpu")) for block in plan_.blocks for spec in block.cells]
    before = built.copy()
    other = builder.for_a_block()
    spec = plan_.blocks[0].cells[0]
    again = other.cell(spec, spec, torch.device("cpu"))
    assert (built - before) == {"Cell": 1, "build": 1}
    assert again.noise_multipliers == next(cell for cell in cells if cell.key == spec.key).noise_multipliers
    assert again.problem.module is not builder.module(spec.settings, spec.seed)


def test_cells_under_other_conditions_are_other_cells():
    """Where cohorts are secret they are drawn under the conditions; where they are public, everything stays."""
    for privacy, stays in ((SAMPLE, True), (CLIENT, False)):
        builder = problems.CellBuilder()
        spec = next(c for c in work(privacy).cells if c.settings.privacy.unit)
        one, other = (
            builder.cell(replace(spec, conditions=said), spec, torch.device("cpu")) for said in ("one", "other")
        )
        assert (one.conditions, other.conditions) == ("one", "other")
        assert one.problem.clients is other.problem.clients
        assert one.draws.agreed(Purpose.COHORT, 1).random() != other.draws.agreed(Purpose.COHORT, 1).random()
        assert (one.noise_multipliers is other.noise_multipliers) == stays


def test_what_the_settings_change_is_not_shared():
    """The oracle: two builders that share nothing."""
    cells = [spec for privacy in (SAMPLE, CLIENT) for spec in work(privacy).cells]
    shared = problems.CellBuilder()
    for spec in cells:
        mine, alone = (b.cell(spec, spec, torch.device("cpu")) for b in (shared, problems.CellBuilder()))
        assert mine.noise_multipliers == alone.noise_multipliers
        assert mine.problem.initial.equal(alone.problem.initial)
        assert all(map(torch.equal, mine.problem.clients, alone.problem.clients))
        assert mine.cohorts == alone.cohorts == tuple(tuple(mine.cohort(n).tolist()) for n in (1,))
