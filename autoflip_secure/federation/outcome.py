"""What one round did, for the logbook and whoever looks on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from autoflip_secure.federation.masking import Masking
from autoflip_secure.interfaces import Channel
from autoflip_secure.secure_rows.secure_sum import SecureTransfer


@dataclass(frozen=True)
class Outcome:
    """What one round did; lists run over the participants."""

    round: int
    participants: list[int]
    malicious: list[bool]
    scores: list[float] | None
    trust: list[float]
    rejected: list[int]
    delta: Tensor  # (params,), what the global model moved by
    sent: Tensor  # (usable participants, params)
    mask: Tensor  # that this round was trained and sent with
    samples: int  # training samples of all participants, one epoch
    events: tuple[str, ...]
    train_loss: float | None = None
    transfer: SecureTransfer | None = None  # through the parties; None: in the open
    own: Masking | None = None  # masks of the clients' own; ``mask`` is then what somebody held
    live: Tensor | None = None  # where masks are trained: the live part of ``mask``, or of each one of ``own``
    known: Tensor | None = None  # where masks are trained: probabilities that the server had to send
    channels: tuple[Channel, ...] = ()  # what was sent beside the update
    channel_rows: Mapping[str, Tensor] = field(default_factory=dict)  # of the usable participants
    channel_means: Mapping[str, Tensor] = field(default_factory=dict)  # as the server learned them
    channel_transfers: Mapping[str, SecureTransfer] = field(default_factory=dict)
    aggregated: int = (
        0  # rows of which the step was made: of usable participants, and of absent clients where remembered
    )
    broadcast_round: int | None = None  # that the local rule's broadcast was made for; None: clients need none
    gradient_passes: int = 0  # over the participants' data, to measure channels with
