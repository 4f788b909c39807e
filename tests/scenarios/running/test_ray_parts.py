"""What the Ray engine is made of, where no Ray is needed: what is refused, what goes along, what a node opens."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from autoflip_secure.errors import InputError
from autoflip_secure.scenarios.config.documents import Document
from autoflip_secure.scenarios.config.loading import resolve
from autoflip_secure.scenarios.config.plan import Plan, plan
from autoflip_secure.scenarios.data.datasets import Dataset
from autoflip_secure.scenarios.running.build import CellBuilder
from autoflip_secure.scenarios.running.executors import ray_envelope
from autoflip_secure.scenarios.running.executors.choosing import chosen
from autoflip_secure.scenarios.running.executors.elsewhere import Elsewhere
from autoflip_secure.scenarios.running.executors.local import Local
from autoflip_secure.scenarios.running.executors.ray_engine import Ray
from autoflip_secure.scenarios.running.executors.ray_node import packed, unpacked
from autoflip_secure.scenarios.running.executors.ray_room import Needs, Node, needs, refuse_without_room, room
from autoflip_secure.scenarios.running.sweep import Listener, run_sweep

CLUSTER = "autoflip_secure.scenarios.running.executors.ray_cluster"
SMALL = """
name: small
clients: 5
cohort: 2
rounds: 2
training: {epochs: 1, batch_size: 16}
data: {kind: digits, train_samples: 200, test_samples: 50}
model: {kind: mlp, hidden: [8]}
algorithm: fedavg
seeds: [1, 2]
"""


def work(*overrides: str) -> Plan:
    return plan(resolve(Document.parse(SMALL, "small.yaml"), overrides))


def run(where: Any, folder: Path, *overrides: str, **more: Any) -> None:
    run_sweep(work(*overrides), folder, None, Listener(lambda *_: None, str), executor=where, **more)


@contextlib.contextmanager
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


# ------------------------------------------------------------------------------------------------ what is asked for


def test_options_choose_what_runs_the_blocks() -> None:
    assert isinstance(chosen(), Local)
    assert isinstance(chosen("local"), Local)
    assert chosen(executor="pools:here") == Elsewhere("pools:here")
    found = chosen("ray", "10.0.0.1:6379")
    assert isinstance(found, Ray)
    assert found.address == "10.0.0.1:6379"
    for engine, address, executor, message in [
        (None, "10.0.0.1:6379", None, "--ray-address 10.0.0.1:6379: names a Ray cluster; give --engine ray too"),
        ("local", "10.0.0.1:6379", None, "give --engine ray too"),
        ("ray", None, "pools:here", "--executor: runs the blocks itself; leave out --engine"),
        (None, "a:1", "pools:here", "leave out --engine and --ray-address"),
    ]:
        with pytest.raises(InputError, match=message):
            chosen(engine, address, executor)


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_it_is_said_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--engine ray: Ray is not installed; pip install 'autoflip-secure\[ray\]'"):
        run(Ray(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "address", ["somewhere", "host:", "host:0", "host:65536", ":1", "ray://host:10001", "a b:1", "auto"]
)
def test_an_address_is_a_host_and_a_port(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{CLUSTER}.find_spec", lambda name: object())
    with pytest.raises(InputError, match=r"should be HOST:PORT, as `ray start --head` prints it"):
        run(Ray(address), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_address_where_nothing_answers_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{CLUSTER}.find_spec", lambda name: object())
    with listening() as address:
        pass
    with pytest.raises(InputError, match=rf"--ray-address {address}: nothing answers there \(.*refused.*ray start"):
        run(Ray(address), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("answer", "message"), [(b"HTTP/1.0 400 Bad\r\n", "what answers there is no Ray cluster"), (b"", "timed out")]
)
def test_what_answers_has_to_be_a_cluster(
    answer: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would wait for minutes."""
    monkeypatch.setattr(f"{CLUSTER}.find_spec", lambda name: object())
    monkeypatch.setattr(f"{CLUSTER}._REACHED_IN", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply() -> None:
            one, _ = server.accept()
            with one:
                one.sendall(answer)
                one.recv(100)
                time.sleep(0 if answer else 2)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(InputError, match=message):
            run(Ray(f"127.0.0.1:{server.getsockname()[1]}"), tmp_path / "out")
        thread.join()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "override", "message"),
    [
        ({"keep_models": True}, "rounds=2", r"--engine ray: models stay on the node .*leave out --keep-models"),
        ({}, "secure_sum={parties: 2, updates: true}", r"secure_sum reaches its parties .*leave out --engine ray"),
    ],
)
def test_what_it_cannot_do_is_refused_before_there_is_a_folder(
    more: dict[str, Any], override: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        run(Ray(), tmp_path / "out", override, **more)
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------ what goes along


def test_a_data_set_lies_as_it_lay() -> None:
    """Last bits may depend on how rows lie in memory."""
    images = torch.randn(5, 3, 4, 4).to(memory_format=torch.channels_last)
    one = Dataset("own", images, torch.arange(5), images[1:3], torch.tensor([0, 1]), 5, None, tuple("abcde"))
    back = unpacked(pickle.loads(pickle.dumps(packed(one), protocol=5)))
    assert back.x_train.stride() == images.stride() != torch.empty(5, 3, 4, 4).stride()
    for name in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(back, name), getattr(one, name)), name
    assert (back.groups, back.class_names, back.num_classes, back.pixels) == (None, tuple("abcde"), 5, None)
    back.x_train.zero_()
    assert one.x_train.abs().sum() > 0, "memory of its own"


def test_room_is_counted_node_by_node() -> None:
    there = [Node(4, 0, 8e9), Node(2, 1, 2e9), Node(0, 0, 8e9)]
    assert room(there, Needs(1, 0, 1e9)) == 4 + 2
    assert room(there, Needs(1, 0, 3e9)) == 2
    assert room(there, Needs(1, 0, 9e12)) == 1, "an estimate above every machine keeps no block from running"
    assert room(there, Needs(1, 1, 1e9)) == 1
    assert room([], Needs(1, 0, 1e9)) == 0
    refuse_without_room(there, [Needs(1, 1, 1e9)])
    with pytest.raises(InputError, match=r"no node of the cluster has a core and a GPU .*, or set device: cpu"):
        refuse_without_room(there[:1], [Needs(1, 1, 1e9)])
    with pytest.raises(InputError, match=r"has a core for a block; start nodes that have \(ray start --num-cpus N\)"):
        refuse_without_room(there[2:], [Needs(1, 0, 1e9)])


def test_needs_grow_with_the_model_and_count_no_gpu_on_the_cpu() -> None:
    small, large = (
        needs(work(f"model={{kind: mlp, hidden: [{width}]}}", "device=cpu").blocks[0], CellBuilder())
        for width in (8, 60_000)
    )
    assert (small.cpus, small.gpus) == (1.0, 0.0)
    parameters = 64 * 60_000 + 60_000 + 60_000 * 10 + 10
    assert large.memory - small.memory == pytest.approx(4 * parameters * 2 * (9 * 2 + 8), abs=2**29)
    assert small.memory % 2**28 == 0


# ------------------------------------------------------------------------------------------------ what a node opens


def opened_by(program: str, folder: Path, **environment: str) -> str:
    """What an interpreter of its own makes of the envelope, taken as text as Ray takes it by value."""
    source = Path(str(ray_envelope.__file__)).read_text()
    call = f"{source}\nimport json\nprint(json.dumps([str(x) for x in opened({program})]))"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-S", "-c", call], cwd=folder, env=clean | environment, capture_output=True,
                          text=True, check=True)  # fmt: skip
    return done.stdout


def test_a_node_without_the_package_says_so(tmp_path: Path) -> None:
    said = opened_by('"0.1.0", "/nowhere", ["/nowhere"], b"", [None], None', tmp_path)
    assert "refused" in said
    assert f"{socket.gethostname()} cannot import autoflip-secure 0.1.0 (No module named" in said


def test_a_node_with_another_version_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "autoflip_secure").mkdir()
    (tmp_path / "autoflip_secure" / "__init__.py").touch()
    (tmp_path / "autoflip_secure" / "version.py").write_text('__version__ = "0.0.9"\n')
    said = opened_by('"0.1.0", "/nowhere", [], b"no pickle", [None], None', tmp_path, PYTHONPATH=str(tmp_path))
    assert "has autoflip-secure 0.0.9, and the sweep was started with 0.1.0" in said


def test_messages_are_given_out_once_and_in_order() -> None:
    box = ray_envelope.Mailbox()
    box.put(1, b"a")
    box.put(2, b"b")
    assert box.take() == [(1, b"a"), (2, b"b")]
    assert box.take() == []
