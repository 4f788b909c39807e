"""A process that has imported what commands import, and becomes a command in a fork of itself; see forked.py.

Started as ``python fork_server.py FD`` with a socket that listens. One message asks for one command: how it runs as
JSON, with its standard streams and a pipe for its exit status. The answer is the process id. It never starts a
thread, so that forks are whole; it ends when nobody is connected any more.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import termios
import threading
from pathlib import Path
from typing import Any

import worker_seed

LARGEST = 1 << 20  # bytes of a request
PRELOAD = (
    "torch", "torch._dynamo", "opacus", "matplotlib.pyplot", "seaborn", "scipy.stats", "sklearn.datasets",
    "sklearn.metrics", "pyarrow.parquet", "pytest", "autoflip_secure.cli", "autoflip_secure.scenarios.running.build",
    "autoflip_secure.scenarios.running.sweep", "autoflip_secure.scenarios.running.executors.workers",
    "autoflip_secure.defenses.secure_aggregation.party", "autoflip_secure.defenses.secure_aggregation.crypten_ready",
    "autoflip_secure.scenarios.catalogue.derive", "autoflip_secure.reports.pages.report",
)  # fmt: skip


def serve(listening: socket.socket) -> dict[str, Any]:
    """Fork for every request. Returns in the forks only, with what to be."""
    waking, wake = os.pipe()
    for end in (waking, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    running: dict[int, int] = {}  # process -> where its exit status goes
    asking = [listening.accept()[0]]
    while True:
        ready = select.select([listening, waking, *asking], [], [])[0]
        if waking in ready:
            os.read(waking, 1 << 16)
            while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                status = running.pop(ended[0])
                with contextlib.suppress(OSError):  # of a test that is gone
                    os.write(status, str(os.waitstatus_to_exitcode(ended[1])).encode())
                os.close(status)
        if listening in ready:
            asking.append(listening.accept()[0])
        for one in [one for one in asking if one in ready]:
            text, streams = b"", []
            with contextlib.suppress(ConnectionError):
                text, streams, *_ = socket.recv_fds(one, LARGEST, 4)
            if not text:
                asking.remove(one)
                one.close()
                if not asking and not _expected(listening):
                    os._exit(0)
                continue
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for end in (listening, *asking):
                    end.close()
                for number in (waking, wake, *running.values()):
                    os.close(number)
                return json.loads(text) | {"streams": streams}
            running[pid] = streams.pop()
            for number in streams:
                os.close(number)
            with contextlib.suppress(OSError):
                one.send(str(pid).encode())


def _expected(listening: socket.socket) -> bool:
    """Whether somebody connected at the last moment; nobody will any more."""
    for place in (listening.getsockname(), listening.getsockname() + ".lock"):
        Path(place).unlink(missing_ok=True)
    return bool(select.select([listening], [], [], 0)[0])


def become(what: dict[str, Any], path: list[str]) -> None:
    """Take on what a new process would have: streams, session, folder, environment, arguments, import path."""
    if what["session"]:
        os.setsid()
    for number, stream in enumerate(what["streams"][:3]):
        os.dup2(stream, number)
    for stream in what["streams"]:
        os.close(stream)
    if what["terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(what["cwd"])
    os.environ.clear()
    os.environ.update(what["env"])
    encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", 1 if os.isatty(1) else -1, encoding, closefd=False)  # type: ignore
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, encoding, "backslashreplace", closefd=False)  # type: ignore
    sys.argv = ["", *what["arguments"]]
    sys.path[:] = [what["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *path]
    importlib.invalidate_caches()
    worker_seed.plant(path)


def ended(module: str, code: str | None) -> int:
    """Run to the end as an interpreter does, but leave freeing the memory to the system; the exit code."""
    number: Any = None
    try:
        if code is None:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        number = end.code
        if number is not None and not isinstance(number, int):
            print(number, file=sys.stderr)
            number = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        number = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # of a terminal that is gone
            stream.flush()
    return number or 0


def main() -> None:
    listening = socket.socket(fileno=int(sys.argv[1]))
    listening.set_inheritable(False)
    if os.fork():
        os._exit(0)
    gc.disable()  # nearly all that is imported stays
    path = sys.path[1:]  # the first is the folder of this file
    sys.path[:] = [str(Path(__file__).parents[2]), *path]
    for name in PRELOAD:
        importlib.import_module(name)
    threads = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1
    assert threads == 1, f"{threads} threads: a fork would take locks of the others with it"
    gc.freeze()
    gc.enable()
    what = serve(listening)
    become(what, path)
    os._exit(ended(what["module"], what["code"]))


if __name__ == "__main__":
    main()
