"""Sweeps on a real Ray cluster of several nodes: the numbers of one process, whatever dies on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ray_nodes import MARKS, Nodes

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.records.run import RoundRecord, RunRecord
from autoflip_secure.scenarios.config.cells import CellSpec
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Block, Plan, plan
from autoflip_secure.scenarios.running.executors import ray_room
from autoflip_secure.scenarios.running.executors.base import Executor
from autoflip_secure.scenarios.running.executors.local import Local
from autoflip_secure.scenarios.running.executors.ray_engine import TRIES, Ray
from autoflip_secure.scenarios.running.executors.ray_tasks import Tasks
from autoflip_secure.scenarios.running.sweep import Listener, SweepResult, run_sweep

pytestmark = MARKS

SMALL = """
name: small
clients: 6
cohort: 3
training: {epochs: 1, batch_size: 32}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 300, test_samples: 50}
model: {kind: mlp, hidden: [8]}
seeds: [11, 12]
"""
SWEEP = "sweep: {product: {algorithm: [fedavg, autoflip], rounds: [2, 3, 4]}}"
FEDAVG = "sweep: {product: {algorithm: [fedavg], rounds: [2, 3, 4]}}"
CLIENT = "privacy: {kind: client_level, noise_multiplier: 1}"
LONG = "sweep: {product: {algorithm: [fedavg], rounds: [2, 150, 151, 3]}}"


@pytest.fixture(scope="module")
def _cluster() -> Iterator[Nodes]:
    found = Nodes()
    yield found
    found.close()


@pytest.fixture
def cluster(_cluster: Nodes) -> Nodes:
    _cluster.fill()
    return _cluster


def work(text: str = SWEEP, *overrides: str) -> Plan:
    return plan(resolve(Document.parse(SMALL + text, "small.yaml"), overrides), block_cells=4)


def quiet(**more: Any) -> Listener:
    return Listener(lambda *_: None, str, **more)


def run(one: Plan, folder: Path, where: Executor, listener: Listener | None = None) -> SweepResult:
    return run_sweep(one, folder, None if isinstance(where, Ray) else 1, listener or quiet(), executor=where)


def numbers(result: SweepResult) -> list[dict[str, Any]]:
    return [record.numbers() for record in result.records]


def attempts(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {path.stem: json.loads(path.read_text())["attempts"] for path in (folder / "ledger").glob("*.json")}


def once(action: Callable[[], None], after: float) -> Callable[[float, int, float | None], None]:
    """Progress that does something when more than ``after`` cells are done."""
    did: list[bool] = []

    def progress(done: float, total: int, left: float | None) -> None:
        if done > after and not did:
            did.append(True)
            action()

    return progress


@pytest.mark.parametrize("text", [SWEEP, f"{FEDAVG}\n{CLIENT}"], ids=["open", "private"])
def test_the_numbers_are_those_of_one_process(text: str, cluster: Nodes, tmp_path: Path) -> None:
    expected = run(work(text), tmp_path / "one", Local())
    found = run(work(text), tmp_path / "ray", Ray(cluster.address))
    assert found.workers == 2
    assert numbers(found) == numbers(expected)
    assert run(work(text), tmp_path / "ray", Ray(cluster.address)).reused == len(found.records)


def test_rounds_and_notes_come_from_the_nodes_once(
    cluster: Nodes, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "warning.py").write_text(
        "import os, warnings\nfrom torch import nn\n"
        "class Net(nn.Linear):\n"
        "    def __init__(self, num_classes):\n        super().__init__(64, num_classes)\n"
        "    def forward(self, x):\n"
        f"        if os.getpid() != {os.getpid()}:\n            warnings.warn('the reactor is warm')\n"
        "        return super().forward(x.flatten(1))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    one = work("sweep: {product: {rounds: [60, 61]}}", "algorithm=fedavg", 'model="warning:Net"', "trainer=sequential")
    heard: list[tuple[str, int]] = []

    def rounds(entries: list[tuple[CellSpec, RoundRecord]]) -> None:
        heard.extend((spec.key, entry.round) for spec, entry in entries)

    shares: list[float] = []
    listener = Listener(lambda done, total, left: shares.append(done), str, rounds=rounds)
    run(one, tmp_path / "ray", Ray(cluster.address), listener)
    assert len(heard) == len(set(heard)) > 0
    assert any(0 < share < 1 for share in shares)
    assert [text for text in said if "the reactor is warm" in text] == ["warning.py:8 warns: the reactor is warm"]


def test_rounds_are_heard_after_the_mailbox_died(cluster: Nodes, tmp_path: Path) -> None:
    """It may be on a node that dies, and a sweep be long after that."""
    heard: list[int] = []

    def rounds(entries: list[tuple[CellSpec, RoundRecord]]) -> None:
        if not heard:
            ours = psutil.Process().children(recursive=True)
            (mailbox,) = [one for one in ours if one.is_running() and one.cmdline()[:1] == ["ray::Mailbox"]]
            mailbox.kill()
        heard.append(len(entries))

    one = work("sweep: {product: {algorithm: [fedavg], rounds: [2, 900, 901]}}")
    assert len(run(one, tmp_path / "ray", Ray(cluster.address), quiet(rounds=rounds)).records) == 6
    assert len(heard) > 1, "what was said after it was there again"


def test_data_come_along_and_their_files_are_not_read_on_nodes(cluster: Nodes, tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    names = {"x_train": 200, "x_test": 40}
    arrays = {name: draws.normal(size=(size, 8)).astype(np.float32) for name, size in names.items()}
    arrays |= {name.replace("x", "y"): np.arange(size) % 3 for name, size in names.items()}
    np.savez(tmp_path / "own.npz", **arrays)
    data = f"data={{kind: npz, path: {tmp_path / 'own.npz'}}}"
    expected = run(work(SWEEP, data), tmp_path / "one", Local())
    gone = quiet(start=lambda cells, workers: (tmp_path / "own.npz").unlink())
    assert numbers(run(work(SWEEP, data), tmp_path / "ray", Ray(cluster.address), gone)) == numbers(expected)


def test_no_more_blocks_are_with_ray_than_it_has_room_for_and_a_few(
    cluster: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, send = [0], Tasks.send

    def counted(self: Tasks, block: Block, largest: float) -> None:
        send(self, block, largest)
        most[0] = max(most[0], len(self))

    monkeypatch.setattr(Tasks, "send", counted)
    one = work("sweep: {product: {algorithm: [fedavg], rounds: [2, 3, 4, 5, 6, 7, 8, 9]}}")
    assert len(run(one, tmp_path / "a", Ray(cluster.address)).records) == 16
    assert most == [3], "two that run, and one that waits at a node"


# ------------------------------------------------------------------------------------------------ what dies


@pytest.mark.parametrize("told", [False, True], ids=["killed", "told to end"])
def test_a_node_that_dies_in_mid_sweep_changes_nothing(
    told: bool, cluster: Nodes, tmp_path: Path, said: list[str]
) -> None:
    expected = run(work(LONG), tmp_path / "one", Local())
    stored: list[str] = []

    def keep(records: list[RunRecord]) -> None:
        stored.extend(record.cell for record in records)

    listener = Listener(once(lambda: cluster.kill(told=told), 2.2), str, stored=keep)
    found = run(work(LONG), tmp_path / "ray", Ray(cluster.address), listener)
    assert len(cluster.nodes) == 1, "it was killed"
    assert numbers(found) == numbers(expected)
    assert sorted(stored) == sorted(record.cell for record in expected.records), "each cell once"
    assert any("is run again: its node" in text and "attempt 1 of 3" in text for text in said), said
    files = ({path.name for path in (tmp_path / name / "cells").iterdir()} for name in ("one", "ray"))
    assert len(set(map(frozenset, files))) == 1


@pytest.mark.parametrize("source", ["seed", "system"])
def test_a_node_that_dies_during_a_private_cell_is_counted_before_it_runs_again(
    source: str, cluster: Nodes, tmp_path: Path, said: list[str]
) -> None:
    text = f"{LONG}\nprivacy: {{kind: client_level, noise_multiplier: 1, noise_source: {source}}}"
    expected = run(work(text), tmp_path / "one", Local())
    at_kill: dict[str, list[dict[str, Any]]] = {}

    def kill() -> None:
        at_kill.update(attempts(tmp_path / "ray"))
        cluster.kill()

    found = run(work(text), tmp_path / "ray", Ray(cluster.address), Listener(once(kill, 2.2), str))
    assert any("is run again, which its ledgers count: its node" in text for text in said), said
    after = attempts(tmp_path / "ray")
    assert {len(tried) for tried in at_kill.values()} == {1}
    again = {key for key, tried in after.items() if len(tried) == 2}
    assert again, "the block that was lost was announced once more"
    assert all(len(tried) == 1 for key, tried in after.items() if key not in again)
    for record, other in zip(found.records, expected.records, strict=True):
        assert record.privacy is not None
        assert other.privacy is not None
        assert record.privacy.attempts == len(after[record.cell])
        epsilons = record.privacy.epsilon() or 0.0, other.privacy.epsilon() or 0.0
        if source == "seed":
            assert record.numbers() == other.numbers()
            assert record.privacy.guarantees == other.privacy.guarantees, "the same releases once more"
        elif record.cell in again:
            assert epsilons[0] > epsilons[1], "what it released before may be known"
            first, second = after[record.cell]
            assert first["once"] != second["once"]
        else:
            assert epsilons[0] == epsilons[1]


def a_model(path: Path, name: str, when: str, does: list[str]) -> None:
    """A linear model that does this when it trains in another process, and the condition holds."""
    body = "".join(f"            {line}\n" for line in does)
    path.write_text(
        "import os, pathlib, signal\nfrom torch import nn\n"
        f"class {name}(nn.Linear):\n"
        "    def __init__(self, num_classes):\n        super().__init__(64, num_classes)\n"
        "    def forward(self, x):\n"
        f"        if self.training and os.getpid() != {os.getpid()} and {when}:\n{body}"
        "        return super().forward(x.flatten(1))\n"
    )


def test_a_process_that_is_told_to_end_is_no_failure_of_its_block(
    cluster: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """Ray raises SystemExit in it, inside whatever code of the user's runs: it had been the block's, or the model's."""
    told = tmp_path / "told"
    a_model(
        tmp_path / "leaving.py", "Leaving", f"not pathlib.Path({str(told)!r}).exists()",
        [f"pathlib.Path({str(told)!r}).touch()", "os.kill(os.getpid(), signal.SIGTERM)"],
    )  # fmt: skip
    monkeypatch.syspath_prepend(str(tmp_path))
    one = work("sweep: {product: {rounds: [2, 3]}}", 'model="leaving:Leaving"', "trainer=sequential")
    expected = run(one, tmp_path / "one", Local())
    assert numbers(run(one, tmp_path / "ray", Ray(cluster.address))) == numbers(expected)
    assert told.exists()
    assert len([text for text in said if "is run again: its process died (attempt 1 of 3)" in text]) == 1, said


def test_a_block_whose_process_dies_each_time_ends_the_sweep(
    cluster: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_model(tmp_path / "deadly.py", "Deadly", "True", ["os.kill(os.getpid(), signal.SIGKILL)"])
    monkeypatch.syspath_prepend(str(tmp_path))
    one = work('sweep: {product: {model: [mlp, "deadly:Deadly"]}}', "trainer=sequential", "algorithm=fedavg")
    with pytest.raises(AutoflipError, match=r"block 2 .*: its process died, as in 2 attempts before; finished cells"):
        run(one, tmp_path / "ray", Ray(cluster.address))
    assert TRIES == 3
    assert len(list((tmp_path / "ray" / "cells").glob("*.json"))) in (0, 2)


def test_without_any_node_the_sweep_ends(cluster: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_room, "_ALONE_FOR", 1.0)
    monkeypatch.setattr(ray_room, "_LOOK_EVERY", 0.2)

    def all_of_them() -> None:
        while cluster.nodes:
            cluster.kill()

    listener = Listener(once(all_of_them, 2.2), str)
    with pytest.raises(AutoflipError, match="no node that could run a block is left in the cluster; finished cells"):
        run(work(LONG), tmp_path / "ray", Ray(cluster.address), listener)
    assert len(list((tmp_path / "ray" / "cells").glob("*.json"))) >= 2
    with pytest.raises(InputError, match=r"no node of the cluster has a core for a block; start nodes that have"):
        run(work(LONG), tmp_path / "other", Ray(cluster.address))
