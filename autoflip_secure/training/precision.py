"""Mixed precision: forward and backward in bfloat16 where torch knows that it does no harm, all else in float32.

What torch's autocast converts are matrix products and convolutions (Micikevicius et al. 2018, Section 3: a master copy
of the weights in float32). bfloat16 has the exponents of float32, so losses need no scaling. Masks, local rules, steps,
sums of gradients and updates are float32 as ever, so what is masked stays zero to the bit.
"""

from __future__ import annotations

import contextlib

import torch

from autoflip_secure.interfaces.schedule import Precision


def mixed(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """What a forward runs under; its backward follows what the forward did."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
