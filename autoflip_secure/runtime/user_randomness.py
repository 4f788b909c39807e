"""What a user's own code draws from the generators of the process: at an address of the seed, and noticed.

A forward or a factory may draw from torch's, numpy's or Python's global generator; each is put at an address before the
code runs and back to where it was behind it, so that no draw depends on what ran before. Generators of the code's own
(``numpy.random.default_rng()``, the operating system's) are out of reach; a rehearsal finds those by what they change.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autoflip_secure.seeds import generator


@contextmanager
def drawing_at(seed: int, *address: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, the global generators of torch, numpy and Python are at ``address``; outside they are as they were.

    Args:
        seed: of the run.
        address: purpose, round, client, …; see :mod:`autoflip_secure.seeds`.
        device: where the code computes; on a GPU, torch's generator there too.
    """
    word = generator(seed, *address).initial_seed()
    on_gpu = torch.device(device).type == "cuda"
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if on_gpu else []):
        # not torch.manual_seed: that would also reseed accelerators, which are not forked here
        torch.default_generator.manual_seed(word)
        if on_gpu:
            torch.cuda.manual_seed(word)
        np.random.seed(word % 2**32)
        random.seed(word)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


@dataclass(frozen=True)
class GlobalDraws:
    """Where the global generators of the process (those of the CPU) stand."""

    states: tuple[tuple[str, Any], ...]

    @classmethod
    def now(cls) -> GlobalDraws:
        """As they stand now."""
        _, words, place, *rest = np.random.get_state()
        torch_state = bytes(torch.get_rng_state().numpy())
        numpy_state = (np.asarray(words).tobytes(), place, *rest)
        return cls((("torch", torch_state), ("numpy.random", numpy_state), ("random", random.getstate())))

    def moved(self) -> str | None:
        """The name of the first generator that was drawn from since; None: nobody drew."""
        return next(
            (name for (name, one), (_, other) in zip(self.states, self.now().states, strict=True) if one != other), None
        )
