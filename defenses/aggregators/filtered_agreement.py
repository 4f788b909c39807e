r"""Agreement scores, and a filter on how the rows of accepted clients lie together (this project).

Scores judge clients one by one, in a few directions; what they do not see is free for an attacker who knows them. So
the bound on harm is in how accepted rows are combined. Rows are clipped to the norm of a typical one (c = 1 instead of
agreement's 2), and the weights :math:`\omega_k` of the scores are where CAF begins (:mod:`.caf`):

.. math:: c_k = \omega_k / \max_l \omega_l, \qquad c_k \leftarrow c_k (1 - \tau_k / \max_l \tau_l)
          \text{ until } \sum_k c_k \le (1 - 2f/n) \sum_k c_k^{(0)}

with :math:`\tau` along the leading eigenvector of the covariance of the clipped rows; the mean of smallest largest
eigenvalue is kept. It needs rows in the open. With ``before: [last_rows]`` it sees what all clients said last, so that
no cohort has a majority of malicious ones: the algorithm ``autoflip_held``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from autoflip_secure.algorithm.agreement import AgreementWeighted, ClientScores
from autoflip_secure.defenses.aggregators.assuming import Assuming, gram
from autoflip_secure.defenses.aggregators.caf import filtered
from autoflip_secure.interfaces import OpenRows, PublicView, RowReader

FEWEST = 3  # rows that vary in more than one direction


class FilteredAgreement(AgreementWeighted, Assuming):
    """Agreement scores, typical norms, and accepted updates weighed down along the direction of most variance."""

    kind: Literal["filtered_agreement"] = "filtered_agreement"  # type: ignore[assignment]
    source: ClassVar[str] = "this project: CAF from the weights of agreement scores, rows clipped to one typical norm"
    needs_rows: ClassVar[bool] = True
    clip: Annotated[float, Field(gt=0, le=1e12)] | None = Field(
        default=1.0, description="updates are clipped to this many typical norms r; null = not clipped"
    )

    def combined(self, scored: ClientScores, reader: RowReader, view: PublicView) -> ClientScores:
        """CAF from the scores' weights; of fewer than three accepted clients the scores alone decide."""
        trust = scored.trust
        if int((trust > 0).sum()) < FEWEST:
            return scored
        assert isinstance(reader, OpenRows)
        f = (self.assumed(len(trust)) or 0) if view.malicious is None else view.malicious
        if self.clip is None:
            products = gram(reader.rows)
        else:  # none is longer than a typical one, so that none has to be kept out of the others' digits
            factors = scored.factors.double()
            products = (reader.rows @ reader.rows.T).double() * factors[:, None] * factors
        return replace(scored, trust=filtered(products.cpu(), f, trust / trust.max()).to(trust))
