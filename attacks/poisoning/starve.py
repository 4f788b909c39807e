r"""Starvation: malicious clients copy the most typical honest client, so that honest clients who differ stand out more.

.. math:: u_k \leftarrow h_{i^*}, \qquad i^* = \arg\min_i \sum_j \|h_i - h_j\|

the medoid of the honest rows. Copies of it draw every median and every scale of the cohort together, and scores that
are relative to these may reject honest clients whose data are rare: look at honest false positives and at the worst
class, not at accuracy alone. Nobody's row leaves the honest ones.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import squared_distances
from autoflip_secure.attacks.poisoning.honest_statistics import CollusiveAttack, Held, Honest


class Starve(CollusiveAttack):
    """Malicious clients all copy the most typical honest client, so that those with rare data stand out more."""

    kind: Literal["starve"] = "starve"
    source: ClassVar[str] = "this project: against scores that are relative to the cohort"
    equation: ClassVar[str] = "u = h_i*, i* = argmin_i sum_j ||h_i - h_j||"

    def row(self, honest: Honest, malicious: int, held: Held = None) -> Float[Tensor, " params"]:
        """The medoid of the honest rows; the first of those that are equally typical."""
        return honest[int(squared_distances(honest).sqrt().sum(1).argmin())]
