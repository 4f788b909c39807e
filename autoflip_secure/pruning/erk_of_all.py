r"""FedDST's server (Bibikar et al. 2022): one sparse mask, which clients move and the server cuts back to its density.

.. math::
    w_j \leftarrow \frac{\sum_k p_k m_{kj} w_{kj}}{\sum_k p_k m_{kj}}, \qquad
    m \leftarrow \text{of each hidden tensor the } d_l n_l \text{ largest } |w_j| \text{ that somebody holds}

with d_l by ERK (:func:`.own_erk.erk`). The first mask is cut from the initial weights in the same way. In rounds in
which clients move masks they send theirs, one bit a prunable weight; who does not know the mask that comes of them is
sent it with the next model. What nobody holds keeps its value (a reading of the specification of this project).

Evidence: read in the authors' public code (bibikar/feddst@25d6184, MIT; described, not copied). Their densities are
0.2 (CIFAR-10) and 0.5 (CIFAR-100).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import Pruner, PruneView
from autoflip_secure.pruning.own_erk import erk


class ErkOfAll(Pruner):
    """FedDST: of what clients hold after they moved the shared mask, the largest weights stay, by ERK."""

    kind: Literal["erk_of_all"] = "erk_of_all"
    source: ClassVar[str] = "Bibikar et al. 2022 (FedDST), AAAI, arXiv 2112.09824; their code was read"
    collects: ClassVar[bool] = True
    mask_sent: ClassVar[Literal["nothing", "weights", "units"]] = "weights"
    density: Annotated[float, Field(gt=0, le=1, description="live hidden weights / hidden weights")] = 0.2

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """The largest of what is held, as many of each hidden tensor as ERK says; of equals the first."""
        hidden, mask = view.layout.hidden, view.mask.clone()
        densities = erk({segment.name: segment.shape for segment in hidden}, self.density)
        for segment in hidden:
            wanted = round(densities[segment.name] * (segment.stop - segment.start))
            places = segment.start + mask[segment.slice].nonzero().squeeze(1)
            order = view.weights[places].abs().argsort(descending=True, stable=True)
            mask[places[order[wanted:]]] = False
        return mask
