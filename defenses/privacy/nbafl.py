r"""NbAFL (Wei et al. 2020): clipped and noised *weights*, with an epsilon that is claimed and not proven.

A client clips its weights, not its update, and adds noise; the server adds noise on the way down. With m the fewest
samples of a client, L uploads of one client, T rounds and N clients, all of whom take part:

.. math::
    w_k \leftarrow w_k \min(1, C / \|w_k\|), \qquad w_k + N(0, s_U^2), \qquad
    s_U = \frac{c L}{\varepsilon} \frac{2C}{m}, \qquad c = \sqrt{2 \ln(1.25 / \delta)}

.. math::
    s_D = \frac{2 c C \sqrt{T^2 - L^2 N}}{m N \varepsilon} \text{ where } T > L \sqrt N, \text{ else } 0

**Claimed, not proven.** 2C/m would be the sensitivity if a trained model were the mean of optima of single samples. It
is not: one sample may move all of it, and two clipped vectors are up to 2C apart. With C 1, m 300, T = L = 25, epsilon
50 and delta 0.01 the noise is 0.005 of that, and an audit shows more than is claimed.

Source: IEEE TIFS 15, 2020, arXiv 1911.00222, known from its abstract and from the formulas as two public
re-implementations (FederatedScope, FedML) and the specification of this project state them; no code of theirs was used.
Both clip at the server and coordinate by coordinate, and leave out the factor 2; here it is as in the formulas.
Readings of ours: all clients count alike in the mean; live coordinates alone are clipped and noised; an explorer's
weights are one more upload; a cohort of fewer than all clients needs another s_D than we know of, so it is 0 there.
"""

from __future__ import annotations

from math import log, sqrt
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from autoflip_secure.defenses.privacy.mechanisms import ClipState
from autoflip_secure.defenses.privacy.noised_rows import clip_to, noised, normal, or_zeros
from autoflip_secure.interfaces import Accountant, ClientPrivacy, NoisePlan, PrivacyView
from autoflip_secure.records.rounding import upper_delta, upper_text


class NbAFL(ClientPrivacy):
    """NbAFL: clients clip and noise their weights; its epsilon is claimed and not proven."""

    kind: Literal["nbafl"] = "nbafl"
    source: ClassVar[str] = "Wei et al. 2020 (NbAFL), TIFS, arXiv 1911.00222; no proof, see docs/privacy.md"
    unit: ClassVar[Literal["sample", "client"]] = "client"
    noise_multiplier: ClassVar[None] = None  # type: ignore[misc]
    target_epsilon: ClassVar[None] = None  # type: ignore[misc]
    accountant: ClassVar[Accountant] = "rdp"  # type: ignore[misc]
    replace_unsupported_layers: ClassVar[bool] = False  # type: ignore[misc]
    claimed_epsilon: Annotated[
        float, Field(gt=0, le=1e6, description="epsilon of the formula: claimed for one sample, not proven")
    ] = 100.0
    delta: Annotated[float, Field(gt=0, lt=1, description="delta of the formula; likewise")] = 0.01
    clip: Annotated[float, Field(gt=0, le=1e6, description="C: L2 norm that each client's weights are clipped to")] = (
        1.0
    )
    exposures: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="L of the formula; null = the most uploads of one client in the run"
    )
    allow_unproven: bool = Field(default=False, description="needed: run it although nothing is proven, marked as such")
    noise_source: Literal["seed", "system"] = Field(
        default="seed", description="seed: repeatable bit for bit; system: from the operating system, not repeatable"
    )

    @property
    def unproven(self) -> str:
        """With the numbers that are claimed, so that they never stand without it."""
        return (
            f"epsilon {upper_text(self.claimed_epsilon)} at delta {upper_delta(self.delta)} is claimed for one sample "
            "and not proven: the noise is scaled to 2C/m, as if a trained model were the mean of optima of its m "
            "samples, and two models clipped to C are up to 2C apart"
        )

    @property
    def claimed(self) -> tuple[float, float]:
        """As given."""
        return self.claimed_epsilon, self.delta

    @property
    def first_clip(self) -> None:
        """Of weights, not of updates."""
        return

    def constant(self) -> float:
        """c."""
        return sqrt(2 * log(1.25 / self.delta)) if self.delta < 1.25 else 0.0

    def uplink_noise(self, plan: NoisePlan) -> float:
        """s_U."""
        uploads = self.exposures or max(1, plan.uploads)
        return self.constant() * uploads * 2 * self.clip / (min(plan.samples) * self.claimed_epsilon)

    def downlink_noise(self, plan: NoisePlan) -> float:
        """s_D; 0 where its formula does not apply."""
        uploads, clients = self.exposures or max(1, plan.uploads), len(plan.samples)
        left = plan.rounds**2 - uploads**2 * clients
        if not plan.whole or left <= 0:
            return 0.0
        return 2 * self.constant() * self.clip * sqrt(left) / (min(plan.samples) * clients * self.claimed_epsilon)

    def own_noise(self, plan: NoisePlan) -> float:
        """s_U of each client, as the noise on the sum of a cohort / C, which is what multipliers are."""
        return self.uplink_noise(plan) * sqrt(plan.cohort) / self.clip

    def remarks(self, plan: NoisePlan) -> tuple[str, ...]:
        """Both noises, and why there is none on the way down."""
        down = self.downlink_noise(plan)
        if down > 0:
            below = f"{down:.4g} on the way down"
        elif plan.whole:
            below = "none on the way down, since T <= L sqrt(N)"
        else:
            below = (
                f"none on the way down: its formula is for rounds with all clients, and {plan.cohort} of "
                f"{len(plan.samples)} take part"
            )
        up = self.uplink_noise(plan)
        return (
            f"NbAFL: standard deviation of the noise {up:.4g} on the way up, {up / (2 * self.clip):.2g} of the "
            f"distance 2C that two clipped models may have; {below}",
        )

    def start(self) -> ClipState:
        """C, in every round."""
        return ClipState(self.clip)

    def explore(
        self, deviations: Float[Tensor, "clients params"], view: PrivacyView
    ) -> Float[Tensor, "clients params"]:
        """Explorers' weights, as any others."""
        return self._protected(deviations, view)

    def send(
        self, state: ClipState, updates: Float[Tensor, "clients params"], view: PrivacyView
    ) -> Float[Tensor, "clients params"]:
        """w_k - w_t of clipped and noised weights, for honest clients; a row that is not finite is sent as noise."""
        return self._protected(updates, view)

    def _protected(self, updates: Tensor, view: PrivacyView) -> Tensor:
        assert view.weights is not None
        held = torch.where(view.active, view.weights, 0.0)
        clipped = clip_to(torch.where(view.active, or_zeros(updates), 0.0) + held, self.clip)
        scale = view.noise_multiplier * self.clip / view.expected**0.5
        return noised(clipped - held, updates, view, scale)

    def publish(
        self,
        state: ClipState,
        delta: Float[Tensor, " params"],
        updates: Float[Tensor, "clients params"],
        view: PrivacyView,
    ) -> tuple[Float[Tensor, " params"], ClipState]:
        """Noise of s_D, where there is any; times what an audit multiplies all noise with."""
        assert view.plan is not None
        down, planned = self.downlink_noise(view.plan), self.own_noise(view.plan)
        if down == 0 or planned == 0:
            return delta, state
        factor = view.noise_multiplier / planned
        return delta + factor * down * normal(view.server, len(delta), delta) * view.active, state
