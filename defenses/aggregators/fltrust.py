r"""FLTrust (Cao et al. 2021): trust is bootstrapped from a small clean root set that the server owns.

In every round the server trains on its root set as a client does, and gets an update g. A client is trusted by how far
its update points along it, and its update is scaled to the length of g:

.. math:: T_k = \mathrm{ReLU}(\cos(u_k, g)), \qquad
          \Delta = \frac{1}{\sum_k T_k} \sum_k T_k \frac{\|g\|}{\|u_k\|} u_k

A client's score is :math:`(1 + \cos(u_k, g)) / 2`: who is below 0.5 is not trusted at all. Where nobody points along g
there is no step. **It needs clean data at the server**, which no other rule here does.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from autoflip_secure.algorithm.order_statistics import TINY, shares
from autoflip_secure.defenses.aggregators.cosines import products, squared_norms
from autoflip_secure.interfaces import Aggregate, Aggregator, RoundView
from autoflip_secure.interfaces.aggregation import ROOT_SAMPLES
from autoflip_secure.interfaces.known_attacks import OF_ROOT, Known


class FLTrust(Aggregator):
    """Mean weighted by the cosine with an update that the server trains on clean data of its own (Cao et al. 2021)."""

    kind: Literal["fltrust"] = "fltrust"
    source: ClassVar[str] = (
        "Cao et al. 2021, Algorithm 2 (FLTrust): sum_k T_k (|g| / |u_k|) u_k / sum_k T_k, T_k = max(0, cos(u_k, g)), g "
        "trained on the root set"
    )
    scores_clients: ClassVar[bool] = True
    needs_clean_data: ClassVar[bool] = True
    known_by: ClassVar[Known] = OF_ROOT
    root_samples: Annotated[
        int,
        Field(
            ge=1,
            le=10**9,
            description="size of the server's clean root set, taken out of the clients' training data",
        ),
    ] = ROOT_SAMPLES

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round; trust is T scaled to sum 1.

        Raises:
            LookupError: there is no g; without it this would be another rule.
        """
        if view.root is None:
            raise LookupError("fltrust: this round has no update of a clean root set; give its view `root`")
        rows, root = view.directions, view.layout.of_trained(view.root)
        along, length = products(rows, root[None])[:, 0], root.double().norm()
        norms = squared_norms(rows).sqrt()
        points = (norms > TINY) & (length > TINY)  # shorter ones point nowhere
        cosine = torch.where(points, along / (norms * length).clamp_min(TINY**2), 0.0).clamp(-1, 1)
        trust = shares(cosine.clamp_min(0).to(view.samples))
        factors = torch.where(points, length / norms.clamp_min(TINY), 0.0).to(trust)
        scores = ((1 + cosine) / 2).to(view.samples)
        delta, averaged = (trust * factors) @ view.updates, trust @ view.updates
        return Aggregate(torch.where(view.layout.trained.to(delta.device), delta, averaged), trust, scores, state)
