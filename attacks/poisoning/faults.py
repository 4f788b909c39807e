"""Faults: what broken clients send, as against adversaries. A defence that dies of one of these needs no attacker."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.attacks.poisoning.global_steps import last_step
from autoflip_secure.interfaces import AttackView, RowAttack, Threat


class Fault(RowAttack):
    """Malicious clients are broken: zeros, a constant, NaN, infinity, huge numbers, a copied row, or a free ride."""

    kind: Literal["fault"] = "fault"
    source: ClassVar[str] = "faults, not adversaries; free riders: Fraboni et al. 2021"
    equation: ClassVar[str] = "u = 0; value; NaN; infinity; 1e30; h_1; (w - w_last) / rounds between, with noise"
    threat: ClassVar[Threat] = Threat("own", ("update", "exploration"))
    sends: Literal["zero", "constant", "nan", "inf", "huge", "duplicate", "free_rider"] = Field(
        default="zero",
        description="what is sent: zeros; value everywhere; NaN; infinity; 1e30; the first honest client's row; the "
        "global model's last step that it saw, with noise",
    )
    value: Annotated[float, Field(ge=-1e6, le=1e6, description="with sends: constant: every coordinate")] = 1.0
    noise: Annotated[
        float, Field(ge=0, le=1e6, description="with sends: free_rider: noise norm / norm of the step")
    ] = 0.0

    @property
    def threat_card(self) -> Threat:
        """A copy needs another's row, a free rider the model that it had before."""
        if self.sends == "duplicate":
            return Threat("rows", self.threat.means)
        return Threat("own", self.threat.means, memory=self.sends == "free_rider")

    def act(self, view: AttackView) -> tuple[Float[Tensor, "seen params"], Any]:
        """Replace the malicious rows; a free rider remembers (round, global weights)."""
        if self.sends == "duplicate":
            return view.sending(view.honest_rows[0]), None
        if self.sends == "free_rider":
            return self._free_ride(view)
        numbers = {"zero": 0.0, "constant": self.value, "nan": torch.nan, "inf": torch.inf, "huge": 1e30}
        return view.sending(torch.full_like(view.weights, numbers[self.sends])), None

    def _free_ride(self, view: AttackView) -> tuple[Tensor, Any]:
        """The mean step of the global model since this client last had it; zeros when it has none to compare with."""
        step = last_step(view)
        noise = torch.randn(len(step), generator=view.generators[0]).to(step.device) * view.active
        row = step + self.noise * (step * view.active).norm() * noise / noise.norm().clamp_min(TINY)
        return view.sending(row), (view.round, view.weights)
