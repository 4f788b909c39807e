"""Plug-ins that keep to their contract until round 3."""

import torch

from autoflip_secure.interfaces import (
    Aggregate,
    Aggregator,
    DataAttack,
    InputAttack,
    LocalRule,
    Mixture,
    ParticipationAttack,
    PreAggregator,
    Pruner,
    RowAttack,
    SampleAttack,
    Threat,
)


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


class LateRows(RowAttack):
    """Zeros, and from round 3 on something else."""

    threat = Threat("rows", ("update",))
    then: str = "zeros"

    def act(self, view):
        if view.round >= 3:
            match self.then:
                case "rows alone":
                    return view.updates
                case "short":
                    return view.updates[:, :-1], None
                case "double":
                    return view.updates.double(), None
                case "fails":
                    raise KeyError("rows")
                case "nan":
                    return view.updates * float("nan"), None
                case "in place":
                    view.updates.fill_(1e30)  # honest rows too
                    return view.updates, None
        return torch.zeros_like(view.updates), None


class LateLabels(DataAttack):
    """True labels under the first model, and another model's get something else."""

    then: str = "true"

    @property
    def follows_model(self):
        return True

    def labels(self, labels, num_classes, generator):
        return labels

    def labels_under(self, labels, num_classes, generator, outputs):
        if len(labels) == 64:  # the trial
            return labels
        if self.then == "fails":
            raise ValueError("no labels")
        return labels + num_classes if self.then == "classes" else labels.float()


class LateInputs(InputAttack):
    """Inputs as they are in the trial, and else fewer."""

    def labels(self, labels, num_classes, generator):
        return labels

    def inputs(self, view):
        return view.inputs if len(view.inputs) == 64 else view.inputs[1:]


class LateSamples(SampleAttack):
    """True numbers in the trial, and else halves."""

    def samples(self, samples):
        return samples if len(samples) == 3 else samples / samples.max() / 2


class LatePlaces(ParticipationAttack):
    """True places in the trial, and else none."""

    def places(self, places):
        return places if len(places) == 3 else -places - 1


def is_real(updates):
    """Made-up rows are normal numbers with a deviation of 0.01."""
    return not 0.009 < float(updates.std()) < 0.011


class LateMixture(PreAggregator):
    """Rows as they are in the trial, and else something else."""

    then: str = "rows"

    def mix(self, view):
        later = is_real(view.updates)
        mixing = torch.eye(len(view.updates))
        match self.then if later else "":
            case "rows":
                return view.updates
            case "sums":
                mixing = 2 * mixing
            case "short":
                return Mixture(view.updates[:, 1:], mixing)
            case "fails":
                raise ValueError("no mixture")
        return Mixture(view.updates, mixing)


class LateMemory(PreAggregator):
    """Remembers nothing, and in rounds of real rows loses a client."""

    remembers = True

    def recall(self, memory, rows, mask):
        if len(rows.clients) > 1 and is_real(rows.updates):
            rows = type(rows)(rows.clients[1:], rows.updates[1:], rows.samples[1:], rows.shrinkage[1:])
        return rows, memory

    def mix(self, view):
        return Mixture(view.updates, torch.eye(len(view.updates)))


class LateRule(LocalRule):
    """Gradients as they are, and from round 3 on something else."""

    then: str = "fails"

    def gradient(self, view, gradients):
        if view.round >= 3:
            if self.then == "fails":
                raise ValueError("no gradient")
            return [one[:, :1] for one in gradients]
        return gradients


class LateBroadcast(LocalRule):
    """Ones, and from round 3 on fewer."""

    then: str = "short"

    def renews(self, round_, rounds):
        return round_ == 3

    def broadcast(self, view):
        if view.round == 3 and self.then == "fails":
            raise ValueError("nothing to send")
        return torch.ones(view.layout.size - (view.round == 3))

    def gradient(self, view, gradients):
        return gradients
