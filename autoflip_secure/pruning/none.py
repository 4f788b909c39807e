"""No pruning: every weight is kept."""

from typing import ClassVar, Literal

from torch import Tensor

from autoflip_secure.interfaces import Pruner, PruneView


class NoPruning(Pruner):
    """No pruning: every weight is kept."""

    kind: Literal["none"] = "none"
    source: ClassVar[str] = "baseline: dense training"
    draws_again: ClassVar[bool] = True

    def mask(self, view: PruneView) -> Tensor:
        """The mask as it is."""
        return view.mask
