r"""FedAvg (McMahan et al. 2017, Algorithm 1): the mean of the updates, weighted with the clients' numbers of samples.

.. math:: \Delta = \sum_k \frac{n_k}{\sum_l n_l} u_k
"""

from typing import Any, ClassVar, Literal

from autoflip_secure.interfaces import Aggregate, PublicView, ReadingAggregator, RowReader


class Mean(ReadingAggregator):
    """FedAvg: mean weighted by numbers of samples; trusts everybody."""

    kind: Literal["mean"] = "mean"
    source: ClassVar[str] = "McMahan et al. 2017, Algorithm 1: sum_k (n_k / n) u_k"
    linear: ClassVar[bool] = True

    def decide(self, state: Any, reader: RowReader, view: PublicView) -> Aggregate:
        """One round."""
        return Aggregate(reader.mean(view.samples), view.samples / view.samples.sum(), None, state)
