"""What the record says of the stability of a one-time map: one round of a run with ``measures: [stability]``."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

TOP: Final = 0.3
"""Share of the weights that counts as the top of a map: about as many as T_p = 0.3 leaves alive."""


class Stability(BaseModel):
    """How a round's updates lie to the map D_0 of the first exploration, to each other and to the round before.

    Of updates as the server received them, malicious ones included; None: undefined, or nobody explored. A round's
    energy is the mean over its participants of u_k² / ||u_k||², and is compared with D_0 on live hidden weights alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")

    rank_correlation: float | None  # Spearman's, of D_0 and the round's energy
    cosine: float | None  # of the same two
    top_overlap: float | None  # of the TOP weights of the round's energy, the share that is among the TOP of D_0
    between_clients: float | None  # mean cosine of the updates of two participants; None: fewer than two moved
    successive: float | None  # cosine of this step and the one before; None: there is none, or it is zero
    mask_overlap: float  # Jaccard index of the hidden weights alive in this round and in round 1
