"""The server's decision: what the aggregator makes of a round, in the open or of what passes through parties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.federation.aggregating import Question
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.clients import Usable, stated_samples, weight_decay_shrinkage
from autoflip_secure.federation.masking import Masking
from autoflip_secure.federation.scored_rounds import exchanged
from autoflip_secure.federation.secure_rounds import timed
from autoflip_secure.federation.secure_updates import score_secretly, sum_secretly
from autoflip_secure.federation.state import ServerState
from autoflip_secure.interfaces import Aggregate, PublicView, Received, RoundView
from autoflip_secure.secure_rows.secure_sum import SecureSum, SecureTransfer
from autoflip_secure.seeds import Purpose, generator


def question(
    cell: Cell,
    state: ServerState,
    clients: Tensor,
    sent: Tensor,
    usable: Usable,
    channels: Mapping[str, Received],
    own: Masking | None,
) -> Question:
    """What the aggregator is asked of the usable rows."""
    view = RoundView(**vars(_view(cell, state, clients, usable, channels)), updates=usable.chosen(sent))
    if own is not None and cell.protocol.pruner.several_masks:  # else all hold the same
        view = replace(view, masks=own.masks[usable.flags])
    protocol, draws = cell.protocol, partial(generator, cell.seed, Purpose.PRE_AGGREGATION, view.round)
    return Question(protocol.aggregator, state.aggregator, view, draws, protocol.client_level is None)


def _view(
    cell: Cell, state: ServerState, clients: Tensor, usable: Usable, channels: Mapping[str, Received]
) -> PublicView:
    """What the server knows of the clients with usable rows. At client level numbers of samples stay with them."""
    problem, protocol = cell.problem, cell.protocol
    here = usable.chosen(clients.to(usable.flags.device))
    samples = stated_samples(cell, here, state.round + 1)
    shrinkage = weight_decay_shrinkage(protocol.training.in_round(state.round + 1), samples)
    if protocol.rule is not None:  # what decay comes to has no closed form
        shrinkage = torch.zeros_like(samples)
    if protocol.client_level is not None:
        samples, shrinkage = torch.ones_like(samples), torch.zeros_like(samples)
    return PublicView(
        round=state.round + 1,
        clients=here,
        samples=samples,
        weights=state.weights,
        mask=exchanged(cell, state.mask),
        guidance=state.guidance,
        layout=problem.layout,
        shrinkage=shrinkage,
        channels=channels,
        root=state.root,
        generator=partial(generator, cell.seed, Purpose.AGGREGATION, state.round + 1),
    )


def decide_secretly(
    cell: Cell, state: ServerState, clients: Tensor, sent: Tensor, usable: Usable, channels: Mapping[str, Received],
    sums: SecureSum,
) -> tuple[Aggregate | None, Usable, list[str], SecureTransfer | None]:  # fmt: skip
    """The step, who is in it, events, and what passed. Rows leave the clients in shares; what decides is shown none."""
    protocol, config = cell.protocol, cell.protocol.secure_sum
    assert config is not None
    if not usable.anybody:
        return None, usable, [], None
    aggregator, view, rows = protocol.aggregator, _view(cell, state, clients, usable, channels), usable.chosen(sent)
    with timed(sums) as through:
        if aggregator.linear:
            noised = protocol.client_level is not None and cell.noise_multipliers[0] > 0
            found = sum_secretly(sums, aggregator, state.aggregator, view, rows, noised=noised)
        else:
            honest = ~cell.malicious_in(view.round)[view.clients.cpu()].to(sent.device)
            draws = generator(cell.seed, Purpose.SECURE_CHECKS, view.round)
            found = score_secretly(sums, aggregator, state.aggregator, view, rows, honest, draws, config.sketch)
    flags = usable.flags.clone()
    flags[usable.flags] = found.taken.to(flags.device)
    (taken,) = Usable.of(flags)
    return found.aggregate, taken, list(found.events), through(sum(taken.plain), found.revealed, found.error)


def of_all(numbers: Float[Tensor, " usable"] | None, usable: Usable) -> Float[Tensor, " clients"]:
    """Numbers of all participants, from those of clients whose rows were used; 0 for others, and where None says so."""
    flags = usable.flags
    if numbers is not None and len(numbers) == len(flags):
        return numbers
    if numbers is None:
        return torch.zeros(len(flags), device=flags.device)
    return numbers.new_zeros(len(flags)).index_put((flags,), numbers)
