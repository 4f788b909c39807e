"""A SuperLink and SuperNodes as processes of their own, over HTTP on the loopback: what runs across machines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

WHY = "Flower is not among the test tools, for it keeps typer, rich and protobuf back: pip install '.[flower]'"
pytest.importorskip("flwr", reason=WHY)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

from both_ways import by_engine  # noqa: E402

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "examples" / "flower"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Loopback:
    """Programs of Flower on this machine; all end with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.programs = Path(sys.executable).parent
        self.environment = {
            **os.environ, "FLWR_HOME": str(folder), "FLWR_TELEMETRY_ENABLED": "0", "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "NO_COLOR": "1",
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        self.running: list[subprocess.Popen[bytes]] = []
        address = f"127.0.0.1:{self.port}"
        connection = f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{address}"\ninsecure = true\n'
        (folder / "config.toml").write_text(connection, encoding="utf-8")
        self.start("link", "flower-superlink", "--insecure", "--disable-runtime-dependency-installation",
                   "--host", "127.0.0.1", "--port", str(self.port))  # fmt: skip
        self.until(self._answers, 120)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start(self, log: str, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("wb") as out:
            process = subprocess.Popen(
                [self.programs / program, *arguments], cwd=FOLDER, env=self.environment, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.running.append(process)
        return process

    def node(self, client: int, log: str) -> subprocess.Popen[bytes]:
        return self.start(
            log, "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{self.port}", "--port", str(free_port()),
            "--node-config", f"partition-id={client} num-partitions=2",
        )  # fmt: skip

    def run(self, config: dict[str, Any]) -> None:
        said = " ".join(
            f"{key}='{value}'" if isinstance(value, str) else f"{key}={value}" for key, value in config.items()
        )
        self.start("run", "flwr", "run", ".", "here", "--stream", "--run-config", said)

    @property
    def said(self) -> str:
        return (self.folder / "run").read_text(encoding="utf-8", errors="replace")

    @property
    def printed(self) -> list[str]:
        """What the example prints at the end."""
        lines = [line for line in self.said.splitlines() if "round " in line and "bytes up" in line]
        return [line[line.index("round ") :] for line in lines]

    def until(self, seen: Callable[[], Any], seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        while not seen():
            assert time.monotonic() < end, self.said[-3000:]
            time.sleep(0.5)

    def kill(self, process: subprocess.Popen[bytes], how: int = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)

    def close(self) -> None:
        for process in self.running[::-1]:
            self.kill(process, signal.SIGTERM)
        for process in self.running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            self.kill(process)
            process.wait(20)


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Loopback]:
    found = Loopback(tmp_path)
    yield found
    found.close()


def lines_of(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the example would print of the engine's run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from digits_federation.task import federation

    record, _ = by_engine(federation(SimpleNamespace(run_config=config)))
    return [
        f"round {one.round}: clients {one.participants}, density {one.density:.3f}, "
        f"{one.bytes.uplink_values:,} bytes up, accuracy {one.test_accuracy:.4f}"
        for one in record.rounds
    ]


def test_processes_on_the_loopback_give_the_engines_rounds(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"algorithm": "autoflip", "clients": 2, "cohort": 2, "rounds": 2, "seed": 10}
    for client in range(2):
        loopback.node(client, f"node{client}")
    loopback.run(config)
    loopback.until(lambda: len(loopback.printed) == 2)
    assert loopback.printed == lines_of(config, monkeypatch)


def test_a_node_that_is_killed_is_missed_and_one_that_is_started_again_takes_part(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"algorithm": "fedavg", "clients": 2, "cohort": 2, "rounds": 4, "seed": 10}
    loopback.node(0, "node0")
    other = loopback.node(1, "node1")
    loopback.run(config)
    loopback.until(lambda: "[ROUND 2/4]" in loopback.said)
    loopback.kill(other)
    loopback.until(lambda: "[ROUND 3/4]" in loopback.said)
    loopback.node(1, "node1-again")
    loopback.until(lambda: len(loopback.printed) == 4)
    assert loopback.printed[0] == lines_of(config, monkeypatch)[0]
    assert "clients [0]," in loopback.printed[1], "it was asked, and did not answer"
    assert "round 2: a message failed with error 5" in loopback.said, (
        "NODE_UNAVAILABLE, as the SuperLink answers for it"
    )
    assert "round 2: clients 1 did not answer: left out" in loopback.said
    assert "clients 1 are not there, and are not asked" in loopback.said
    assert "clients [0, 1]," in loopback.printed[3]
