"""Commands in processes of their own, without the seconds that an interpreter needs to import torch.

``python -m MODULE`` forked from :mod:`fork_server`, which has imported everything, once for all workers of pytest.
What a process is - signals, sessions, streams, exit codes, folders, environment - is real; what is imported at its
start is not its own, nor at the start of its workers and parties (:mod:`worker_seed`), and variables that are read
while torch starts are those of the server. Where that is the subject of a test, it starts an interpreter.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from filelock import FileLock
from processes import PATIENCE

ROOT = Path(__file__).parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
_asking = threading.Lock()


@functools.cache
def _server() -> socket.socket:
    """A connection to the server of this run of pytest, which its first command starts; gone with the last of them."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    place = Path(tempfile.gettempdir()) / f"fork-server-{run}"
    here = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with FileLock(f"{place}.lock"):
        try:
            here.connect(str(place))
        except OSError:  # there is none yet, or it has ended
            place.unlink(missing_ok=True)
            _start(place)
            here.connect(str(place))
    atexit.register(here.close)
    return here


def _start(place: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))}
    script = str(Path(__file__).with_name("fork_server.py"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(place))
        listening.listen()
        subprocess.run(  # it leaves a server behind that is nobody's child
            [sys.executable, script, str(listening.fileno())], pass_fds=[listening.fileno()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, env=environment | ONE_THREAD, start_new_session=True, check=True,
        )  # fmt: skip


class Process:
    """What tests use of ``subprocess.Popen``, of a command that runs in a fork."""

    def __init__(self, pid: int, status: int, stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self.pid, self.stdout, self.stderr = pid, stdout, stderr
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        return self._waited(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._waited(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def _waited(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(os.read(self._status, 16))
            os.close(self._status)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it writes until it ends, on standard output and standard error."""
        end = None if timeout is None else time.monotonic() + timeout
        said = {stream: "" for stream in (self.stdout, self.stderr) if stream is not None}
        readers = [threading.Thread(target=lambda s=s: said.update({s: s.read()}), daemon=True) for s in said]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(None if end is None else max(0.0, end - time.monotonic()))
        self.wait(None if end is None else max(0.0, end - time.monotonic()))
        for stream in said:
            stream.close()
        return tuple(said.get(stream, "") if stream is not None else "" for stream in (self.stdout, self.stderr))  # type: ignore[return-value]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        self.wait()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()


def start(
    *arguments: object,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    module: str = "autoflip_secure",
    code: str | None = None,
    stdin: int | None = None,
    stdout: int | IO[str] = subprocess.PIPE,
    stderr: int | IO[str] = subprocess.PIPE,
    session: bool = False,
    terminal: bool = False,
) -> Process:
    """``python -m module arguments`` in ``cwd``, with the repository on its path.

    Args:
        arguments: what follows the module.
        cwd: its current folder.
        env: variables beside those of this process.
        module: what ``-m`` is given.
        code: a program instead, as ``-c`` takes it.
        stdin: a descriptor; None gives it nothing to read.
        stdout: ``PIPE``, ``DEVNULL``, a descriptor or a file.
        stderr: the same.
        session: it leads a session (and a process group) of its own.
        terminal: standard input is a terminal, and becomes that of the session.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    variables = {**inherited, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(env or {})}
    pipes: list[IO[str] | None] = []
    given, ours = [], []  # descriptors; those that are to be closed here
    nothing = os.open(os.devnull, os.O_RDWR)
    ours.append(nothing)
    given.append(nothing if stdin is None else stdin)
    for stream in (stdout, stderr):
        read: IO[str] | None = None
        if stream == subprocess.PIPE:
            reading, writing = os.pipe()
            read = os.fdopen(reading, encoding="utf-8")
            ours.append(writing)
            given.append(writing)
        elif stream == subprocess.DEVNULL:
            given.append(nothing)
        else:
            given.append(stream if isinstance(stream, int) else stream.fileno())
        pipes.append(read)
    status, tell = os.pipe()
    ours.append(tell)
    what = {
        "module": module, "code": code, "arguments": [str(a) for a in arguments], "cwd": str(cwd), "env": variables,
        "session": session, "terminal": terminal,
    }  # fmt: skip
    try:
        with _asking:
            socket.send_fds(_server(), [json.dumps(what).encode()], [*given, tell])
            pid = int(_server().recv(64))
    finally:
        for number in ours:
            os.close(number)
    return Process(pid, status, *pipes)


def run(
    *arguments: object,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    module: str = "autoflip_secure",
    code: str | None = None,
    timeout: float = PATIENCE,
) -> subprocess.CompletedProcess[str]:
    """:func:`start` to its end, with what it wrote; killed when it takes longer than ``timeout`` seconds."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        with start(*arguments, cwd=cwd, env=env, module=module, code=code, stdout=out, stderr=err) as process:
            code = process.wait(timeout)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([module, *map(str, arguments)], code, out.read(), err.read())
