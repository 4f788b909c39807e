"""Which processor this is: libraries choose kernels and block sizes by it, and last bits follow from these."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path

_ABOUT = Path("/proc/cpuinfo")
_NAMES = ("vendor_id", "model name", "cpu family", "model", "stepping", "cache size")  # of x86
_NAMES_OF_ARM = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision")
BFLOAT16 = {"amx_bf16": "AMX", "avx512_bf16": "AVX512_BF16", "bf16": "Arm's BF16"}
"""Feature of a processor that multiplies in bfloat16 -> its name; the first that is there computes."""
_VECTORS = ("sse", "ssse", "avx", "amx", "fma", "f16c", "asimd", "sve", "sme", "fp", "bf16", "i8mm")
"""How the names of features begin that kernels are chosen by; an update of the system may change others."""


@cache
def identity() -> str:
    """Model, cache and features of this machine's first processor; elsewhere than on Linux what Python knows of it."""
    known = _first()
    said = [known[name] for name in (*_NAMES, *_NAMES_OF_ARM) if known.get(name)]
    if not said:
        return f"{platform.machine()} {platform.processor()}".strip()
    vectors = sorted(feature for feature in _features() if feature.startswith(_VECTORS))
    return f"{' '.join(said)}, vectors {hashlib.sha256(' '.join(vectors).encode()).hexdigest()[:12]}"


@cache
def bfloat16_units() -> str:
    """What multiplies in bfloat16 here, in a few words."""
    features = _features()
    if not features:
        return "unknown units"
    return next((name for flag, name in BFLOAT16.items() if flag in features), "emulation")


def _features() -> frozenset[str]:
    known = _first()
    return frozenset(known.get("flags", known.get("Features", "")).split())


@cache
def _first() -> dict[str, str]:
    try:
        text = _ABOUT.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = text.split("\n\n", 1)[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
