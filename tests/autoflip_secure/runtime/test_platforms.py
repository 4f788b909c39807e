"""Other systems lack names and count otherwise: modules are imported there, and one sentence says what is tried."""

import ast
import os
import re
import runpy
import signal
import socket
import sys
from pathlib import Path

import pytest

from autoflip_secure.runtime import platforms

ROOT = Path(__file__).parents[3]
LACKING = {  # what Windows, or macOS, does not have
    "signal": {"SIGHUP", "SIGKILL", "SIGUSR1", "SIGCHLD", "pthread_sigmask", "alarm", "setitimer"},
    "os": {
        "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "fork", "setsid", "geteuid", "getuid", "killpg", "sched_getaffinity",
        "mkfifo", "fchmod", "statvfs", "getloadavg", "uname", "register_at_fork", "fdatasync", "posix_fadvise",
    },
    "socket": {"AF_UNIX", "SO_REUSEPORT", "send_fds", "recv_fds"},
}  # fmt: skip
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "posix"}
GUARDED = {
    ("autoflip_secure/runtime/interrupts.py", "signal.SIGHUP"),  # hasattr
    ("autoflip_secure/runtime/platforms.py", "resource"),  # ImportError
    ("autoflip_secure/runtime/processes.py", "signal.SIGHUP"),  # hasattr
    ("autoflip_secure/runtime/processes.py", "signal.pthread_sigmask"),  # where processes are forked, on Linux
    ("scenarios/running/executors/local.py", "os.sched_getaffinity"),  # hasattr
}


def test_what_other_systems_lack_is_used_behind_a_guard() -> None:
    found = set()
    named = re.compile(rf"\b(?:{'|'.join(MODULES.union(*LACKING.values()))})\b")  # a source without need not be parsed
    for package in ("autoflip_secure", "attacks", "defenses", "scenarios", "reports"):
        for path in (ROOT / package).rglob("*.py"):
            source = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(source if named.search(source) else "")):
                names = []
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    names = [f"{node.value.id}.{node.attr}"] * (node.attr in LACKING.get(node.value.id, ()))
                elif isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names if alias.name in MODULES]
                elif isinstance(node, ast.ImportFrom):
                    names = [str(node.module)] * (node.module in MODULES)
                found |= {(path.relative_to(ROOT).as_posix(), name) for name in names}
    assert found == GUARDED


def test_modules_where_these_names_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.delattr(os, "O_NONBLOCK")
    monkeypatch.delattr(os, "O_CLOEXEC")
    monkeypatch.delattr(socket, "AF_UNIX")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert runpy.run_path(str(ROOT / "autoflip_secure/runtime/interrupts.py"))["SIGNALS"] == (signal.SIGTERM,)
    regular = ROOT / "autoflip_secure/files/regular_files.py"
    assert runpy.run_path(str(regular))["read_regular"](Path(__file__)).startswith(b'"""Other systems')
    assert runpy.run_path(str(ROOT / "defenses/secure_aggregation/wire.py"))["UNIX"] is None
    assert platforms.peak_memory() is None


@pytest.mark.parametrize(("system", "expected"), [("linux", 2048), ("darwin", 2), ("freebsd14", 2048)])
def test_units_of_peak_memory(system: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert platforms.bytes_of_maxrss(2) == expected


def test_this_process_has_had_some_memory() -> None:
    peak = platforms.peak_memory()
    assert peak is not None
    assert 20 * 2**20 < peak < 2**40


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_systems_that_nobody_tried_hear_it(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert platforms.untried() is None
    monkeypatch.setattr(sys, "platform", system)
    sentence = platforms.untried()
    assert sentence is not None
    assert "tested only on Linux" in sentence
    assert system in sentence


def test_local_parties_need_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    from autoflip_secure.defenses.secure_aggregation import local_parties as parties
    from autoflip_secure.defenses.secure_aggregation import party
    from autoflip_secure.defenses.secure_aggregation.wire import Address
    from autoflip_secure.errors import InputError

    monkeypatch.setattr(parties, "UNIX", None)
    monkeypatch.setattr(party, "UNIX", None)
    with pytest.raises(InputError, match="need Unix sockets"), parties.local_parties(2, 1.0):
        pass
    with pytest.raises(InputError, match="give host and port"):
        party.listen(Address("/tmp/x", None))
