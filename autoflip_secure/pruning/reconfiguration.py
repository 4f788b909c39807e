r"""PruneFL's choice of what to keep: approximate risk reduction per second (Jiang et al. 2022, Algorithm 2).

With importances :math:`I_j \ge 0` and seconds :math:`t_j > 0` that a weight costs per round, it looks for the mask with
the largest

.. math:: \frac{\Gamma}{\Theta} = \frac{I_\text{rest} + \sum_{j \in M} I_j}{c + \sum_{j \in M} t_j}

where the share s of smallest live weights of each tensor, and all dead ones, may be taken or left; the other live
weights stay. Taken are those with the largest :math:`I_j / t_j`, as long as that is more than :math:`\Gamma / \Theta`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.models.layout import Layout


def reconfigured(
    weights: Float[Tensor, " params"],
    mask: Bool[Tensor, " params"],
    importance: Float[Tensor, " params"],
    rest: float,
    seconds: Mapping[str, float],
    layout: Layout,
    *,
    share: float,
    constant: float,
    most: int | None = None,
) -> Bool[Tensor, " params"]:
    """The next mask; what may not be pruned stays as it is.

    Args:
        weights: whose size decides which live weights may go.
        mask: as it is.
        importance: I_j >= 0, read at prunable weights only.
        rest: I of everything that may not be pruned, summed.
        seconds: t_l > 0 of each prunable tensor, by name.
        layout: of all of these.
        share: s, in [0, 1): floor(s · live) weights of each tensor may go; of equal sizes the first.
        constant: c > 0, in seconds.
        most: weights that may be live at most; None: as many as are worth it. Those that must stay are not counted out.
    """
    prunable = layout.prunable.to(mask.device)
    kept, times = mask & prunable, torch.zeros_like(weights, dtype=torch.float64)
    for segment in layout.hidden:
        times[segment.slice] = seconds[segment.name]
        places = segment.start + mask[segment.slice].nonzero().squeeze(1)
        order = weights[places].abs().argsort(stable=True)
        kept[places[order[: int(share * len(places))]]] = False
    values, free = importance.double(), (prunable & ~kept).nonzero().squeeze(1)
    gamma, theta = rest + values[kept].sum(), constant + times[kept].sum()
    order = (values[free] / times[free]).argsort(descending=True, stable=True)
    places = free[order]
    gains, costs = values[places], times[places]
    before = [torch.cat([first[None], first + more.cumsum(0)[:-1]]) for first, more in ((gamma, gains), (theta, costs))]
    worth = (gains / costs) > before[0][: len(places)] / before[1][: len(places)]
    count = int(worth.int().cumprod(0).sum())
    if most is not None:
        count = min(count, max(0, most - int(kept.sum())))
    kept[places[:count]] = True
    return torch.where(prunable, kept, mask)
