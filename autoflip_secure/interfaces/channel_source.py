"""Who may ask clients for more than their update: pruners and aggregators."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from autoflip_secure.interfaces.base import Plugin
from autoflip_secure.interfaces.channel import Channel, ChannelRequest, ClientView


class ChannelSource(Plugin):
    """A plug-in that may have clients send more than their update. One that asks for nothing overrides nothing."""

    def wants(self, asked: ChannelRequest) -> tuple[Channel, ...]:
        """What clients send besides the update in a round; no two have one name. Default: nothing."""
        return ()

    def measure(self, channel: Channel, view: ClientView) -> Float[Tensor, "clients size"]:
        """The honest rows of a channel that it asked for, on the device of ``view.updates``.

        Row k may depend on what is client k's own alone, and on what everybody knows. An honest client clips it to
        ``channel.bound`` by itself; it is not for this method.
        """
        raise NotImplementedError(f"{type(self).__name__} asks for the channel {channel.name!r} without a `measure`")
