"""The server's last step, as malicious clients see it: from the global model that they remember."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.interfaces import AttackView


def last_step(view: AttackView) -> Float[Tensor, " params"]:
    """The mean step of the global model since its memory, which is (round, global weights); zeros without one."""
    if view.memory is None or view.round <= view.memory[0]:
        return torch.zeros_like(view.weights)
    step: Tensor = (view.weights - view.memory[1]) / (view.round - view.memory[0])
    return step
