r"""Differential privacy of clients: DP-SGD inside each client, or clipped and noised updates.

Sample level (Abadi et al. 2016): see :class:`~autoflip_secure.interfaces.PrivateSteps`. Client level (McMahan et al.
2018), with :math:`m` the expected cohort and :math:`C` the clip norm, which is also the sensitivity:

.. math::
    \bar u_k = u_k \min(1, C / \|u_k\|), \qquad
    \text{central: } \Delta = \tfrac1m \big(\textstyle\sum_k \bar u_k + N(0, \sigma^2 C^2)\big), \qquad
    \text{distributed: } \bar u_k + N(0, \sigma^2 C^2 / m) \text{ leaves client } k

Adaptive clipping (Andrew et al. 2021): :math:`C \leftarrow C \exp(-\eta(\tilde b - \gamma))`, with :math:`\tilde b` the
noised share of the updates that were not longer than :math:`C`; updates then get the multiplier
:math:`(\sigma^{-2} - (2\sigma_b)^{-2})^{-1/2}`, so that both releases together cost what :math:`\sigma` says. Votes are
counted before they are noised, so this takes a server that is trusted with them.

Another channel of a round is clipped to its bound and gets noise of :math:`\sigma` times that (:func:`.ledger.joint`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Discriminator, Field, Tag, model_validator
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import TINY
from autoflip_secure.defenses.privacy.noised_rows import bound_of, clip_to, noised, normal, or_zeros
from autoflip_secure.interfaces import Accountant, Channel, ClientPrivacy, Config, PrivacyView, PrivateSteps
from autoflip_secure.terminal import notes

DEFAULT_EPSILON = 8.0

Multiplier = Annotated[float, Field(ge=0, le=1e6)]
Epsilon = Annotated[float, Field(gt=0, le=1e6)]
Delta = Annotated[float, Field(gt=0, lt=1)]
Clip = Annotated[float, Field(gt=0, le=1e6)]


class _Mechanism(ClientPrivacy):
    """How much noise, and for which guarantee."""

    noise_multiplier: Multiplier | None = Field(
        default=None, description="noise / clip norm; this or target_epsilon; 0 = clipping only"
    )
    target_epsilon: Epsilon | None = Field(
        default=None,
        description="noise is chosen so that epsilon of everything released stays below this; 8 if neither is given",
    )
    delta: Delta | None = Field(default=None, description="below 1/n; null = 0.1/n, n samples or clients")
    accountant: Accountant = Field(default="rdp", description="accountant that target_epsilon is measured with")
    replace_unsupported_layers: bool = Field(
        default=False, description="replace layers that mix samples (BatchNorm) with ones that do not (GroupNorm)"
    )
    allow_unproven: bool = Field(default=False, description="run combinations without proof, marked as such")
    noise_source: Literal["seed", "system"] = Field(
        default="seed",
        description="seed: repeatable bit for bit, by anybody who knows the seed; system: from the operating system, "
        "not repeatable",
    )

    @model_validator(mode="before")
    @classmethod
    def _older_names(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "fix_modules" not in value:
            return value
        if "replace_unsupported_layers" in value:
            raise ValueError("fix_modules is the older name of replace_unsupported_layers; give one of the two")
        notes.once("privacy.fix_modules is the older name of privacy.replace_unsupported_layers; it still works")
        return {("replace_unsupported_layers" if key == "fix_modules" else key): one for key, one in value.items()}

    @model_validator(mode="before")
    @classmethod
    def _some_noise(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("noise_multiplier") is None and value.get("target_epsilon") is None:
            return {**value, "target_epsilon": DEFAULT_EPSILON}
        return value

    @model_validator(mode="after")
    def _one_of_two(self) -> _Mechanism:
        if self.noise_multiplier is not None and self.target_epsilon is not None:
            raise ValueError(
                f"noise_multiplier = {self.noise_multiplier:g} and target_epsilon = {self.target_epsilon:g} are both "
                "given, and one decides the other; keep one"
            )
        return self

    @property
    def silent(self) -> bool:
        """No noise at all: nothing is proven."""
        return self.noise_multiplier == 0


def _needs_clip(clip: object) -> None:
    if clip is None:
        raise ValueError("clip = null: noise has no scale without a clip norm (it is in units of it); give clip: 1.0")


class SampleLevel(_Mechanism):
    """Local DP-SGD: honest clients clip and noise per-sample gradients, to protect single samples."""

    kind: Literal["sample_level"] = "sample_level"
    source: ClassVar[str] = "Abadi et al. 2016, Algorithm 1"
    unit: ClassVar[Literal["sample", "client"]] = "sample"
    clip: Clip | None = Field(default=1.0, description="L2 norm that each sample's gradient is clipped to")

    @model_validator(mode="after")
    def _clipped(self) -> SampleLevel:
        _needs_clip(self.clip)
        return self

    def steps(self, noise_multiplier: float) -> PrivateSteps:
        """DP-SGD of an honest client."""
        assert self.clip is not None
        return PrivateSteps(self.clip, noise_multiplier)


class AdaptiveClip(Config):
    """A clip norm that follows a quantile of the update norms (Andrew et al. 2021)."""

    start: Clip = Field(default=1.0, description="clip norm of the first round")
    quantile: Annotated[float, Field(ge=0, le=1, description="share of the updates that are not clipped")] = 0.5
    lr: Annotated[float, Field(gt=0, le=10, description="step of log clip per round")] = 0.2
    noise_multiplier: Annotated[
        float, Field(gt=0, le=1e6, description="standard deviation of the noise on the count of unclipped updates")
    ] = 1.0


def _form(value: Any) -> str:
    return "<none>" if value is None else "<adaptive>" if isinstance(value, dict | AdaptiveClip) else "<number>"


AnyClip = Annotated[
    Annotated[Clip, Tag("<number>")] | Annotated[AdaptiveClip, Tag("<adaptive>")] | Annotated[None, Tag("<none>")],
    Discriminator(_form),
]


@dataclass(frozen=True)
class ClipState:
    """The clip norm of the coming round."""

    clip: float


class ClientLevel(_Mechanism):
    """Clipped and noised updates, to protect whole clients; the server or each client adds the noise."""

    kind: Literal["client_level"] = "client_level"
    source: ClassVar[str] = "McMahan et al. 2018; adaptive clip: Andrew et al. 2021"
    unit: ClassVar[Literal["sample", "client"]] = "client"
    covers_channels: ClassVar[bool] = True
    clip: AnyClip = Field(
        default=1.0, description="L2 norm that each update is clipped to: a number, or {start, …} with central noise"
    )
    noise: Literal["central", "distributed"] = Field(
        default="central", description="the server adds noise to the sum, or each client adds a share of it"
    )
    exploration_noise_multiplier: Multiplier | None = Field(
        default=None, description="of each explorer's deviation; null = that of the updates"
    )

    @model_validator(mode="after")
    def _clipped(self) -> ClientLevel:
        _needs_clip(self.clip)
        if self.noise == "distributed" and isinstance(self.clip, AdaptiveClip):
            raise ValueError(
                "clip = {quantile, …}: an adaptive clip norm is learnt from every client's vote without noise, so it "
                "needs a server that is trusted with votes, and noise: distributed trusts none; give a number, as in "
                f"clip: {self.clip.start:g}, or noise: central"
            )
        if self.noise_multiplier is not None:
            self.update_multiplier(self.noise_multiplier)
        return self

    @property
    def trusted_server(self) -> bool:
        """With central noise."""
        return self.noise == "central"

    @property
    def exploration_multiplier(self) -> float | None:
        """As given; None: that of the updates."""
        return self.exploration_noise_multiplier

    @property
    def first_clip(self) -> float:
        """As given, or where an adaptive one starts."""
        return self.start().clip

    @property
    def releases_votes(self) -> bool:
        """Whether votes on the clip norm are released with the updates."""
        return isinstance(self.clip, AdaptiveClip)

    def scaled(self, factor: float) -> ClientLevel:
        """Noise of the exploration and of the votes times ``factor``."""
        changed: dict[str, object] = {}
        if self.exploration_noise_multiplier is not None:
            changed["exploration_noise_multiplier"] = factor * self.exploration_noise_multiplier
        if isinstance(self.clip, AdaptiveClip):
            votes = factor * self.clip.noise_multiplier
            changed["clip"] = self.clip.model_copy(update={"noise_multiplier": votes})
        return self.model_copy(update=changed)

    def update_multiplier(self, noise_multiplier: float) -> float:
        """Noise on the updates / clip: what is left when the clip norm's release takes its part.

        Raises:
            ValueError: the clip norm's release alone costs more than both together may.
        """
        if not isinstance(self.clip, AdaptiveClip) or noise_multiplier == 0:
            return noise_multiplier
        left = noise_multiplier**-2 - (2 * self.clip.noise_multiplier) ** -2
        if left <= 0:
            raise ValueError(
                f"clip.noise_multiplier = {self.clip.noise_multiplier:g} is too small for noise_multiplier = "
                f"{noise_multiplier:g}: the clip norm's release alone would cost more; give more than "
                f"{noise_multiplier / 2:g}"
            )
        return float(left**-0.5)

    def start(self) -> ClipState:
        """The first clip norm."""
        assert self.clip is not None
        return ClipState(self.clip.start if isinstance(self.clip, AdaptiveClip) else self.clip)

    def explore(
        self, deviations: Float[Tensor, "clients params"], view: PrivacyView
    ) -> Float[Tensor, "clients params"]:
        """Honest explorers scale their deviation to the clip norm exactly and add noise of their own."""
        clip = self.start().clip
        multiplier = self.exploration_noise_multiplier
        own = view.noise_multiplier if multiplier is None else multiplier
        finite = or_zeros(deviations).double()  # so that no row is longer by rounding
        scaled = finite * (clip * (1 - 1e-6) / finite.norm(dim=1, keepdim=True).clamp_min(TINY))
        return noised(scaled.to(deviations), deviations, view, own * clip)

    def send(
        self, state: ClipState, updates: Float[Tensor, "clients params"], view: PrivacyView
    ) -> Float[Tensor, "clients params"]:
        """Central: every row clipped. Distributed: honest rows clipped, each with its share of the noise.

        Who is honest and has a row that is not finite sends noise alone where clients noise, so that neither the row
        nor its share of the noise is missed; the trusted server leaves such rows out, which is the same as zeros.
        """
        if self.noise == "central":
            return torch.where(updates.isfinite().all(1, keepdim=True), clip_to(updates, state.clip), updates)
        clipped = clip_to(or_zeros(updates), state.clip)
        share = self.update_multiplier(view.noise_multiplier) * state.clip / view.expected**0.5
        return noised(clipped, updates, view, share)

    def publish(
        self,
        state: ClipState,
        delta: Float[Tensor, " params"],
        updates: Float[Tensor, "clients params"],
        view: PrivacyView,
    ) -> tuple[Float[Tensor, " params"], ClipState]:
        """Central: noise on the step, and the clip norm follows its quantile. Distributed: all noise is in the rows."""
        if self.noise == "distributed":
            return delta, state
        scale = self.update_multiplier(view.noise_multiplier) * state.clip / view.expected
        noise = normal(view.server, len(delta), delta)
        return delta + scale * noise * view.active, self._follow(state, updates, view)

    def send_channel(
        self, channel: Channel, rows: Float[Tensor, "clients size"], view: PrivacyView
    ) -> Float[Tensor, "clients size"]:
        """As :meth:`send`, with the channel's bound for a clip norm."""
        bound = bound_of(channel)
        if self.noise == "central":
            return torch.where(rows.isfinite().all(1, keepdim=True), clip_to(rows, bound), rows)
        share = view.noise_multiplier * bound / view.expected**0.5
        return noised(clip_to(or_zeros(rows), bound), rows, view, share)

    def publish_channel(
        self, channel: Channel, mean: Float[Tensor, " size"], view: PrivacyView
    ) -> Float[Tensor, " size"]:
        """Central: noise on the mean. Distributed: all noise is in the rows."""
        if self.noise == "distributed":
            return mean
        return mean + view.noise_multiplier * bound_of(channel) / view.expected * normal(view.server, len(mean), mean)

    def _follow(self, state: ClipState, updates: Tensor, view: PrivacyView) -> ClipState:
        if not isinstance(self.clip, AdaptiveClip):
            return state
        norms = updates.norm(dim=1)
        short = (norms <= state.clip).float() - 0.5  # centred, so that one client changes it by 1/2 …
        short = torch.where(norms > 0, short, 0.0)  # … and zeros, as those of the ledger's neighbour, are no vote
        noise = float(view.server.standard_normal())
        if view.noise_multiplier == 0:
            noise = 0.0
        count = float(short.sum()) + self.clip.noise_multiplier * noise
        share = min(max(count / view.expected + 0.5, 0.0), 1.0)
        clip = state.clip * exp(-self.clip.lr * (share - self.clip.quantile))
        return replace(state, clip=min(max(clip, 1e-6), 1e6))
