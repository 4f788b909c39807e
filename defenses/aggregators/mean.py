r"""FedAvg (McMahan et al. 2017, Algorithm 1): the mean of the updates, weighted with the clients' numbers of samples.

.. math:: \Delta = \sum_k \frac{p_k}{\sum_l p_l} u_k

with :math:`p_k = n_k`, or 1 with ``weighting: equal``. Where clients have masks of their own it is the coverage mean
(:meth:`.PublicView.coverage_mean`).
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from autoflip_secure.interfaces import Aggregate, PublicView, ReadingAggregator, RowReader


class Mean(ReadingAggregator):
    """FedAvg: mean weighted by numbers of samples; trusts everybody."""

    kind: Literal["mean"] = "mean"
    source: ClassVar[str] = "McMahan et al. 2017, Algorithm 1: sum_k (n_k / n) u_k"
    linear: ClassVar[bool] = True
    own_masks: ClassVar[bool] = True
    weighs_samples: ClassVar[bool] = True
    weighting: Literal["samples", "equal"] = Field(
        default="samples", description="every client counts by its number of samples, or all count alike"
    )

    def decide(self, state: Any, reader: RowReader, view: PublicView) -> Aggregate:
        """One round."""
        weights = view.samples if self.weighting == "samples" else torch.ones_like(view.samples)
        mean = view.coverage_mean(reader.mean(weights), weights)
        return Aggregate(mean, weights / weights.sum(), None, state)
