"""A client that is honest in its update and lies in what it sends beside it."""

from typing import Any, Literal

import torch
from torch import Tensor

from autoflip_secure.interfaces import Channel, UpdateAttack


class Boast(UpdateAttack):
    """Says that the first numbers of whatever it is asked for are worth everything, the others nothing."""

    kind: Literal["boast"] = "boast"
    first: int = 10
    worth: float = 1e6

    def updates(self, updates: Tensor, malicious: Tensor, active: Tensor, generators: Any) -> Tensor:
        return updates

    def channel(self, channel: Channel, rows: Tensor, malicious: Tensor, generators: Any) -> Tensor:
        lie = torch.zeros_like(rows)
        lie[:, : self.first] = self.worth
        return torch.where(malicious[:, None], lie, rows)
