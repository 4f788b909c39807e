"""A SuperLink and SuperNodes as processes of their own, over HTTP on the loopback: what runs across machines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

WHY = "Flower is not among the test tools, for it keeps typer, rich and protobuf back: pip install '.[flower]'"
pytest.importorskip("flwr", reason=WHY)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

from runs import by_engine  # noqa: E402

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "examples" / "flower"
CONFIG = {"algorithm": "autoflip", "clients": 2, "cohort": 2, "rounds": 2, "seed": 10}
Start = Callable[..., subprocess.Popen[bytes]]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a program of Flower, and ends it after the test."""
    programs = Path(sys.executable).parent
    environment = {
        **os.environ, "FLWR_HOME": str(tmp_path), "FLWR_TELEMETRY_ENABLED": "0", "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "NO_COLOR": "1",
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    with ExitStack() as running:

        def started(log: str, program: str, *arguments: str) -> subprocess.Popen[bytes]:
            out = running.enter_context((tmp_path / log).open("wb"))
            process = subprocess.Popen(
                [programs / program, *arguments], cwd=FOLDER, env=environment, stdout=out, stderr=subprocess.STDOUT
            )
            running.callback(process.wait, 60)
            running.callback(process.terminate)
            return process

        yield started


def test_processes_on_the_loopback_give_the_engines_rounds(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    (tmp_path / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{address}"\ninsecure = true\n', encoding="utf-8"
    )
    start("link", "flower-superlink", "--insecure", "--disable-runtime-dependency-installation",
          "--host", "127.0.0.1", "--port", str(port))  # fmt: skip
    for client in range(2):
        start(f"node{client}", "flower-supernode", "--insecure", "--superlink", address, "--port", str(free_port()),
              "--node-config", f"partition-id={client} num-partitions=2")  # fmt: skip
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.5)
    said = " ".join(f"{key}='{value}'" if isinstance(value, str) else f"{key}={value}" for key, value in CONFIG.items())
    run = start("run", "flwr", "run", ".", "here", "--stream", "--run-config", said)
    printed, until = list[str](), time.monotonic() + 1200
    while len(printed) < CONFIG["rounds"] and time.monotonic() < until and run.poll() in (None, 0):
        time.sleep(2)
        lines = (tmp_path / "run").read_text(encoding="utf-8", errors="replace").splitlines()
        printed = [line[line.index("round ") :] for line in lines if "round " in line and "bytes up" in line]
    monkeypatch.syspath_prepend(str(FOLDER))
    from digits_federation.task import federation

    record, _ = by_engine(federation(SimpleNamespace(run_config=CONFIG)))
    expected = [
        f"round {one.round}: clients {one.participants}, density {one.density:.3f}, "
        f"{one.bytes.uplink_values:,} bytes up, accuracy {one.test_accuracy:.4f}"
        for one in record.rounds
    ]
    assert printed == expected, (tmp_path / "run").read_text(encoding="utf-8", errors="replace")[-3000:]
