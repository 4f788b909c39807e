"""Memory: what there is for a device, what an error says about it, and giving back what is held for later."""

from __future__ import annotations

import gc
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from autoflip_secure.terminal.visible import short

if TYPE_CHECKING:
    import torch

_WORDS = ("can't allocate memory", "out of memory", "not enough memory", "ALLOC_FAILED", "std::bad_alloc")
_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container, v2 and v1


def out_of_memory(error: BaseException) -> str | None:
    """What an error says about memory that there is not; None: it is about something else.

    >>> out_of_memory(RuntimeError("[enforce fail] … can't allocate memory: you tried to allocate 52428800 bytes. …"))
    '50.0 MiB more were asked for'
    >>> out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of …"))
    '2.50 GiB more were asked for on the GPU'
    """
    text = str(error)
    if not isinstance(error, MemoryError) and not any(word in text for word in _WORDS):
        return None
    found = re.search(r"tried to allocate ([\d.]+) (\w+)", text, re.IGNORECASE)
    if found is None:
        return short(text or type(error).__name__)
    amount = f"{int(found[1]) / 2**20:.1f} MiB" if found[2] == "bytes" else f"{found[1]} {found[2]}"
    return f"{amount} more were asked for{' on the GPU' if 'CUDA' in text else ''}"


def machine_memory() -> int | None:
    """Bytes of memory that this machine has; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def memory_of(device: torch.device) -> int | None:
    """Bytes that a program on ``device`` may fill: the whole GPU, or what machine and container have.

    Not what is free at the moment, so that it is the same in every run.
    """
    if device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    known = [bound for bound in (machine_memory(), *map(_group, _GROUPS)) if bound is not None]
    return min(known, default=None)


def give_back(device: torch.device) -> None:
    """What is held and not used goes back to the device, so that the next program finds it whole."""
    gc.collect()
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()


def _group(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # there is none, or "max"
        return None
