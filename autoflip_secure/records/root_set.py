"""What a run says of clean data that the server owned."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from autoflip_secure.models.amounts import Flops


class RootSetRecord(BaseModel):
    """The server's clean root set, which no client had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int  # taken from the clients' training data: ``client_samples`` are what was left
    flops: Flops  # of the server's own training, whole run: no part of ``costs``, which are the clients'
