"""Nodes that are not what the sweep was started with, and clusters that cannot be used: one sentence, nothing lost."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import forked
import psutil
import pytest
from processes import PATIENCE
from ray_nodes import MARKS, Nodes

pytestmark = MARKS

ROOT = Path(__file__).parents[3]
SWEEP = """
name: small
clients: 5
cohort: 2
training: {epochs: 1, batch_size: 32}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: MODEL
algorithm: fedavg
seeds: [11, 12]
sweep: {product: {rounds: [2, MOST]}}
"""
NET = """
from torch import nn

def make(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, num_classes))
"""
NEW_VERSION = "import ray\nray.__version__ = '9.9.9'\nfrom autoflip_secure.__main__ import main\nmain()\n"
FULL = """
import numpy as np
import ray
ray.init(
    address="local", num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False, log_to_driver=False,
    logging_level="ERROR", configure_logging=False, _system_config={"local_fs_capacity_threshold": 0.0001},
)
rows = np.random.default_rng(0).normal(size=(200_000, 128)).astype(np.float32)
labels = np.arange(len(rows)) % 3
np.savez("large.npz", x_train=rows, y_train=labels, x_test=rows[:50], y_test=labels[:50])
from autoflip_secure.__main__ import main
main()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    found = Nodes()
    yield found
    found.close()


MLP = "{kind: mlp, hidden: [8]}"


def start(folder: Path, *more: str, model: str = MLP, most: int = 3, code: str | None = None) -> forked.Process:
    (folder / "small.yaml").write_text(SWEEP.replace("MODEL", model).replace("MOST", str(most)))
    arguments = ["sweep", "small.yaml", "--out", "out", "--no-report", "--engine", "ray", *more]
    own = {"PYTHONPATH": f"{folder / 'here'}:{ROOT}"}
    return forked.start(*arguments, cwd=folder, session=True, code=code, env=own)


def refused(folder: Path, *more: str, exit_code: int = 2, program: str | None = None, model: str = MLP) -> str:
    """The sentence with which the sweep ends."""
    with start(folder, *more, code=program, model=model) as process:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == exit_code, stderr
    assert stdout == ""
    assert not list((folder / "out" / "cells").glob("*.json"))
    found = re.search(r"^error: .*", stderr, re.MULTILINE | re.DOTALL)
    assert found is not None, stderr
    return " ".join(found[0].split())


def alone(cluster: Nodes, path: Path) -> None:
    """The cluster has one node, which finds modules in ``path`` first."""
    for node in [*cluster.nodes]:
        cluster.kill(node)
    cluster.add(env_vars={"PYTHONPATH": f"{path}:{ROOT}"})


def copied(folder: Path, file: str, text: str) -> Path:
    """This package in ``folder``, one file of which is another."""
    shutil.copytree(ROOT / "autoflip_secure", folder / "autoflip_secure", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "autoflip_secure" / file).write_text(text)
    return folder


def until_the_second_block(folder: Path) -> None:
    """Wait; the first has two cells."""
    deadline = time.monotonic() + PATIENCE
    while len(list((folder / "out" / "cells").glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)


def test_ctrl_c_cancels_what_runs_on_a_cluster_that_stays(cluster: Nodes, tmp_path: Path) -> None:
    import ray

    with start(tmp_path, "--ray-address", cluster.address, most=20000) as process:
        until_the_second_block(tmp_path)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, stderr
    ray.init(cluster.address, log_to_driver=False, configure_logging=False, logging_level="ERROR")
    try:
        deadline = time.monotonic() + 20
        while ray.available_resources().get("CPU") != 2.0 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert ray.available_resources().get("CPU") == 2.0, "nothing runs any more"
    finally:
        ray.shutdown()


def test_a_port_of_ray_that_is_no_head_is_refused(cluster: Nodes, tmp_path: Path) -> None:
    """Any server of gRPC answers as a head does at first; Ray would ask it for 20 seconds."""
    raylet = psutil.Process(cluster.cluster.head_node.all_processes["raylet"][0].process.pid)
    listening = [one.laddr.port for one in raylet.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    said = refused(tmp_path, "--ray-address", f"127.0.0.1:{listening[0]}")
    assert "what answers there is not the head of a Ray cluster; give the address that `ray start --head`" in said


def test_another_version_of_ray_is_refused(cluster: Nodes, tmp_path: Path) -> None:
    said = refused(tmp_path, "--ray-address", cluster.address, program=NEW_VERSION)
    assert re.search(
        r"--ray-address \S+: the cluster has Ray [\d.]+ on Python [\d.]+, this program Ray 9\.9\.9 on", said
    )
    assert said.endswith("use the same on every machine")


def test_a_node_with_another_version_of_this_package_is_refused(cluster: Nodes, tmp_path: Path) -> None:
    alone(cluster, copied(tmp_path / "there", "version.py", '"""Other."""\n\n__version__ = "0.0.9"\n'))
    said = refused(tmp_path, "--ray-address", cluster.address)
    assert re.search(r"block \d .* has autoflip-secure 0\.0\.9, and the sweep was started with", said)
    assert "install the same on every machine, or leave out --engine ray" in said


def test_a_node_with_another_source_of_the_same_version_is_refused(cluster: Nodes, tmp_path: Path) -> None:
    alone(cluster, copied(tmp_path / "there", "extra.py", "# another source\n"))
    said = refused(tmp_path, "--ray-address", cluster.address)
    assert "has another version of autoflip-secure than the sweep was started with; install the same" in said


def test_a_node_with_another_model_behind_the_same_name_is_refused(cluster: Nodes, tmp_path: Path) -> None:
    for place, text in (("here", NET), ("there", NET.replace("ReLU", "Tanh"))):
        (tmp_path / place).mkdir()
        (tmp_path / place / "net.py").write_text(text)
    alone(cluster, tmp_path / "there")
    said = refused(tmp_path, "--ray-address", cluster.address, model='"net:make"')
    assert re.search(
        r"block \d .*: on \S+, source of model.factory net:make .* is not the same as where the sweep", said
    )


def test_an_object_store_that_is_full_is_named(tmp_path: Path) -> None:
    said = refused(tmp_path, "--set", "data={kind: npz, path: large.npz}", exit_code=3, program=FULL)
    assert re.search(r"--engine ray: the data of block 1 .* go to every node, and Ray has no room for it", said)
    assert "ray start --object-store-memory" in said


@pytest.mark.parametrize(
    ("dies", "message"),
    [
        ("kill_raylet", "the node on this machine died, through which the sweep reaches the cluster; if it was there"),
        (
            "kill_all_processes",
            r"the head of the cluster, \S+, has not answered for 30 seconds; if it was there before",
        ),
    ],
)
def test_what_the_sweep_reaches_the_cluster_through_may_die(dies: str, message: str, tmp_path: Path) -> None:
    """Ray itself ends the program a minute after the head has gone, with exit code 1 and no word of what is kept."""
    own = Nodes()
    try:
        with start(tmp_path, "--ray-address", own.address, most=20000) as process:
            until_the_second_block(tmp_path)
            getattr(own.cluster.head_node, dies)(check_alive=False)
            stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        own.close()
    assert process.returncode == 3, stderr
    assert stdout == ""
    said = " ".join(stderr.split())
    assert re.search(f"error: --engine ray: {message}", said), said
    assert "finished cells are kept, run the same command again to continue" in said
    assert len(list((tmp_path / "out" / "cells").glob("*.json"))) == 2
