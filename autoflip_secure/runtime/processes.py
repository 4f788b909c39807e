"""Processes that work for this one: started in a moment, deaf to Ctrl-C, gone when this one is gone.

A process that imports torch by itself spends seconds on it. On Linux one server process does it for all: it runs no
code but imports, forks when asked (``multiprocessing``'s "forkserver", which ends with the process that started it),
and finds modules where this process would. Elsewhere every process is started anew ("spawn"). Never is this process
itself forked: torch has threads by then.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from autoflip_secure.runtime.library_warnings import tame

_SLOW = ("opacus", "sklearn.metrics", "torch._dynamo")  # to import; where this process has, others will
_HERE = "autoflip_secure.runtime"
_FORKS = sys.platform == "linux" and "forkserver" in multiprocessing.get_all_start_methods()


def start(target: Callable[..., None], *args: Any, name: str | None = None, imports: Sequence[str] = ()) -> BaseProcess:
    """Start ``target(*args)`` in a process that ends with this one, as soon as that is killed too.

    Args:
        target: what it does; a function of a module.
        args: its arguments; connections may be among them.
        name: of the process.
        imports: modules, besides torch, that such processes spend their start on; the first caller's are the server's.
    """
    context: Any = multiprocessing.get_context("forkserver" if _FORKS else "spawn")
    if _FORKS:
        slow = ["torch", *imports, *(name for name in _SLOW if name in sys.modules)]
        context.set_forkserver_preload([f"{_HERE}.imports_begin", *slow, f"{_HERE}.imports_end"])
        multiprocessing.resource_tracker.ensure_running()  # by itself: when it starts, it unblocks signals
        with _like_here():
            multiprocessing.forkserver.ensure_running()
    process: BaseProcess = context.Process(target=_main, args=(dict(os.environ), target, args), name=name, daemon=True)
    with _without_script():
        process.start()
    return process


@contextlib.contextmanager
def _without_script() -> Iterator[None]:
    """What is started does not run the program that starts it: a user's script calls us outside any ``__main__`` guard.

    Nothing that is sent to a process lives in that module.
    """
    script = sys.modules.get("__main__")
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        if script is not None:
            sys.modules["__main__"] = script


_ASK_TO_END = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


@contextlib.contextmanager
def _like_here() -> Iterator[None]:
    """What is started imports from where this process does, and hears no signal: those go to the whole group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ASK_TO_END)
    meanwhile = {
        "PYTHONPATH": os.pathsep.join(place or os.getcwd() for place in sys.path), "PYTHONSAFEPATH": "1",
        "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's, the only thread that an import starts
        "PYTHONWARNINGS": "ignore",  # of what it imports; what it starts decides for itself
    }  # fmt: skip
    kept = {name: os.environ.get(name) for name in meanwhile}
    options = sys.warnoptions[:]  # -W error would end it at the first import that warns
    os.environ.update(meanwhile)
    sys.warnoptions.clear()
    try:
        yield
    finally:
        sys.warnoptions[:] = options
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _main(environment: dict[str, str], target: Callable[..., None], args: tuple[Any, ...]) -> None:
    for number in set(_ASK_TO_END) - {signal.SIGTERM}:  # of the terminal: the parent decides
        signal.signal(number, signal.SIG_IGN)
    if _FORKS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASK_TO_END)
        os.environ.clear()
        os.environ.update(environment)
    tame()
    _lock_bars_here()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    target(*args)


def _lock_bars_here() -> None:
    """Progress bars of tqdm, which torch makes where it is installed, lock threads of this process and no other one.

    Their own lock is a semaphore of the system: left behind when the process is ended, and complained of at the end.
    """
    with contextlib.suppress(ImportError):
        from tqdm import tqdm

        tqdm.set_lock(threading.RLock())


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
