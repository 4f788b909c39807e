"""What processes do in test_processes.py; a module of its own, so that they find it."""

import gc
import os
import signal
import sys
from multiprocessing.connection import Connection


def tell(pipe: Connection, question: str) -> None:
    """What a process sees of its surroundings."""
    ignored = [signal.getsignal(number) is signal.SIG_IGN for number in (signal.SIGINT, signal.SIGHUP)]
    blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    pipe.send({
        "variable": os.environ.get(question), "safe path": os.environ.get("PYTHONSAFEPATH"), "folder": os.getcwd(),
        "path": sys.path, "ignored": ignored, "blocked": blocked, "torch": "torch" in sys.modules,
        "of the parent": "hypothesis" in sys.modules, "bars lock": _lock_of_bars(),
        "set aside": gc.get_freeze_count(), "looks for cycles": gc.isenabled(),
    })  # fmt: skip


def _lock_of_bars() -> str | None:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return type(tqdm.get_lock()).__module__


def wait(pipe: Connection) -> None:
    """Until somebody ends it."""
    pipe.recv()
