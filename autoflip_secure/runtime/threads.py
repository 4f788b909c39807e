"""One thread for everything that numbers may depend on.

Sums that several threads share are added up in another order than by one: the last bits of an epsilon move with the
number of BLAS threads (seen: 5e-15), those of a training with torch's. So whatever computes numbers does it inside
:func:`one_thread`; cells run side by side in processes instead.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_entered = threading.local()  # OpenMP counts threads for each of the program's threads by itself


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, numpy, scipy and torch compute with one thread; afterwards as before. ``@one_thread()`` decorates.

    Entering it again inside costs nothing. Import torch before, if it is to compute inside.
    """
    if getattr(_entered, "already", False):
        yield
        return
    import numpy as np  # noqa: F401 - each wheel brings a BLAS of its own, and only what is loaded can be limited
    import scipy.linalg  # noqa: F401

    torch = sys.modules.get("torch")  # takes seconds to import, and what is not there does not compute
    before = torch.get_num_threads() if torch else 1
    with _pools().limit(limits=1):
        if torch:
            torch.set_num_threads(1)  # also of the MKL inside torch, which threadpoolctl does not see
        _entered.already = True
        try:
            yield
        finally:
            _entered.already = False
            if torch:
                torch.set_num_threads(before)


class _Library(ctypes.Structure):
    """The head of what the loader says of a library (``man 3 dl_iterate_phdr``)."""

    _fields_ = (
        *(("address", ctypes.c_void_p), ("name", ctypes.c_char_p), ("headers", ctypes.c_void_p)),
        *(("count", ctypes.c_uint16), ("loaded", ctypes.c_ulonglong)),
    )


def _note(library: ctypes._Pointer[_Library], size: int, found: list[int]) -> int:
    if size >= ctypes.sizeof(_Library):
        found.append(library.contents.loaded)
    return 1  # each library says it, and one is enough


_noting = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Library), ctypes.c_size_t, ctypes.py_object)(_note)


def _loads() -> int | None:
    """How many libraries this process has ever loaded; None where the loader does not count them."""
    found: list[int] = []
    ask = getattr(ctypes.CDLL(None), "dl_iterate_phdr", None) if sys.platform == "linux" else None
    if ask is not None:
        ask(_noting, ctypes.py_object(found))
    return found[0] if found else None


_known: tuple[int | None, ThreadpoolController] | None = None


def _pools() -> ThreadpoolController:
    """The pools of threads of all libraries that are loaded by now; looking for them takes milliseconds."""
    global _known  # noqa: PLW0603 - libraries are loaded once for the process
    loads = _loads()
    if _known is None or loads is None or _known[0] != loads:
        from threadpoolctl import ThreadpoolController

        _known = (loads, ThreadpoolController())
    return _known[1]


def one_thread_from_the_start() -> None:
    """The same for a whole process of our own and the processes that it starts: call before any library is imported."""
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))
