"""What an aggregator is asked, and with what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, SerializeAsAny
from torch import Tensor

from autoflip_secure.interfaces.base import called
from autoflip_secure.interfaces.channel import Received
from autoflip_secure.interfaces.channel_source import ChannelSource
from autoflip_secure.interfaces.known_attacks import Known
from autoflip_secure.interfaces.landscape import Exploration, Guidance
from autoflip_secure.interfaces.pre_aggregation import PreAggregator
from autoflip_secure.interfaces.row_reader import OpenRows, RowReader
from autoflip_secure.models.layout import Layout
from autoflip_secure.models.masks import facts

ROOT_SAMPLES = 100  # as in Cao et al. 2021


def _no_draws(*address: int) -> torch.Generator:
    raise LookupError("this round was made without randomness; give its view `generator`")


@dataclass(frozen=True)
class PublicView:
    """What the server knows of a round without a look at any row."""

    round: int
    clients: Int[Tensor, " clients"]
    samples: Float[Tensor, " clients"]  # n_k
    weights: Float[Tensor, " params"]  # w, before this round
    mask: Bool[Tensor, " params"]
    guidance: Guidance | None
    layout: Layout
    shrinkage: Float[Tensor, " clients"]  # share of w that weight decay alone took off each client's copy
    masks: Bool[Tensor, "clients params"] | None = None  # what each client holds; None: all hold ``mask``
    channels: Mapping[str, Received] = field(default_factory=dict)  # what clients sent besides in this round
    generator: Callable[..., torch.Generator] = _no_draws  # generator(*address below AGGREGATION and the round)
    root: Float[Tensor, " params"] | None = None  # update trained on the server's clean root set; None: it has none
    malicious: int | None = None  # f where it is known from the rows before they were bucketed; None: the rule's own

    @property
    def live(self) -> Bool[Tensor, " params"]:
        """Coordinates that are measured: trained, and not masked."""
        return facts(self.mask, self.layout).live

    def coverage_mean(
        self, mean: Float[Tensor, " params"], weights: Float[Tensor, " clients"]
    ) -> Float[Tensor, " params"]:
        r"""The mean of each coordinate over the clients that hold it, from that over all of them.

        .. math:: \Delta_j = \sum_k q_k u_{kj} \Big/ \sum_k q_k m_{kj}, \qquad q_k = p_k / \sum_l p_l

        and 0 where nobody holds j (LotteryFL, Li et al. 2021; FedDST, Bibikar et al. 2022). Where all hold the same the
        divisor is 1 and this is ``mean``, to the bit: it is summed in double, where sums of whole numbers are exact.

        Args:
            mean: the weighted mean of all rows, which are 0 where a client holds nothing.
            weights: p_k, whole numbers, not all 0.
        """
        if self.masks is None:
            return mean
        share = (weights.double() @ self.masks.double()) / weights.double().sum()
        return torch.where(share > 0, mean / share.to(mean.dtype), 0.0)


@dataclass(frozen=True, kw_only=True)
class RoundView(PublicView):
    """What the server sees in one round. No row is longer than 1e18: clients that sent others are left out before."""

    updates: Float[Tensor, "clients params"]  # u_k, zero where masked

    @property
    def directions(self) -> Float[Tensor, "clients params"]:
        """The rows without running statistics and frozen weights: what norms, distances and angles are measured on."""
        return self.layout.of_trained(self.updates)

    @property
    def public(self) -> PublicView:
        """The round without its rows."""
        return PublicView(**{name: getattr(self, name) for name in _PUBLIC})


_PUBLIC = tuple(one.name for one in fields(PublicView))


@dataclass(frozen=True)
class Aggregate:
    """The server's decision: the step, and what each client counted for."""

    delta: Float[Tensor, " params"]
    trust: Float[Tensor, " clients"]  # omega_k: non-negative, sums to 1, or all 0 (nobody who is here counts)
    scores: Float[Tensor, " clients"] | None  # s_k in [0, 1]; None: this aggregator does not score
    state: Any = None
    statistics: dict[str, Float[Tensor, " clients"]] = field(default_factory=dict)
    rows: int | None = None  # that were aggregated; the engine says it where absent clients' rows were among them


class Aggregator(ChannelSource, ABC):
    """Turns the rows of one round into one step. One that need not see them all is a :class:`ReadingAggregator`."""

    needs_guidance: ClassVar[bool] = False
    scores_clients: ClassVar[bool] = False
    known_by: ClassVar[Known] = ()  # attacks that know it, which one that scores clients has to name
    linear: ClassVar[bool] = False  # a sum of rows with weights that do not depend on them: a secure sum is enough
    needs_rows: ClassVar[bool] = True  # else what a RowReader gives is enough, so that rows may be secret
    own_masks: ClassVar[bool] = False  # works where clients hold different coordinates: reads :attr:`PublicView.masks`
    assumes_malicious: ClassVar[bool] = False  # its rule has an f: it says which in ``assumed``
    #: over rounds, from ``start``: numbers about clients one by one, their rows, or steps alone
    remembers: ClassVar[Literal["", "steps", "clients", "rows"]] = ""
    needs_clean_data: ClassVar[bool] = False  # the server owns clean samples, `root_samples` of them: `view.root`
    weighs_samples: ClassVar[bool] = False  # a client's number of samples, which it says itself, is its weight
    before: tuple[SerializeAsAny[PreAggregator], ...] = Field(
        default=(), description="pre-aggregators, by name or with options, that change the rows first, in this order"
    )

    @property
    def one_sum(self) -> bool:
        """Whether it is a sum of rows with weights that do not depend on them, as it is configured."""
        return self.linear and not self.before

    def assumed(self, rows: int) -> int | None:
        """f, the number of malicious rows that its rule assumes among so many; None: it assumes none."""
        return None

    @property
    def clean_samples(self) -> int:
        """How many clean samples the server owns: the option ``root_samples`` of one that needs clean data."""
        return int(getattr(self, "root_samples", ROOT_SAMPLES)) if self.needs_clean_data else 0

    def malicious_among(self, view: RoundView) -> int:
        """f in a round: :meth:`assumed`, or what is known from before rows were bucketed."""
        return (self.assumed(len(view.updates)) or 0) if view.malicious is None else view.malicious

    def fault(self, rows: int, malicious: int) -> tuple[str, str] | None:
        """An option that does not go with rounds of so many rows and f, and what is wrong with it and the way out."""
        return None

    def start(self, layout: Layout, weights: Tensor, clients: int, exploration: Exploration | None) -> Any:
        """State before round 1. Default: stateless."""
        return None

    @abstractmethod
    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round."""

    def aggregate_cells(self, states: Sequence[Any], views: Sequence[RoundView]) -> list[Aggregate]:
        """One round of several cells, none of which may make a difference to another. Default: one by one."""
        return [self.aggregate(state, view) for state, view in zip(states, views, strict=True)]

    def obstacle(self) -> str | None:
        """Why its rule cannot work on secret rows as it is configured, with the way out; None: it can."""
        if not self.needs_rows:
            return None
        way_out = "write it as a ReadingAggregator (docs/plugins.md), or use" if self.foreign else "use"
        return (
            f"{called(self)!r} needs every client's update, which a secure sum hides; {way_out} 'mean', 'agreement' or "
            "'radial'"
        )

    def hindrance(self) -> str | None:
        """Why it cannot work on secret rows, pre-aggregators included, with the way out; None: it can."""
        reason = self.obstacle()
        if reason is not None or not self.before:
            return reason
        kinds = ", ".join(repr(called(one)) for one in self.before)
        return f"before: {kinds} needs every client's update, which a secure sum hides; set before: []"


class ReadingAggregator(Aggregator):
    """An aggregator for which products, norms and one weighted sum of the rows are enough: it runs on shares too."""

    needs_rows: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Who replaces :meth:`aggregate` looks at rows after all."""
        super().__pydantic_init_subclass__(**kwargs)
        if cls.aggregate is not ReadingAggregator.aggregate:
            cls.needs_rows = True

    @abstractmethod
    def decide(self, state: Any, reader: RowReader, view: PublicView) -> Aggregate:
        """One round, of which nothing is seen but what ``reader`` gives."""

    def aggregate(self, state: Any, view: RoundView) -> Aggregate:
        """One round in the open: the same decision."""
        return self.decide(state, _opened(view), view.public)

    def aggregate_cells(self, states: Sequence[Any], views: Sequence[RoundView]) -> list[Aggregate]:
        """One round of several cells; one by one where :meth:`aggregate` was replaced."""
        if type(self).aggregate is not ReadingAggregator.aggregate:
            return super().aggregate_cells(states, views)
        return self.decide_cells(states, [_opened(view) for view in views], [view.public for view in views])

    def decide_cells(
        self, states: Sequence[Any], readers: Sequence[RowReader], views: Sequence[PublicView]
    ) -> list[Aggregate]:
        """:meth:`decide` of several cells, none of which may make a difference to another. Default: one by one."""
        return [self.decide(*one) for one in zip(states, readers, views, strict=True)]

    def typical_norm(self, state: Any) -> float | None:
        """Norm of a typical update so far, from which clients on shares know how far to clip; None: not known."""
        return None


def _opened(view: RoundView) -> OpenRows:
    return OpenRows(view.updates, lambda: view.directions)


class ScoringAggregator(ReadingAggregator):
    """Scores clients from a few numbers of each row, and takes a weighted sum of the rows.

    Rows are read cell by cell, which is how they fit a cache; the numbers read are few, so that those of all cells of a
    block are scored together. What a cell gets does not depend on the others, to the bit.
    """

    @abstractmethod
    def read(self, state: Any, reader: RowReader, view: PublicView) -> Any:
        """What scores are made of: a few numbers of every row."""

    @abstractmethod
    def population(self, state: Any) -> int:
        """Of how many clients the state knows: all of them."""

    @abstractmethod
    def scores_from_numbers(
        self, states: Sequence[Any], numbers: Sequence[Any], views: Sequence[PublicView]
    ) -> list[Any]:
        """Scores and weights from numbers alone, of cells with equally many participants, and clients in all."""

    @abstractmethod
    def combine(self, state: Any, scored: Any, numbers: Any, reader: RowReader, view: PublicView) -> Aggregate:
        """The weighted sum, and the state after the round."""

    def decide(self, state: Any, reader: RowReader, view: PublicView) -> Aggregate:
        """One round: the case of one cell."""
        return self._together([state], [reader], [view])[0]

    def decide_cells(
        self, states: Sequence[Any], readers: Sequence[RowReader], views: Sequence[PublicView]
    ) -> list[Aggregate]:
        """One round of several cells; one by one where :meth:`decide` was replaced."""
        if type(self).decide is not ScoringAggregator.decide:
            return super().decide_cells(states, readers, views)
        return self._together(states, readers, views)

    def _together(
        self, states: Sequence[Any], readers: Sequence[RowReader], views: Sequence[PublicView]
    ) -> list[Aggregate]:
        numbers = [self.read(*one) for one in zip(states, readers, views, strict=True)]
        alike: dict[tuple[int, int], list[int]] = {}
        for place, (state, view) in enumerate(zip(states, views, strict=True)):
            alike.setdefault((len(view.clients), self.population(state)), []).append(place)
        found: dict[int, Aggregate] = {}
        for places in alike.values():
            own = [[one[place] for place in places] for one in (states, numbers, views)]
            for place, scored in zip(places, self.scores_from_numbers(*own), strict=True):
                found[place] = self.combine(states[place], scored, numbers[place], readers[place], views[place])
        return [found[place] for place in range(len(views))]
