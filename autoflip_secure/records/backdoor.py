"""What records say of a backdoor beside its success in every round."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class TriggerSurvival(_Record):
    """What the final mask leaves of the trigger's neurons; see :mod:`autoflip_secure.federation.trigger_survival`."""

    layer: str  # name of the first layer that may be pruned
    neurons: int  # of it that react most to the trigger
    kept: float  # share of the weights into these that are alive
    kept_reading: float | None  # of weights that read what the trigger changes; None: they all do
    kept_overall: float  # of all weights of the layer


class BackdoorRecord(_Record):
    """The backdoor of a run; its success is in the rounds (``attack_success``)."""

    target: int
    samples: int  # test samples of other classes, with the trigger
    survival: TriggerSurvival | None = None  # None: nothing is pruned there, clients have own masks, or unknown layer
