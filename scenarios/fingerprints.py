"""What cells read beside their configuration, as SHA-256: the data and the source of a model of the user's own.

A configuration names files; results must not be reused after what lies in them has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from autoflip_secure.errors import InputError
from scenarios.config import Settings
from scenarios.datasets import Dataset
from scenarios.models import Custom
from scenarios.models_custom import source_file


def fingerprints(cells: Iterable[Settings]) -> dict[str, str]:
    """What is read -> SHA-256 in hexadecimal, each once; what is read is named as the scenario file writes it.

    Raises:
        InputError: data or source cannot be read.
    """
    found: dict[str, str] = {}
    for settings in cells:
        for what in read_by(settings):
            if what not in found and what.startswith("data "):
                found[what] = of_dataset(settings.data.load())
            elif what not in found and isinstance(settings.model, Custom):
                found[what] = of_source(settings.model.factory)
    return found


def read_by(settings: Settings) -> list[str]:
    """What one cell reads, named as :func:`fingerprints` does."""
    data = f"data {json.dumps(settings.data.model_dump(mode='json'), sort_keys=True)}"
    own = [f"source of model.factory {settings.model.factory}"] if isinstance(settings.model, Custom) else []
    return [data, *own]


def of_dataset(data: Dataset) -> str:
    """Over shapes and bytes of all samples, labels and owners."""
    digest = hashlib.sha256()
    for tensor in (data.x_train, data.y_train, data.x_test, data.y_test, data.groups):
        if tensor is None:
            digest.update(b"none")
            continue
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def of_source(factory: str) -> str:
    """Over the bytes of the file that the factory's module is read from; "built in" when there is none."""
    path = source_file(factory)
    if path is None:
        return "built in"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"model.factory = {factory!r}: {path} cannot be read ({error.strerror}); make it readable"
        ) from error
