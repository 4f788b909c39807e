r"""What the server makes of the aggregator's step: a learning rate, and momentum that is damped.

.. math:: v \leftarrow \beta v + (1 - \beta) \Delta, \qquad w \leftarrow w + \eta v, \qquad v_0 = 0

The damped form is the one of the AutoFLIP and FedLEx authors' "FedAvg" (:math:`\beta = 0.9`). FedAvgM as Hsu, Qi and
Brown 2019 have it does not damp, :math:`v \leftarrow \beta v + \Delta`; it is this with the learning rate
:math:`\eta / (1 - \beta)`.

Both are for what is trained. Running statistics are averaged, so they take the step as it is, and frozen weights none.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def server_step(
    step: Float[Tensor, " params"],
    momentum: Float[Tensor, " params"] | None,
    trained: Bool[Tensor, " params"],
    *,
    lr: float,
    beta: float,
) -> tuple[Float[Tensor, " params"], Float[Tensor, " params"] | None]:
    """What the weights move by, and the momentum after the round.

    Args:
        step: Delta, as it was decided, or published where it was noised.
        momentum: v, 0 where nothing is trained or where weights are pruned; None where beta is 0.
        trained: coordinates that are trained and alive.
        lr: eta.
        beta: of the momentum, in [0, 1).
    """
    if momentum is None:
        return step.where(~trained, lr * step), None
    momentum = (beta * momentum + (1 - beta) * step).where(trained, 0.0)
    return (lr * momentum).where(trained, step), momentum


def published_step(
    moved: Float[Tensor, " params"], momentum: Float[Tensor, " params"] | None, *, lr: float, beta: float
) -> Float[Tensor, " params"]:
    """Delta, from what trained weights moved by: what anybody works out who sees one model after another.

    A round in which nothing moved had no step.

    Args:
        moved: difference of two models that follow each other.
        momentum: before the round; made of models too, so whoever sees them knows it. None where beta is 0.
        lr: eta.
        beta: of the momentum, in [0, 1).
    """
    if momentum is None:
        return moved / lr
    return ((moved / lr - beta * momentum) / (1 - beta)).where(moved.any(), 0.0)
