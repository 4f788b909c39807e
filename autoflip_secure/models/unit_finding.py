"""The units of any model: of a chain by proof, of anything else by its graph."""

from __future__ import annotations

from jaxtyping import Num
from torch import Tensor, nn

from autoflip_secure.errors import UnsupportedModelError
from autoflip_secure.models.chain import Chain
from autoflip_secure.models.unit_graph import UnitGraph
from autoflip_secure.models.units import Units


def find_units(module: nn.Module, sample: Num[Tensor, "batch ..."]) -> Units:
    """The units of ``module``, found on ``sample`` (a batch; its first row is used).

    Raises:
        UnsupportedModelError: they are not known, or none of them can be taken out; says why.
    """
    try:
        return Chain.of(module, sample)
    except UnsupportedModelError as no_chain:
        try:
            return UnitGraph.of(module, sample)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"{error} (and it is no chain of layers: {no_chain})") from error
