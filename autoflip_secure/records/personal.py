"""What records say of clients one by one: their own models' accuracies, and what they have to remember."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class PersonalAccuracy(_Record):
    """Accuracies of the honest clients' own models, each on its own held-out rows, in [0, 1]; every client alike."""

    mean: float
    worst: float  # of one client
    spread: float  # standard deviation between clients
    global_accuracy: float  # of the global model, on the test set


class ClientAccuracies(_Record):
    """The last personal evaluation, client by client. Lists run over ``clients``: the honest ones."""

    clients: list[int]
    held_out: list[int]  # rows that each was tested on
    accuracy: list[float]


class ClientStateRecord(_Record):
    """What a client keeps between rounds."""

    bytes_per_client: dict[str, int]  # name of the row -> bytes on the client's device

    @property
    def own_mask(self) -> bool:
        """Whether a client's mask is among it; else all share one."""
        return "mask" in self.bytes_per_client
