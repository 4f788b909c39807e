"""Models as Flower's arrays, and back: under the names of ``state_dict``, which a plain PyTorch program loads."""

from __future__ import annotations

import copy

from flwr.app import ArrayRecord
from jaxtyping import Float
from torch import Tensor

from autoflip_secure.errors import InputError
from autoflip_secure.flower.agreed import Kit


def arrays(kit: Kit, weights: Float[Tensor, " params"]) -> ArrayRecord:
    """The model with ``weights``: parameters and saved buffers."""
    module = copy.deepcopy(kit.module).cpu()
    kit.layout.load(module, weights.cpu())
    return ArrayRecord(module.state_dict())


def vector(kit: Kit, record: ArrayRecord) -> Float[Tensor, " params"]:
    """Inverse of :func:`arrays`.

    Raises:
        InputError: it is another model.
    """
    module = copy.deepcopy(kit.module).cpu()
    try:
        module.load_state_dict(record.to_torch_state_dict())
    except Exception as error:  # whatever somebody put into the record
        reason = str(error).strip().splitlines()[-1].strip()
        raise InputError(
            f"initial_arrays are not of the model that was agreed on ({reason}); give strategy.initial_arrays(), or a "
            "state_dict of that model"
        ) from error
    return kit.layout.vector(module)
