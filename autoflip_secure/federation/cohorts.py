"""Who takes part where that is no secret: public draws, the same for all cells of a seed."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autoflip_secure.seeds import Purpose, generator


@lru_cache(maxsize=256)  # cells of a block ask for the same
def public_cohort(seed: int, round_: int, clients: int, cohort: int, sampling: str) -> Int[Tensor, " cohort"]:
    """Who takes part in a round where that is no secret: the same for all cells of a seed, in ascending order."""
    if sampling == "fixed":
        return drawn(seed, Purpose.COHORT, clients, cohort, round_)
    return (queue(seed, round_, clients, sampling) < cohort / clients).nonzero().squeeze(1)


def queue(seed: int, round_: int, clients: int, sampling: str) -> Float[Tensor, " clients"]:
    """Where every client stands in a public draw, in [0, 1): the lowest ``cohort`` places are :func:`public_cohort`,
    under Poisson sampling those below cohort / clients."""
    source = generator(seed, Purpose.COHORT, round_)
    if sampling == "poisson":
        return torch.rand(clients, generator=source, dtype=torch.float64)
    places = torch.empty(clients, dtype=torch.float64)
    places[torch.randperm(clients, generator=source)] = torch.arange(clients, dtype=torch.float64) / clients
    return places


@lru_cache(maxsize=32)  # a sweep asks for those of a few seeds again and again
def public_cohorts(seed: int, rounds: int, clients: int, cohort: int, sampling: str) -> tuple[tuple[int, ...], ...]:
    """:func:`public_cohort` of every round from the first."""
    numbers = range(1, rounds + 1)
    return tuple(tuple(public_cohort(seed, number, clients, cohort, sampling).tolist()) for number in numbers)


def drawn(seed: int, purpose: Purpose, clients: int, count: int, *address: int) -> Int[Tensor, " count"]:
    """``count`` of the clients without replacement, in ascending order."""
    order = torch.randperm(clients, generator=generator(seed, purpose, *address))
    return order[:count].sort().values
