"""Started processes: surroundings of this moment, nothing of this process's state, no signal of the terminal."""

import os
import signal
import sys
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import started
from processes import helpers

from autoflip_secure.runtime import processes

WAYS = [pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")), False]


def asked(question: str) -> dict[str, Any]:
    here, there = Pipe()
    process = processes.start(started.tell, there, question, name="asked")
    there.close()
    try:
        found: dict[str, Any] = here.recv()
    finally:
        process.join(30)
        here.close()
    assert (process.name, process.exitcode) == ("asked", 0)
    return found


@pytest.mark.parametrize("forks", WAYS, ids=["forked", "spawned"])
def test_surroundings_are_those_of_this_moment(forks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_FORKS", forks)
    before = dict(os.environ)
    assert asked("AUTOFLIP_ASKED")["variable"] is None
    assert dict(os.environ) == before
    monkeypatch.setenv("AUTOFLIP_ASKED", "yes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "models"))
    found = asked("AUTOFLIP_ASKED")
    assert (found["variable"], found["folder"]) == ("yes", str(tmp_path))
    assert found["safe path"] == before.get("PYTHONSAFEPATH")
    assert [place for place in sys.path if place] == [place for place in found["path"] if place in sys.path and place]
    assert found["ignored"] == [True, True]
    assert found["blocked"] == []
    assert found["torch"] or not forks, "the server has imported it"
    assert not found["of the parent"]
    assert found["looks for cycles"]
    assert (found["set aside"] > 0) == forks, "what the server imported stays"
    assert found["bars lock"] in ("_thread", None), "a semaphore of the system would outlive a killed process"


def test_signals_reach_the_one_that_is_meant() -> None:
    """Ctrl-C and a closed terminal reach the whole group, the server too; a killed process says how it ended."""
    here, there = Pipe()
    first = processes.start(started.wait, there)
    group = [p for p in helpers() if p.pid == first.pid]
    assert len(group) == 1
    for number in (signal.SIGINT, signal.SIGHUP):
        group[0].send_signal(number)  # at once: it may not have begun
        for server in group[0].parents()[:1]:
            if server.pid != os.getpid():
                server.send_signal(number)
    assert asked("PATH")["variable"] == os.environ["PATH"], "the server goes on"
    assert first.is_alive()
    first.terminate()
    first.join(30)
    assert first.exitcode == -signal.SIGTERM
    here.close()
    there.close()
