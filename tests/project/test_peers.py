"""Scripts that run another simulator beside this one: the work is the same, and they run where the other is there."""

import importlib
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from autoflip_secure.scenarios.running.build import run_block

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / "peers"


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_the_engine_does_the_work_that_the_others_do(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PEERS))
    rounds: Any = importlib.import_module("rounds")
    work, (record,) = rounds.problem(model), run_block(rounds.block(model, 1))
    assert record.parameters == work.layout.size
    assert record.client_samples == [len(job.samples) for job in work.jobs]
    assert record.rounds[0].participants == [*range(len(work.jobs))]
    wanted, schedule = record.config["training"], rounds.styles.SCHEDULE
    assert [wanted[name] for name in ("epochs", "batch_size", "lr")] == [
        schedule.epochs,
        schedule.batch_size,
        schedule.lr,
    ]
    assert wanted.get("momentum", 0) == wanted.get("weight_decay", 0) == 0


def run(*command: str) -> str:
    path = os.pathsep.join([str(PEERS), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PFL_PYTORCH_DEVICE": "cpu"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "needs"), [("pfl_research", ["pfl"]), ("flower_simulation", ["flwr", "ray"])], ids=["pfl", "flower"]
)
def test_a_peer_is_measured_where_it_is_installed(script: str, needs: list[str]) -> None:
    if any(find_spec(name) is None for name in needs):
        pytest.skip(f"{' and '.join(needs)}: not among the test tools; benchmarks/peers/README.md says how to install")
    said = run(str(PEERS / f"{script}.py"), "mlp")
    found = re.search(r"^mlp: \S+ [\d.]+ / this engine ([\d.]+) \(\d+ and \d+ ms a round; turn by turn", said, re.M)
    assert found is not None, said
    assert float(found[1]) > 1
