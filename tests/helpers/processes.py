"""Process groups, for tests that interrupt and kill."""

import os
import time

import psutil

PATIENCE = 1500
"""Seconds in which a process has to do what it is waited for: machines are busy, and tests have limits."""

_SERVERS = ("multiprocessing.forkserver", "fork_server.py")  # what workers and parties are forked from


def gone(group: int) -> bool:
    """Whether no process of the group is left, in 30 seconds at most: what is importing hears of it after that."""
    for _ in range(300):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def helpers(of: int | None = None) -> list[psutil.Process]:
    """The processes that work for one, oldest first, without those that only start or tidy up after others."""
    process = psutil.Process(of)
    return [
        p for p in sorted(process.children(recursive=True), key=lambda p: p.create_time())
        if "resource_tracker" not in " ".join(p.cmdline())
        and not (p.ppid() == process.pid and any(word in " ".join(p.cmdline()) for word in _SERVERS))
    ]  # fmt: skip
