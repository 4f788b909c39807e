"""One thread for everything that numbers may depend on.

Sums that several threads share are added up in another order than by one: the last bits of an epsilon move with the
number of BLAS threads (seen: 5e-15), those of a training with torch's. So whatever computes numbers does it inside
:func:`one_thread`; cells run side by side in processes instead.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")  # takes seconds to import, and what is not there does not compute
    before = torch.get_num_threads() if torch else 1
    with threadpool_limits(1):
        if torch:
            torch.set_num_threads(1)  # also of the MKL inside torch, which threadpoolctl does not see
        _entered.already = True
        try:
            yield
        finally:
            _entered.already = False
            if torch:
                torch.set_num_threads(before)


def one_thread_from_the_start() -> None:
    """The same for a whole process of our own and the processes that it starts: call before any library is imported."""
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))
