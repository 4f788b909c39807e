"""Which of a library's algorithms compute: on x86, MKL is asked for the ones that give the same bits again.

MKL promises equal bits from equal inputs in different places of memory only when it is asked to (Intel, oneMKL
developer guide, "Obtaining numerically reproducible results"). Without it the last bits of a model depend on where in a
stack the model stands: seen on AVX2, for matrices whose size is not a multiple of 64 bytes. The mode ``AUTO`` costs
a few per cent; ``COMPATIBLE``, which would give the same bits on every x86 processor, takes up to 3 times as long
(``benchmarks/kernels.py``).
"""

from __future__ import annotations

import os
import platform

VARIABLE = "MKL_CBWR"
"""MKL reads it when it first computes."""
_OTHERS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def ask_for_reproducible() -> None:
    """Ask MKL, unless the environment asks it for something already. Call before torch computes anything."""
    os.environ.setdefault(VARIABLE, "AUTO")


def description(*, mixed: bool = False) -> str:
    """Processor and kernels, for records: runs on other ones differ in their last bits, and mixed ones by more."""
    import torch

    from autoflip_secure.runtime.processor import bfloat16_units

    asked = [f"{name}={os.environ[name]}" for name in (VARIABLE, *_OTHERS) if os.environ.get(name)]
    units = [f"bfloat16 by {bfloat16_units()}"] if mixed else []
    return ", ".join([f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}", *units, *asked])


def of_gpu() -> str:
    """The GPU that torch uses, and the libraries that compute on it; of a process that has one."""
    import torch

    cudnn: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    libraries = f"CUDA {torch.version.cuda}, cuDNN {cudnn}"
    return f"{torch.cuda.get_device_name()}, {libraries}"
