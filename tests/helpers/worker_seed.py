"""The server process of a forked command's workers and parties, without the seconds that its imports take.

``multiprocessing`` starts it as an interpreter of its own. Here it is a fork of the command that was made before the
command ran anything: it has what :mod:`fork_server` imported and nothing else, waits, and becomes that server when it
is asked for. Signals, groups, streams, environment, import path and descriptors are those that a new interpreter
would have.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Sequence
from multiprocessing import util
from typing import Any

LARGEST = 1 << 20  # bytes of a request
OURS = 512  # descriptors from here on are not the server's
ASK_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def plant(path: list[str]) -> None:
    """Have one ready for this process, which has one thread and has run nothing yet; ``path`` is Python's own."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ASK_TO_END)
    pid = os.fork()
    if not pid:
        ours.close()
        code = 1
        try:
            code = _grow(its, path)
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    its.close()
    start = util.spawnv_passfds

    def spawned(executable: str, arguments: Sequence[str], descriptors: Sequence[int]) -> Any:
        if "multiprocessing.forkserver" not in arguments[-1]:
            return start(executable, arguments, descriptors)
        util.spawnv_passfds = start
        numbers = [0, 1, 2, *(int(number) for number in descriptors)]  # streams as they are by now, not at the fork
        what = {"code": arguments[-1], "env": dict(os.environ), "descriptors": numbers}
        try:
            socket.send_fds(ours, [json.dumps(what).encode()], numbers)
        except OSError:  # somebody has ended it
            return start(executable, arguments, descriptors)
        finally:
            ours.close()
        return pid

    util.spawnv_passfds = spawned


def _grow(its: socket.socket, path: list[str]) -> int:
    """Wait until the server is asked for, and be it; the exit code."""
    text, given, *_ = socket.recv_fds(its, LARGEST, 16)
    if not text:
        return 0
    what = json.loads(text)
    kept = [fcntl.fcntl(number, fcntl.F_DUPFD, OURS) for number in given]
    its.detach()
    os.closerange(3, OURS)
    for number, place in zip(kept, what["descriptors"], strict=True):
        os.dup2(number, place)
        os.close(number)
    os.environ.clear()
    os.environ.update(what["env"])
    sys.path[:] = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *path]
    importlib.invalidate_caches()
    for rule in filter(None, os.environ.get("PYTHONWARNINGS", "").split(",")):
        warnings.simplefilter(rule)  # type: ignore[arg-type]
    sys.argv = ["-c"]
    with contextlib.suppress(SystemExit):
        exec(what["code"], {"__name__": "__main__"})
    return 0
