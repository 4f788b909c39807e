"""One layer of a chain of units."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UnitLayer:
    """A fully connected or convolutional layer: ``units`` rows that read ``inputs`` units of the layer before."""

    name: str  # of the submodule
    weight: str  # segment name; so are bias and attached
    bias: str | None
    attached: tuple[str, ...]  # per unit: parameters and buffers of a normalisation (or PReLU) that follows
    inputs: int  # units of the layer before; input features or channels for the first layer
    units: int  # neurons, filters
    fan: int  # weights between one incoming unit and one unit: 1, H*W behind a flatten, kernel size of a convolution
    convolution: bool
    positions: int  # output positions at which a weight is used: 1, or H_out*W_out for a convolution
    macs: int  # multiply-adds of one sample's forward pass, dense
