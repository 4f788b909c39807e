"""What differs between systems, and what can honestly be said about untested ones."""

from __future__ import annotations

import sys

TRIED = "linux"


def untried() -> str | None:
    """One sentence on systems where this program has not been tried; None on Linux."""
    if sys.platform == TRIED:
        return None
    return (
        f"this program is tested only on Linux, not on this system ({sys.platform}): results should be the same up to "
        "rounding, but nobody has tried"
    )


def peak_memory() -> int | None:
    """The most memory that this process has had, in bytes; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return bytes_of_maxrss(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def bytes_of_maxrss(value: int) -> int:
    """``ru_maxrss`` in bytes: macOS counts those, every other system KiB."""
    return value if sys.platform == "darwin" else value * 1024
