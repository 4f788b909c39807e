"""Accuracy and loss of many models, each on samples of its own: stacked where possible, else one model at a time.

The samples of a model are cut into pieces of at most :data:`.evaluation.SAMPLES`, and pieces of one width are computed
together. A width depends on the model's own number of samples alone, so its numbers do not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from autoflip_secure.models.layout import Layout
from autoflip_secure.training.base import precise, working_copy
from autoflip_secure.training.buckets import FEWEST, LANES, filled, height
from autoflip_secure.training.evaluation import (
    SAMPLES,
    Forward,
    agree,
    drawing,
    models_at_once,
    names_of,
    one_at_a_time,
    scoring_program,
)
from autoflip_secure.training.program import cross_entropy, stacked_forward

Models = Callable[[Sequence[int]], Float[Tensor, "models params"]]
"""Weights and running statistics of the models at some places, in their order."""


def evaluate_own(
    module: nn.Module,
    layout: Layout,
    models: Models,
    x: Shaped[Tensor, "rows ..."],
    samples: Sequence[Int[Tensor, " _"]],
    labels: Sequence[Int[Tensor, " _"]],
) -> tuple[Float[Tensor, " models"], Float[Tensor, " models"]]:
    """Share of right answers and mean cross-entropy of each model on its own samples, in evaluation mode.

    Args:
        module: the architecture; left as it is.
        models: gives the weights of some of the models; asked for as many as fit in memory at once.
        x: all inputs, on the device where things are computed.
        samples: of each model, at least one: rows of ``x``.
        labels: of each model, in the order of ``samples``.

    Returns:
        accuracy (models,) in [0, 1] and loss (models,) in nats, float64, on the CPU. A model with weights that are not
        finite gets a loss that is not finite.
    """
    totals = torch.zeros(2, len(samples), dtype=torch.float64)
    if not samples:
        return totals[0], totals[1]
    pieces = sorted(_pieces(samples), key=lambda piece: -piece[0])  # stable: each model's own pieces stay in order
    with torch.no_grad(), precise(x.device):
        forward, most = _fitting(module, layout, x)
        while pieces:
            taken = [piece for piece in pieces[:most] if piece[0] == pieces[0][0]]
            pieces = pieces[len(taken) :]
            places = [place for _, place, _ in taken]
            found = _measure(forward, models(places).to(x.device), x, taken, samples, labels)
            totals.index_add_(1, torch.tensor(places), found.cpu())
    totals /= torch.tensor([len(rows) for rows in samples])
    return totals[0], totals[1]


_Piece = tuple[int, int, slice]
"""Width, the model's place, and which of its samples."""


def _pieces(samples: Sequence[Tensor]) -> list[_Piece]:
    found = []
    for place, rows in enumerate(samples):
        for first in range(0, len(rows), SAMPLES):
            count = min(SAMPLES, len(rows) - first)
            found.append((-(-count // LANES) * LANES, place, slice(first, first + count)))
    return found


def _measure(
    forward: Forward, rows: Tensor, x: Tensor, pieces: Sequence[_Piece],
    samples: Sequence[Tensor], labels: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    """Right answers and summed loss of each piece, (2, pieces)."""
    width = pieces[0][0]
    chosen = torch.stack([filled(samples[place][part].to(x.device), width) for _, place, part in pieces])
    wanted = torch.stack([filled(labels[place][part].to(x.device), width) for _, place, part in pieces])
    counts = torch.tensor([part.stop - part.start for _, _, part in pieces], device=x.device)
    real = torch.arange(width, device=x.device) < counts.unsqueeze(1)
    with drawing(x):
        scores = forward(rows, x[chosen])[: len(rows)]
    right = ((scores.argmax(-1) == wanted) & real).sum(1).double()
    loss = torch.where(real, cross_entropy(scores, wanted).double(), 0.0).sum(1)
    return torch.stack([right, loss])


def _fitting(module: nn.Module, layout: Layout, x: Tensor) -> tuple[Forward, int]:
    """A forward that is right for this module, rows (models, params) and inputs (models, batch, *features); and how
    many models it takes at once."""
    program = scoring_program(module, layout, x)
    net = working_copy(module, x.device).eval().requires_grad_(False)
    run = program.forward if program else stacked_forward(net, names_of(layout))
    single = one_at_a_time(net, layout)

    def stacked(rows: Tensor, inputs: Tensor) -> Tensor:
        count = height(len(rows), LANES)
        return run(list(layout.tensors(filled(rows, count)).values()), filled(inputs, count))

    def apart(rows: Tensor, inputs: Tensor) -> Tensor:
        return torch.cat([single(row[None], one) for row, one in zip(rows, inputs, strict=True)])

    def alike(rows: Tensor, inputs: Tensor) -> Tensor:
        batch = filled(inputs, LANES)
        return stacked(rows, batch.expand(len(rows), *batch.shape))

    most = models_at_once(module, layout, x, program)
    if most < FEWEST or not agree(alike, single, layout.vector(module), x):
        return apart, 1
    return stacked, most
