r"""Label inference: a curious server guesses which classes a client owns from the deviation it sends.

The gradient of the cross-entropy with respect to the output bias of class c is :math:`p_c - [y = c]`, so training on
owned classes pushes their bias (and the weights into their output) up and all others down, from the first step on
(Geng et al. 2021). The guess for a client is the classes whose output moved up the most. PPFLex (Yuca, Internò et al.
2026, OpenReview PTdCBanvv3; known by its abstract) reports this leak for the squared deviations that FedLEx shares:
they have no sign, and the outputs of owned classes still move most, as :math:`1 - p_c` is larger than :math:`p_c`.
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
    for rows in _outputs(deviations, layout):
        centred = rows - rows.mean(1, keepdim=True)
        scores.append(centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12))
    return torch.stack(scores).mean(0)


def class_scores_of_squares(squares: Float[Tensor, "clients params"], layout: Layout
                            ) -> Float[Tensor, "clients classes"]:  # fmt: skip
    """How much each output moved at all, from d_k²: mean of its bias and weights, each as a share of all classes'."""
    scores = [rows / rows.sum(1, keepdim=True).clamp_min(1e-30) for rows in _outputs(squares, layout)]
    return torch.stack(scores).mean(0)


def _outputs(rows: Tensor, layout: Layout) -> list[Float[Tensor, "clients classes"]]:
    """Mean of what each output has of every trained tensor of the output layer."""
    return [
        rows[:, segment.slice].reshape(len(rows), segment.shape[0], -1).mean(2)
        for segment in layout
        if segment.output and segment.trained
    ]
