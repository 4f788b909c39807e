"""Accuracy and loss of many models on one test set: stacked where possible, one model at a time otherwise."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from autoflip_secure.models.layout import Layout
from autoflip_secure.runtime.memory import out_of_memory
from autoflip_secure.runtime.user_randomness import drawing_at
from autoflip_secure.seeds import Purpose
from autoflip_secure.training.base import precise, working_copy
from autoflip_secure.training.buckets import FEWEST, LANES, filled, height
from autoflip_secure.training.chain import ChainProgram, chain_program
from autoflip_secure.training.program import SLOW, StackedForward, cross_entropy, kept_floats, stacked_forward
from autoflip_secure.training.stacked import BUDGET

SAMPLES = 128
"""Samples per forward; fixed, so that a model's numbers do not depend on how many models are evaluated."""

Forward = Callable[[Tensor, Tensor], Tensor]
"""Rows (models, params), inputs (batch, *features) -> scores (models, batch, classes), maybe ghosts behind both."""


class Tested(NamedTuple):
    """What models answer to a test set."""

    accuracy: Float[Tensor, " models"]  # in [0, 1], float64
    loss: Float[Tensor, " models"]  # mean cross-entropy in nats, float64
    by_class: Float[Tensor, "models classes"]  # share of right answers, float64; NaN where the set has no such class


def evaluate(
    module: nn.Module,
    layout: Layout,
    vectors: Float[Tensor, "models params"],
    x: Shaped[Tensor, "samples ..."],
    y: Int[Tensor, " samples"],
) -> tuple[Float[Tensor, " models"], Float[Tensor, " models"]]:
    """Share of right answers and mean cross-entropy of each model, in evaluation mode, on the device of ``x``.

    Args:
        module: the architecture; left as it is.
        vectors: weights and running statistics of each model.

    Returns:
        accuracy (models,) in [0, 1] and loss (models,) in nats, float64, on the device of ``vectors``. A model with
        weights that are not finite gets a loss that is not finite.
    """
    found = evaluate_by_class(module, layout, vectors, x, y, 0)
    return found.accuracy, found.loss


def evaluate_by_class(
    module: nn.Module,
    layout: Layout,
    vectors: Float[Tensor, "models params"],
    x: Shaped[Tensor, "samples ..."],
    y: Int[Tensor, " samples"],
    classes: int,
) -> Tested:
    """:func:`evaluate`, and of the same pass the share of right answers on the samples of each of ``classes``."""
    if len(vectors) == 0:
        nothing = vectors.new_zeros(0, dtype=torch.float64)
        return Tested(nothing, nothing, nothing.new_zeros(0, classes))
    wanted = y.to(x.device)
    with torch.no_grad(), precise(x.device):
        forward, height = _fitting(module, layout, x)
        parts = [_measure(forward, rows.to(x.device), x, wanted, classes) for rows in torch.split(vectors, height)]
    accuracy, loss, by_class = (torch.cat(each).to(vectors.device) for each in zip(*parts, strict=True))
    return Tested(accuracy, loss, by_class)


def class_outputs(
    module: nn.Module,
    layout: Layout,
    vectors: Float[Tensor, "models params"],
    x: Shaped[Tensor, "samples ..."],
) -> Float[Tensor, "models samples classes"]:
    """What each model answers to each sample, in evaluation mode; arguments as in :func:`evaluate`."""
    with torch.no_grad(), precise(x.device):
        forward, height = _fitting(module, layout, x)
        parts = []
        for rows in torch.split(vectors, height):
            here = rows.to(x.device)
            with drawing(x):
                scores = [forward(here, inputs)[: len(rows), : len(inputs)] for inputs in torch.split(x, SAMPLES)]
            parts.append(torch.cat(scores, 1))
        return torch.cat(parts).to(vectors.device)


def _measure(forward: Forward, rows: Tensor, x: Tensor, y: Tensor, classes: int) -> Tested:
    right = torch.zeros(len(rows), dtype=torch.float64, device=x.device)
    loss, by_class = torch.zeros_like(right), right.new_zeros(len(rows), classes)
    with drawing(x):
        for inputs, targets in zip(torch.split(x, SAMPLES), torch.split(y, SAMPLES), strict=True):
            scores = forward(rows, inputs)
            wanted = F.pad(targets, (0, scores.shape[1] - len(inputs))).expand(len(scores), -1)
            real = (slice(len(rows)), slice(len(inputs)))
            hits = (scores.argmax(-1) == wanted)[real]
            right += hits.sum(1)
            loss += cross_entropy(scores, wanted)[real].double().contiguous().sum(1)
            if classes:
                by_class += hits.double() @ F.one_hot(targets, classes).double()  # counts, so exact
    samples = torch.bincount(y, minlength=classes)[:classes]
    return Tested(right / len(y), loss / len(y), by_class / samples)


def drawing(x: Tensor) -> AbstractContextManager[None]:
    """What a forward draws in an evaluation is at one address: the same for every model, whatever ran before."""
    return drawing_at(0, Purpose.EVALUATION, device=x.device)


def _fitting(module: nn.Module, layout: Layout, x: Tensor) -> tuple[Forward, int]:
    """A forward that is right for this module, and how many models it takes at once."""
    program = scoring_program(module, layout, x)
    height = models_at_once(module, layout, x, program)
    if program is not None and height >= FEWEST:
        return _stacked(program.forward, layout), height
    net = working_copy(module, x.device).eval().requires_grad_(False)
    forward, single = _stacked(stacked_forward(net, names_of(layout)), layout), one_at_a_time(net, layout)
    if height < FEWEST or not agree(forward, single, layout.vector(module), x):
        return single, 1
    return forward, height


def names_of(layout: Layout) -> list[str]:
    """Of its tensors, in order."""
    return [segment.name for segment in layout]


def scoring_program(module: nn.Module, layout: Layout, x: Tensor) -> ChainProgram | None:
    """The module by hand in evaluation mode, if it is a chain, for inputs like ``x``."""
    return chain_program(module, names_of(layout), x, training=False)


def models_at_once(module: nn.Module, layout: Layout, x: Tensor, program: ChainProgram | None) -> int:
    """Models that fit the budget of one forward."""
    activations = program.kept if program else kept_floats(working_copy(module, x.device).eval(), x[:1])
    return BUDGET[x.device.type] // (layout.size + min(SAMPLES, len(x)) * activations)


def _stacked(run: StackedForward, layout: Layout) -> Forward:
    def forward(rows: Tensor, inputs: Tensor) -> Tensor:
        stack = filled(rows, height(len(rows), LANES))
        batch = filled(inputs, -(-len(inputs) // LANES) * LANES)  # as in training: nothing is left over
        return run(list(layout.tensors(stack).values()), batch.expand(len(stack), *batch.shape))

    return forward


def one_at_a_time(net: nn.Module, layout: Layout) -> Forward:
    """The forward of ``net`` with one model after the other loaded into it."""

    def forward(rows: Tensor, inputs: Tensor) -> Tensor:
        scores = []
        for row in rows:
            layout.load(net, row)
            scores.append(net(inputs))
        return torch.stack(scores)

    return forward


def agree(stacked: Forward, single: Forward, own: Tensor, x: Tensor) -> bool:
    """Whether stacking works for this module in evaluation mode: tried on its own weights, whole and halved.

    Not on the weights to be judged, which an attack may have made so large that their scores are not finite.
    """
    rows = torch.stack([own, 0.5 * own]).to(x.device)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with drawing(x):
                scores = stacked(rows, x[:1])[: len(rows), :1]
        with drawing(x):
            plain = single(rows, x[:1])
    except Exception as error:  # whatever it is, one model at a time is the way that a module is made for
        if out_of_memory(error):
            raise
        return False
    if any(SLOW in str(warning.message) for warning in caught):
        return False
    scale = float(plain.nan_to_num(0.0, 0.0, 0.0).abs().max())
    return torch.allclose(scores, plain, rtol=1e-3, atol=1e-3 * scale, equal_nan=True)
