r"""Label inference: a curious server guesses which classes a client owns from the deviation it sends.

The gradient of the cross-entropy with respect to the output bias of class c is :math:`p_c - [y = c]`, so training on
owned classes pushes their bias (and the weights into their output) up and all others down, from the first step on
(Geng et al. 2021). The guess for a client is the classes whose output moved up the most. PPFLex (OpenReview PTdCBanvv3)
reports this leak for guidance matrices.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.models.layout import Layout


def class_scores(deviations: Float[Tensor, "clients params"], layout: Layout) -> Float[Tensor, "clients classes"]:
    """How much each output moved up: mean of its bias and weights, each centred over classes and scaled alike.

    Of the trained ones; at least one of them is.
    """
    scores = []
    for segment in layout:
        if not (segment.output and segment.trained):
            continue
        rows = deviations[:, segment.slice].reshape(len(deviations), segment.shape[0], -1).mean(2)
        centred = rows - rows.mean(1, keepdim=True)
        scores.append(centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12))
    return torch.stack(scores).mean(0)
