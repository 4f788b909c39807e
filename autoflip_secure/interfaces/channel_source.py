"""Who may ask clients for more than their update: pruners and aggregators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from autoflip_secure.interfaces.accumulated import Accumulated
from autoflip_secure.interfaces.base import Plugin
from autoflip_secure.interfaces.channel import Channel, ChannelRequest, ClientView


class ChannelSource(Plugin):
    """A plug-in that may have clients send more than their update. One that asks for nothing overrides nothing."""

    client_rows: ClassVar[Mapping[str, Literal["bits", "numbers"]]] = {}  # that a client keeps from round to round

    @property
    def rows_kept(self) -> Mapping[str, Literal["bits", "numbers"]]:
        """Named rows (params,) that a client keeps from round to round. Default: :attr:`client_rows`."""
        return self.client_rows

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        """What clients send besides the update in a round; no two have one name. Default: nothing."""
        return ()

    def accumulates(self, asked: ChannelRequest) -> frozenset[Accumulated]:
        """What clients sum up over the steps of a round's local training, for ``view.sums``. Default: nothing.

        Said before the round, like :meth:`wants`, so that nothing is paid when nobody asks.
        """
        return frozenset()

    def measure(self, channel: Channel, view: ClientView) -> Float[Tensor, "clients size"]:
        """The honest rows of a channel that it asked for, on the device of ``view.updates``.

        Row k may depend on what is client k's own alone, and on what everybody knows. An honest client clips it to
        ``channel.bound`` by itself; it is not for this method.
        """
        raise NotImplementedError(f"{type(self).__name__} asks for the channel {channel.name!r} without a `measure`")

    def next_rows(self, view: ClientView) -> Mapping[str, Tensor]:
        """Rows (clients, params) for the participants to keep, by names of :attr:`rows_kept`; others stay.

        Asked after local training in every round of who has ``rows_kept`` rows. ``view.states`` are the rows as they
        were, which :meth:`measure` saw too. They stay with their clients: what is sent is a channel.
        """
        return {}
