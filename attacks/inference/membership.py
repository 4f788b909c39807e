r"""Membership inference: was this sample among the training data? The higher a score, the more it seems so.

Loss threshold (Yeom et al. 2018): the score is minus the loss. LiRA (Carlini et al. 2022): with the logit of the
confidence :math:`\phi = \log p - \log(1 - p)` of models trained with and without the sample,

.. math:: \Lambda = \log N(\phi; \mu_{in}, \sigma_{in}^2) - \log N(\phi; \mu_{out}, \sigma_{out}^2)

with means per sample and, as few shadow models make single variances poor, variances pooled over samples.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_LEAST_DEVIATION = 1e-3


def logit_confidence(scores: Float[Tensor, "*models samples classes"], labels: Int[Tensor, " samples"]) -> Tensor:
    """phi of every sample, (*models, samples): log p(label) - log(1 - p(label)), computed without cancellation."""
    own = scores.gather(-1, labels.expand(scores.shape[:-1]).unsqueeze(-1)).squeeze(-1)
    others = scores.scatter(-1, labels.expand(scores.shape[:-1]).unsqueeze(-1), -torch.inf)
    return own - others.logsumexp(-1)


def loss_threshold(phi: Float[Tensor, "*models samples"]) -> Float[Tensor, "*models samples"]:
    """Minus the cross-entropy, which is log sigmoid of phi."""
    return torch.nn.functional.logsigmoid(phi)


def lira(
    phi: Float[Tensor, " samples"], shadows: Float[Tensor, "shadows samples"], included: Bool[Tensor, "shadows samples"]
) -> Float[Tensor, " samples"]:
    """Log-likelihood ratio of each sample.

    Args:
        phi: of the attacked model.
        shadows: phi of the shadow models.
        included: which samples each shadow model was trained on; every sample in at least one and out of at least one.
    """
    means, deviations = [], []
    for chosen in (included, ~included):
        weight = chosen.double()
        mean = (weight * shadows).sum(0) / weight.sum(0).clamp_min(1)
        spread = ((weight * (shadows - mean) ** 2).sum() / (weight.sum() - weight.shape[1]).clamp_min(1)).sqrt()
        means.append(mean)
        deviations.append(spread.clamp_min(_LEAST_DEVIATION))
    logs = [-0.5 * ((phi - m) / s) ** 2 - s.log() for m, s in zip(means, deviations, strict=True)]
    return (logs[0] - logs[1]).to(phi.dtype)
