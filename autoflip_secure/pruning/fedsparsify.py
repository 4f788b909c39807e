r"""FedSparsify (Stripelis et al. 2022), global form: the server cuts the smallest weights along a cubic timetable.

.. math::
    s_t = s_f \Big( 1 - \Big( 1 - \frac{\tau - t_0}{T - t_0} \Big)^3 \Big), \qquad
    \tau = f \lfloor \min(t, T) / f \rfloor

After round t the share s_t of all hidden weights is gone, those of smallest :math:`|w|` over all hidden tensors
together. Nothing grows back, and nothing is uploaded beside the update: the mask follows from the published model, so
it costs no privacy. Where T is no multiple of f, the last cut stays below s_f, as in the authors' timetable.

Evidence: read in the authors' public code. Theirs, and the defaults here: f = 1, cuts from the first round to the last,
s_f of 0.8 to 0.9 (here 0.8), 4 local epochs (``training.epochs``). Ours differs in this: they cut all trainable
weights, here output layer, first convolution and biases stay, as everywhere, and every tensor keeps its largest weight.
Their local form, in which clients cut and the majority decides, is not offered.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from jaxtyping import Bool
from pydantic import Field
from torch import Tensor

from autoflip_secure.interfaces import Pruner, PruneView
from autoflip_secure.pruning.hidden_cuts import best_of


class FedSparsify(Pruner):
    """The server cuts the smallest hidden weights, more in every round along a cubic timetable; none comes back."""

    kind: Literal["fedsparsify"] = "fedsparsify"
    source: ClassVar[str] = "Stripelis et al. 2022 (FedSparsify-Global); cubic timetable: Zhu and Gupta 2017"
    sparsity: Annotated[
        float, Field(ge=0, lt=1, description="s_f: share of the hidden weights that is gone at the end")
    ] = 0.8
    every: Annotated[int, Field(ge=1, le=100_000, description="f: rounds between cuts")] = 1
    begin: Annotated[float, Field(ge=0, lt=1, description="t_0 / rounds: share of the rounds before any cut")] = 0.0
    until: Annotated[
        float, Field(gt=0, le=1, description="T / rounds: share of the rounds in which weights are cut")
    ] = 1.0
    scope: Literal["global", "tensor"] = Field(
        default="global", description="smallest over all hidden tensors, or the same share of each"
    )

    def mask(self, view: PruneView) -> Bool[Tensor, " params"]:
        """The live weights of largest size, where the timetable asks for fewer of them."""
        gone = self._share(view.round, view.rounds)
        if gone <= self._share(view.round - 1, view.rounds):
            return view.mask
        return best_of(view.weights.abs(), view.mask, view.layout, 1 - gone, self.scope)

    def _share(self, round_: int, rounds: int) -> float:
        """s_t: the share that is gone after this round."""
        first, last = int(self.begin * rounds), int(self.until * rounds)
        now = min(round_, last) // self.every * self.every
        if now <= first or last <= first:
            return 0.0
        return self.sparsity * (1 - (1 - (now - first) / (last - first)) ** 3)
