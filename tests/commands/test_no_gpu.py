"""``device: cuda`` where torch finds no GPU: one sentence with the way out, whichever way in, and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import autoflip_secure
from autoflip_secure.cli import app
from autoflip_secure.errors import InputError

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
SCENARIO = """
name: wants-a-gpu
clients: 4
cohort: 2
rounds: 1
device: cuda
data: {kind: digits, train_samples: 100, test_samples: 50}
model: {kind: mlp, hidden: [8]}
algorithm: fedavg
seeds: [1, 2]
sweep: {product: {clients: [4, 5]}}
"""
SAID = "device = 'cuda', but torch finds no GPU here; set device: auto or device: cpu, or install a CUDA build of torch"
POOL = """
from concurrent.futures import ThreadPoolExecutor

def pool():
    return ThreadPoolExecutor(1)
"""


@pytest.mark.parametrize(
    "command",
    [
        "sweep s.yaml", "sweep s.yaml --workers 2", "sweep s.yaml --shard 1/2", "sweep s.yaml --keep-models",
        "sweep s.yaml --workers 1 --executor my_pool_without_gpu:pool", "audit s.yaml",
    ],
)  # fmt: skip
def test_every_command_says_so_in_one_sentence(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.yaml").write_text(SCENARIO)
    (tmp_path / "my_pool_without_gpu.py").write_text(POOL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = CliRunner().invoke(app, [*command.split(), "--out", "out"])
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert SAID in " ".join(done.stderr.split())
    assert line.startswith("error: s.yaml:6: device = 'cuda', but torch finds no GPU here;")
    assert not list(tmp_path.glob("out/cells/*.json"))


def test_so_do_the_gate_and_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["gate", "init", "--set", "device=cuda", "--workflow", "none"])
    assert done.exit_code == 2
    assert SAID in " ".join(done.stderr.split())
    (tmp_path / "s.yaml").write_text(SCENARIO)
    with pytest.raises(InputError, match="torch finds no GPU here; set device: auto or device: cpu"):
        autoflip_secure.run("s.yaml", out="out")
