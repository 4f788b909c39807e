"""Model checkpoints of a cell: initial, best and final weights and masks, one safetensors file a cell.

``models/<cell>.safetensors`` holds, for each of ``initial``, ``best`` and ``final`` and each tensor of the model,
``WHICH/weights/NAME`` (float32) and ``WHICH/mask/NAME`` (bool, True: kept, False: pruned; none for frozen tensors).
Names are those of ``module.state_dict()``. Weights of ``best`` and ``final`` are zero where the mask is False.
``initial`` holds the weights as the seed draws them, before anything is pruned, with the mask that round 1 begins with.

The metadata is one JSON object under ``autoflip_secure``: what the cell is, round and accuracy of each model, a
checksum of everything, and a digest of the run, by which a file is told from that of another run of the same cell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autoflip_secure.errors import StoreError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.state import ServerState
from autoflip_secure.federation.watcher import Watcher
from autoflip_secure.files.canonical_json import canonical, digest
from autoflip_secure.files.durable import write_whole
from autoflip_secure.files.regular_files import gone, open_regular, parse_json
from autoflip_secure.models.layout import Layout
from autoflip_secure.records.configs import without
from autoflip_secure.records.run import RunRecord
from autoflip_secure.scenarios.store.store import Store
from autoflip_secure.training import evaluate

Which = Literal["initial", "best", "final"]
WHICH: Final[tuple[Which, ...]] = ("initial", "best", "final")
BYTES_PER_PARAMETER = len(WHICH) * (4 + 1)
"""Of a file: a float32 and a bool for each parameter of each model."""
FORMAT = 1
_LONGEST_HEADER = 2**27  # bytes; a header has about 200 for each tensor
_CHUNK = 2**20
_BEST = "the first evaluation with the highest test accuracy; chosen on the test set, so its accuracy is optimistic"
_NO_LEDGER = "no privacy mechanism: nothing is proven about what these models reveal of their training data"
_LEDGER = (
    "the ledger in the record of this cell counts the global model and mask of every round as released, so best and "
    "final cost nothing more (best: if the test data need no protection); how much that is, and against whom, the "
    "ledger says; the initial weights are drawn from the seed, which this file names: keep it as private as the record"
)


@dataclass(frozen=True)
class Checkpoint:
    """One global model of a run; tensors on the device of the run when it was kept, on the CPU when it was read."""

    round: int  # 0: before round 1
    accuracy: float  # on the test set, in [0, 1]
    weights: Float[Tensor, " params"]
    mask: Bool[Tensor, " params"]


class Checkpoints(Watcher):
    """Holds on to three models of every cell of a block while it runs: references, no copies."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[Tensor, Tensor]] = {}
        self._best: dict[str, Checkpoint] = {}
        self._final: dict[str, Checkpoint] = {}

    def model(self, cell: Cell, state: ServerState, accuracy: float | None) -> None:
        """See :meth:`Watcher.model`."""
        if state.round == 0:
            initial = cell.problem.initial if state.scored is None else state.model
            self._first[cell.key] = initial, state.model_mask
        if accuracy is None:
            return
        now = Checkpoint(state.round, accuracy, state.model, state.model_mask)
        if cell.key not in self._best or accuracy > self._best[cell.key].accuracy:
            self._best[cell.key] = now
        self._final[cell.key] = now  # the last round is always evaluated

    def of(self, cell: Cell) -> dict[Which, Checkpoint]:
        """The models of a cell that has run to its end; the initial one is evaluated here."""
        problem = cell.problem
        weights, mask = self._first[cell.key]
        accuracy, _ = evaluate(problem.module, problem.layout, weights[None], problem.x_test, problem.y_test)
        initial = Checkpoint(0, float(accuracy), weights, mask)
        return {"initial": initial, "best": self._best[cell.key], "final": self._final[cell.key]}


@dataclass(frozen=True)
class ModelsToKeep:
    """Which cells are to leave their models, and where; travels to workers."""

    folder: Path  # results folder
    trajectories: Mapping[str, str | None]  # cell -> digest of the run that its record is of; None: no record yet

    def save(self, cell: Cell, record: RunRecord, checkpoints: Checkpoints) -> None:
        """Write the models of ``cell``, unless they are not asked for or are not those of its record.

        Raises:
            StoreError: the disk is full, or the folder cannot be written.
        """
        trajectory = trajectory_digest(record)
        if cell.key not in self.trajectories or self.trajectories[cell.key] not in (None, trajectory):
            return
        content = _serialised(cell, record, checkpoints.of(cell))
        path = models_file(self.folder, cell.key)
        with Store(self.folder).explained():
            path.parent.mkdir(exist_ok=True)
            write_whole(path, content)


def models_file(folder: Path, key: str) -> Path:
    """Where the models of a cell are."""
    return folder / "models" / f"{key}.safetensors"


def trajectory_digest(record: RunRecord) -> str:
    """16 hexadecimal digits, equal for two runs of a cell that took the same steps to the same mask."""
    steps = [[entry.round, entry.test_accuracy, entry.step_norm, entry.density] for entry in record.rounds]
    return digest([steps, record.digests.get("mask")])


def cells_without_models(store: Store, records: Mapping[str, RunRecord]) -> set[str]:
    """The finished cells whose models are not there; damaged files are moved aside and noted in ``store.damaged``."""
    without = set[str]()
    for key, record in records.items():
        path = models_file(store.folder, key)
        with store.explained():
            absent = gone(path)
        if absent:
            without.add(key)
            continue
        try:
            of_this_run = read_metadata(path, key)["run"] == trajectory_digest(record)
        except StoreError as error:
            store.set_aside(path, str(error))
            of_this_run = False
        if not of_this_run:
            without.add(key)
    return without


def read_metadata(path: Path, key: str) -> dict[str, Any]:
    """The metadata of an undamaged file of a cell; its tensors are read through for the checksum, and not kept.

    Raises:
        StoreError: unreadable, damaged, of another format, or of another cell.
    """
    try:
        with open_regular(path) as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= _LONGEST_HEADER:
                raise ValueError("it is not a safetensors file")
            header = parse_json(file.read(length))
            data = hashlib.sha256()
            while chunk := file.read(_CHUNK):
                data.update(chunk)
        metadata: dict[str, Any] = parse_json(header["__metadata__"]["autoflip_secure"])
        checksum = metadata.pop("checksum", None)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = str(error) if type(error) is ValueError else "it is not a file of models that a sweep has written"
        raise StoreError(f"{path}: is damaged ({why})") from error
    if metadata.get("format", FORMAT) != FORMAT:
        raise StoreError(f"{path}: has format {metadata['format']}; this version reads format {FORMAT}")
    if checksum != _checksum(metadata, header, data.hexdigest()):
        raise StoreError(f"{path}: is damaged (its checksum does not match: it was cut short, or changed afterwards)")
    if metadata.get("cell") != key:
        raise StoreError(f"{path}: is damaged (it holds the models of another cell)")
    return metadata


def read_checkpoint(path: Path, which: Which, layout: Layout, metadata: Mapping[str, Any]) -> Checkpoint:
    """One model of a file, on the CPU; ``metadata``: the file's, from :func:`read_metadata`.

    Raises:
        StoreError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    weights, mask = torch.zeros(layout.size), torch.ones(layout.size, dtype=torch.bool)
    try:
        with safe_open(path, framework="pt") as file:
            for segment in layout:
                weights[segment.slice] = file.get_tensor(f"{which}/weights/{segment.name}").reshape(-1)
                if not segment.frozen:
                    mask[segment.slice] = file.get_tensor(f"{which}/mask/{segment.name}").reshape(-1)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from error
    described = metadata["models"][which]
    return Checkpoint(described["round"], described["accuracy"], weights, mask)


def _serialised(cell: Cell, record: RunRecord, models: Mapping[Which, Checkpoint]) -> bytes:
    from safetensors.numpy import save

    layout = cell.problem.layout
    tensors = {}
    for which, model in models.items():
        for name, tensor in layout.tensors(model.weights.cpu()).items():
            tensors[f"{which}/weights/{name}"] = tensor.numpy()
        for name, tensor in layout.tensors(model.mask.cpu()).items():
            if not layout[name].frozen:
                tensors[f"{which}/mask/{name}"] = tensor.numpy()
    metadata = {
        "format": FORMAT,
        "cell": cell.key,
        "run": trajectory_digest(record),
        "algorithm": cell.algorithm,
        "seed": cell.seed,
        "model": cell.config["model"],
        "shapes": {segment.name: list(segment.shape) for segment in layout},
        "input_shape": list(cell.problem.x_train.shape[1:]),
        "classes": cell.problem.num_classes,
        "models": {which: {"round": model.round, "accuracy": model.accuracy} for which, model in models.items()},
        "best": _BEST,
        "privacy": _NO_LEDGER if cell.protocol.mechanism is None else _LEDGER,
        "versions": record.versions,
    }
    content = save(tensors, {"autoflip_secure": ""})
    start = 8 + int.from_bytes(content[:8], "little")
    header = parse_json(content[8:start])
    checksum = _checksum(metadata, header, hashlib.sha256(memoryview(content)[start:]).hexdigest())
    del content  # before the second one is made
    return save(tensors, {"autoflip_secure": canonical({**metadata, "checksum": checksum})})


def _checksum(metadata: Mapping[str, Any], header: Mapping[str, Any], data: str) -> str:
    """Over the metadata, names, types, shapes and places of the tensors, and all their bytes."""
    return digest([metadata, without(header, "__metadata__"), data], compact=True, digits=64)
