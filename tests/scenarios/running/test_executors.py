"""In this process or in workers: the same records; a worker that dies is named and nothing finished is lost."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from processes import helpers
from run_blocks import running

from autoflip_secure.errors import AutoflipError, InputError
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Block, plan
from autoflip_secure.scenarios.running.checks import check
from autoflip_secure.scenarios.running.executors.local import choose_workers, cores, estimated_seconds

TINY = """
clients: 5
cohort: 2
rounds: 3
training: {epochs: 1, batch_size: 64}
exploration: {epochs: 1}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
partition: dirichlet
seeds: [1, 2, 3, 4]
"""


def blocks(text: str = "", *overrides: str) -> tuple[Block, ...]:
    return plan(resolve(Document.parse(TINY + text, "s.yaml"), overrides), block_cells=6).blocks


def collect(work: tuple[Block, ...], workers: int) -> dict[str, dict[str, object]]:
    with running(work, workers, lambda block, share: None) as stream:
        return {record.cell: record.numbers() for _, records in stream for record in records}


@pytest.fixture
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own models, as the current folder is for the command line."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


OTHERS: set[int] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    """Processes of other tests, such as pool of parties that live as long as the session."""
    OTHERS.clear()
    OTHERS.update(p.pid for p in children())


def children() -> list[psutil.Process]:
    return [p for p in helpers() if p.pid not in OTHERS]


def test_one_and_two_workers_give_the_same_records() -> None:
    work = blocks(
        "sweep: {product: {algorithm: [fedavg, autoflip, autoflip_plus, lotteryfl, fedspa], attack: [none, label_flip, "
        "gaussian_noise]}}",
        "seeds=[1, 2]",
        "evaluation=personal",
    )
    alone = collect(work, 1)
    assert len(work) == 5
    assert len(alone) == 30
    assert collect(work, 2) == alone
    assert children() == []


@pytest.mark.slow
def test_a_block_gives_the_same_alone_and_among_others() -> None:
    work = blocks("sweep: {product: {rounds: [2, 3], algorithm: [fedavg, autoflip]}}")
    together = collect(work, 1)
    alone: dict[str, dict[str, object]] = {}
    for block in reversed(work):
        alone |= collect((block,), 1)
    assert alone == together


def test_progress_is_told_from_workers_too() -> None:
    work = blocks("", "sweep={product: {rounds: [20, 21]}}", "seeds=[1]")
    heard: list[tuple[int, float]] = []
    with running(work, 2, lambda block, share: heard.append((block.index, share))) as stream:
        assert sorted(block.index for block, _ in stream) == [1, 2]
    assert all(0 < share <= 1 for _, share in heard)


def test_leaving_early_stops_the_workers() -> None:
    work = blocks("", "sweep={product: {rounds: [2, 2000, 2001]}}")
    with running(work, 2, lambda block, share: None) as stream:
        first, _ = next(stream)
        assert first.index == 1
    assert children() == []


def test_killed_worker_is_named(model_folder: Path) -> None:
    """As the system does it when memory runs out: SIGKILL in the middle of a block."""
    (model_folder / "deadly.py").write_text(
        "import os, signal\nfrom torch import nn\n"
        "class Deadly(nn.Linear):\n"
        "    def __init__(self, num_classes):\n        super().__init__(64, num_classes)\n"
        "    def forward(self, x):\n"
        f"        if self.training and os.getpid() != {os.getpid()}:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().forward(x.flatten(1))\n"
    )
    work = blocks(
        'sweep: {product: {model: [mlp, mlp, "deadly:Deadly"]}}', "trainer=sequential", "algorithm=fedavg", "seeds=[1]"
    )
    done: list[RunRecord] = []
    message = r"block 2 \(1 cell of digits, custom\) died \(SIGKILL.*fewer --workers"
    with running(work, 2, lambda block, share: None) as stream, pytest.raises(AutoflipError, match=message):
        done.extend(record for _, records in stream for record in records)
    assert [record.config["model"]["kind"] for record in done] in ([], ["mlp"])
    assert children() == []


def test_failing_block_is_named_with_the_workers_traceback(model_folder: Path) -> None:
    (model_folder / "failing.py").write_text(
        "from torch import nn\n"
        "class Failing(nn.Linear):\n"
        "    def __init__(self, num_classes):\n        super().__init__(64, num_classes)\n"
        "    def forward(self, x):\n"
        "        if self.training:\n            raise RuntimeError('the reactor is on fire')\n"
        "        return super().forward(x.flatten(1))\n"
    )
    work = blocks(
        'sweep: {product: {model: [mlp, "failing:Failing"]}}', "trainer=sequential", "algorithm=fedavg", "seeds=[1]"
    )
    with pytest.raises(AutoflipError, match=r"block 2 .* failed: RuntimeError: the reactor is on fire") as caught:
        collect(work, 2)
    assert "Traceback" in str(caught.value.__cause__)
    assert children() == []


# ------------------------------------------------------------------------------------------------ before anything runs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "partition: {kind: pathological, classes_per_client: 11}",
            r"classes_per_client = 11 is more than the 10 classes",
        ),
        ("partition: by_group", "names no owners"),
        ("attack: {kind: label_flip, to: target, target: 10}", "class 10, and the data has classes 0 to 9"),
        ('model: "nowhere:net"', "cannot import nowhere"),
        ("data: {kind: npz, path: /nowhere.npz}", "nowhere.npz"),
        ("sweep: {product: {clients: [5, 500]}}", r"500.*\(in the cell with clients = 500\)"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(text: str, expected: str) -> None:
    key = text.partition(":")[0]
    base = "\n".join(line for line in TINY.splitlines() if not line.startswith(f"{key}:"))
    work = plan(resolve(Document.parse(f"{base}\n{text}", "s.yaml"))).blocks
    with pytest.raises(InputError, match=expected):
        check(work)


def test_model_that_does_not_fit_the_classes(model_folder: Path) -> None:
    (model_folder / "seven.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))\n"
    )
    with pytest.raises(InputError, match=r"outputs of shape \(\d, 7\)"):
        check(blocks("", "model=seven:net"))


# ------------------------------------------------------------------------------------------------ how many workers


def test_small_work_stays_here_and_large_work_gets_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    small = blocks("sweep: {product: {rounds: [2, 3]}}")
    large = blocks("", "sweep={product: {rounds: [4000, 4001]}}")
    assert sum(map(estimated_seconds, small)) < 4 < sum(map(estimated_seconds, large))
    monkeypatch.setattr("autoflip_secure.scenarios.running.executors.local.cores", lambda: 8)
    assert choose_workers(small) == 1
    assert choose_workers(large) == 2, "never more than blocks"
    assert choose_workers([]) == 1
    monkeypatch.setattr("autoflip_secure.scenarios.running.executors.local.cores", lambda: 1)
    assert choose_workers(large) == 1


def test_cores_are_those_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert cores() == len(allowed)


def test_workers_ignore_ctrl_c_of_the_terminal() -> None:
    """Ctrl-C reaches the whole process group; the parent alone decides."""
    work = blocks("", "sweep={product: {rounds: [25, 26]}}", "seeds=[1]")
    with running(work, 2, lambda block, share: [p.send_signal(signal.SIGINT) for p in children()]) as stream:
        assert sorted(block.index for block, _ in stream) == [1, 2]
