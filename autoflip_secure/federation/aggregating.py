r"""From the rows of a round to its step, where rows lie open: pre-aggregators, the aggregator, running statistics.

**Pre-aggregators.** Each makes rows of rows, and says by a matrix how much of which is in them. Scaled to sum 1, these
are the shares :math:`s_{rk}` of a mixed row r. What is linear in a row is mixed as it is: the shrinkage of weight decay
by the matrix. A mixed row has the mean number of samples of its clients, :math:`n_r = \sum_k s_{rk} n_k`. The other
way, a client is trusted as far as the rows are that it is in, and scored as they are:

.. math:: \omega_k = \sum_r s_{rk} \omega_r, \qquad s_k = \sum_r s_{rk} s_r \Big/ \sum_r s_{rk}

**Memory.** A pre-aggregator that remembers rows adds those of absent clients to a round. They are rows like others,
with f among all of them; trust is told of who is here, as shares of what they are trusted together.

**Running statistics** are not trained, and rules do not judge them: whoever is accepted could set them. So
they are the coordinate-wise median over the accepted clients, those of positive trust, whatever the aggregator; where
fewer than three are accepted, over all, as a median of two is set by either. At client level nothing is changed: there
the guarantee may rest on the step being a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.algorithm.order_statistics import median_rows
from autoflip_secure.algorithm.order_statistics import shares as shares_of
from autoflip_secure.federation.outside_answers import aggregates, mixture_of, remembered_rows
from autoflip_secure.interfaces import (
    Aggregate,
    Aggregator,
    ClientRows,
    Exploration,
    Plugin,
    RoundView,
    RowsView,
)
from autoflip_secure.interfaces.base import called
from autoflip_secure.interfaces.pre_aggregation import DEFAULT_SHARE
from autoflip_secure.models.layout import Layout

P = TypeVar("P", bound=Plugin)
FEWEST = 3  # rows of which no single one sets the median


@dataclass(frozen=True)
class Remembering:
    """State of an aggregator whose rows come by way of a memory."""

    own: Any  # the aggregator's
    memory: Any  # of the first pre-aggregator


def start(
    aggregator: Aggregator,
    layout: Layout,
    weights: Float[Tensor, " params"],
    clients: int,
    exploration: Exploration | None,
) -> Any:
    """State before round 1: the aggregator's, with that of its memory of rows where it has one."""
    own = aggregator.start(layout, weights, clients, exploration)
    return Remembering(own, aggregator.before[0].start(clients)) if recalls(aggregator) else own


def recalls(aggregator: Aggregator) -> bool:
    """Whether rows of clients that are absent from a round are aggregated in it."""
    return bool(aggregator.before) and aggregator.before[0].remembers


def own_state(state: Any) -> Any:
    """The aggregator's own state."""
    return state.own if isinstance(state, Remembering) else state


@dataclass(frozen=True)
class Question:
    """What the aggregator of one cell is asked in one round in the open."""

    aggregator: Aggregator  # with its pre-aggregators
    state: Any
    view: RoundView  # with the clients' own rows; nothing in it is changed
    draws: Callable[[int], torch.Generator]  # place in ``before`` -> what that pre-aggregator draws from
    median_buffers: bool = True  # running statistics are the median over the accepted; else what the aggregator says


def aggregate(
    aggregator: Aggregator,
    state: Any,
    view: RoundView,
    draws: Callable[[int], torch.Generator],
    *,
    median_buffers: bool = True,
) -> Aggregate:
    """One round of one cell in the open: see :class:`Question` and :func:`aggregate_cells`."""
    return aggregate_cells([Question(aggregator, state, view, draws, median_buffers)])[0]


def aggregate_cells(questions: Sequence[Question]) -> list[Aggregate]:
    """One round of several cells in the open; those with equal aggregators are asked together.

    Returns:
        Of each cell the step and the new state, and of every client of its view the trust, and its score and statistics
        where there are any. They do not depend on the other cells.
    """
    recalled = [_recalled(asked) if recalls(asked.aggregator) else None for asked in questions]
    mixed = [
        premix(asked.aggregator, asked.view if more is None else more.view, asked.draws)
        for asked, more in zip(questions, recalled, strict=True)
    ]
    found: dict[int, Aggregate] = {}
    for aggregator, places in alike([asked.aggregator for asked in questions]):
        states = [own_state(questions[place].state) for place in places]
        found.update(zip(places, aggregates(aggregator, states, [mixed[place].view for place in places]), strict=True))
    return [
        _of_present(asked, more, found[place] if own.shares is None else _of_clients(found[place], own.shares))
        for place, (asked, more, own) in enumerate(zip(questions, recalled, mixed, strict=True))
    ]


def alike(plugins: Sequence[P]) -> list[tuple[P, list[int]]]:
    """Equal plug-ins, each once, with the places where they stand."""
    found: list[tuple[P, list[int]]] = []
    for place, plugin in enumerate(plugins):
        for known, places in found:
            if known is plugin or (type(known) is type(plugin) and known == plugin):
                places.append(place)
                break
        else:
            found.append((plugin, [place]))
    return found


@dataclass(frozen=True)
class _Recalled:
    """A round in which rows of absent clients are recalled."""

    view: RoundView
    memory: Any


def _recalled(asked: Question) -> _Recalled:
    view = asked.view
    here = ClientRows(view.clients, view.updates, view.samples, view.shrinkage)
    known, memory = remembered_rows(asked.aggregator.before[0], asked.state.memory, here, view.mask, view.round)
    whole = replace(
        view, clients=known.clients, updates=known.updates, samples=known.samples, shrinkage=known.shrinkage
    )
    return _Recalled(whole, memory)


def _of_present(asked: Question, recalled: _Recalled | None, found: Aggregate) -> Aggregate:
    """The step, and what is said of the clients that are here."""
    if recalled is not None:
        count = len(asked.view.clients)
        found = replace(
            found,
            trust=shares_of(found.trust[:count]),
            scores=None if found.scores is None else found.scores[:count],
            statistics={name: values[:count] for name, values in found.statistics.items()},
            state=Remembering(found.state, recalled.memory),
            rows=len(recalled.view.clients),
        )
    if not asked.median_buffers or not len(_buffers(asked.view.layout)):
        return found
    return replace(found, delta=with_median_buffers(found, asked.view))


@dataclass(frozen=True)
class Premixed:
    """A round whose rows went through pre-aggregators."""

    view: RoundView
    shares: Float[Tensor, "rows clients"] | None  # of each row; None: there were none


def premix(aggregator: Aggregator, view: RoundView, draws: Callable[[int], torch.Generator]) -> Premixed:
    """The round as the aggregator is shown it."""
    if not aggregator.before:
        return Premixed(view, None)
    shares, assumed = None, Assumed.of(aggregator, len(view.updates))
    for place, one in enumerate(aggregator.before):
        rows = RowsView(view.updates, view.directions, assumed.before[place], draws(place))
        mixture = mixture_of(one, rows, view.round)
        whose = mixture.shares
        shares = whose if shares is None else whose @ shares
        clients = view.clients if one.keeps_clients else view.clients[: len(mixture.rows)]
        view = replace(
            view, clients=clients, updates=mixture.rows, samples=whose @ view.samples,
            shrinkage=mixture.mixing @ view.shrinkage,
        )  # fmt: skip
    return Premixed(replace(view, malicious=assumed.bucketed), shares)


@dataclass(frozen=True)
class Assumed:
    """f of every rule in a round: it follows from the number of rows alone."""

    before: tuple[int, ...]  # of each pre-aggregator; 0: it has none
    bucketed: int | None  # of the aggregator, where rows are no longer clients'; None: it says so itself
    rules: dict[str, int]  # kind -> f, of those that have one

    @classmethod
    def of(cls, aggregator: Aggregator, rows: int) -> Assumed:
        """For so many usable rows. Buckets are fewer, and as many of them malicious: at most below half of them."""
        share = getattr(aggregator, "bad_share", None)
        known: int | None = None
        before, rules = list[int](), dict[str, int]()
        for one in aggregator.before:
            before.append(one.assumed(rows, share, known))
            if one.assumes_malicious:
                rules[called(one)] = before[-1]
            if not one.keeps_clients:
                f = bucketed_f(aggregator, rows) if known is None else known
                rows = one.rows_after(rows)
                known = min(f, max(rows - 1, 0) // 2)
        if aggregator.assumes_malicious:
            rules[called(aggregator)] = (aggregator.assumed(rows) or 0) if known is None else known
        return cls(tuple(before), known, rules)


def bucketed_f(aggregator: Aggregator, rows: int) -> int:
    """f of the rows that go into buckets: the aggregator's, or a fifth of them where it has none."""
    own = aggregator.assumed(rows)
    return min(round(DEFAULT_SHARE * rows), max(rows - 1, 0) // 2) if own is None else own


def _of_clients(found: Aggregate, shares: Float[Tensor, "rows clients"]) -> Aggregate:
    """What was said of mixed rows, said of the clients in them."""
    whole = shares.sum(0)

    def mean(values: Tensor) -> Tensor:
        return (values.to(shares) @ shares) / whole

    return replace(
        found,
        trust=found.trust @ shares,
        scores=None if found.scores is None else mean(found.scores).clamp(0, 1),
        statistics={name: mean(values) for name, values in found.statistics.items()},
    )


def with_median_buffers(found: Aggregate, view: RoundView) -> Float[Tensor, " params"]:
    """The step, in which running statistics are the median over who is accepted; 0 where nobody is."""
    places, accepted = _buffers(view.layout), found.trust > 0
    if not len(places) or not bool(accepted.any()):
        return found.delta
    rows = view.updates if int(accepted.sum()) < FEWEST else view.updates[accepted]
    places = places.to(rows.device)
    return found.delta.index_put((places,), median_rows(rows[:, places]).to(found.delta))


@lru_cache(maxsize=16)
def _buffers(layout: Layout) -> Tensor:
    """The places of running statistics."""
    return layout.where(*(one for one in layout.segments if one.kind == "buffer")).nonzero().squeeze(1)
