"""Plug-ins that keep to their contract until round 3."""

import torch

from autoflip_secure.interfaces import Aggregate, Aggregator, Pruner


class Late(Aggregator):
    """The mean, and from round 3 on something else."""

    then: str = "mean"

    def aggregate(self, state, view):
        trust = view.samples / view.samples.sum()
        delta = trust @ view.updates
        if view.round >= 3:
            match self.then:
                case "nothing":
                    return None
                case "twice":
                    trust = 2 * trust
                case "nan":
                    trust = trust * float("nan")
                case "short":
                    delta = delta[:-1]
                case "double":
                    delta = delta.double()
                case "scores":
                    return Aggregate(delta, trust, trust, state)
                case "fails":
                    raise KeyError("weights")
                case "unusable":
                    delta = delta / 0
        return Aggregate(delta, trust, None, state)


class LateMask(Pruner):
    """Everything, and from round 3 on something else."""

    then: str = "floats"

    def mask(self, view):
        if view.round == 3:
            if self.then == "fails":
                raise ValueError("no mask")
            return view.mask.float() if self.then == "floats" else torch.ones(3, dtype=torch.bool)
        return view.mask
