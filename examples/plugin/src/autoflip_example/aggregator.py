r"""Weights by inverse norm: a client counts less the longer its update is.

.. math:: \Delta = \sum_k \tau_k u_k, \qquad \tau_k \propto (\|u_k\| + \epsilon m)^{-1}

with :math:`m` the median of the norms, so that the weights do not depend on the unit in which updates are measured. One
norm of each update and one weighted sum are enough for it, so it also runs on secure sums, where the server sees no
update.
"""

from typing import Annotated, Any

from pydantic import Field

from autoflip_secure.interfaces import Aggregate, PublicView, ReadingAggregator, RowReader


class NormWeighted(ReadingAggregator):
    """Mean of the updates, each weighted with the inverse of its norm."""

    softening: Annotated[float, Field(gt=0, le=1e6, description="epsilon, times the median of the norms")] = 0.1

    def decide(self, state: Any, reader: RowReader, view: PublicView) -> Aggregate:
        """The step (params,), and what each client counted for (clients,): not negative, in sum 1."""
        norms = reader.norms().to(view.samples)
        weights = 1 / (norms + self.softening * norms.median()).clamp_min(1e-30)
        trust = weights / weights.sum()
        return Aggregate(reader.weighted_sum(trust), trust, None, state)
