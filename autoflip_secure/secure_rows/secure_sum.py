"""What the engine needs of secure sums: a place to put rows where nobody can read them, and how a scenario asks for it.

The engine knows no party, no socket and no CrypTen: :class:`SecureSum` is handed to it as the trainer is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from jaxtyping import Int
from pydantic import BeforeValidator, Discriminator, Field, Tag, field_serializer, field_validator, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from autoflip_secure.interfaces import Config
from autoflip_secure.secure_rows.secret_rows import SecretRows

FEWEST_PARTIES, MOST_PARTIES = 2, 5
LEAST_CROWD = 2
"""Rows that a sum is made of, at the least: the sum of one row is that row."""
Links = Literal["private sockets", "mutual TLS", "plaintext"]


class PartyAddress(Config):
    """Where a party listens that was started with ``autoflip-secure party``."""

    host: Annotated[str, Field(min_length=1, description="name or address of the machine")]
    port: Annotated[int, Field(ge=1, le=65535, description="port that it listens on")]


_NO_HIDDEN_SCORES = (
    "the key was removed, because the proofs behind `hidden`, scores that nobody learns, were never reviewed; leave "
    "it out, and the server learns the scores, or use the aggregator mean, which has none"
)

_NO_CERTIFICATES = (
    "parties by address need certificates, or anybody who reads the links reads every row; set certificates to the "
    "folder that `autoflip-secure certificates` makes, or allow_plaintext: true where nobody else can reach the "
    "network"
)


def _few(value: Any) -> Any:
    count = len(value) if isinstance(value, list | tuple) else value
    if type(count) is not int or not FEWEST_PARTIES <= count <= MOST_PARTIES:
        raise ValueError(
            f"should be {FEWEST_PARTIES} to {MOST_PARTIES} processes of this machine, or a list of as many "
            "{host, port}"
        )
    return value


class SecureSumConfig(Config):
    """Rows pass through party processes in shares; the server learns sums, and what the method says it needs besides.

    Where the parties are and how long they may take changes no number, so it is left out of a cell's identity.
    """

    source: ClassVar[str] = "secret sharing with CrypTen, Knott et al. 2021; docs/secure_sums.md"
    parties: Annotated[
        Annotated[int, Tag("<one>")] | Annotated[tuple[PartyAddress, ...], Tag("<union>")],
        Discriminator(lambda value: "<union>" if isinstance(value, list | tuple) else "<one>"),
        BeforeValidator(_few),
    ] = Field(default=3, description="2 to 5: processes of this machine, or a list of {host, port}")
    timeout: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=60.0, description="seconds that a party may be silent", exclude=True
    )
    updates: bool = Field(
        default=False, description="each round's updates go through the parties too, not only the exploration"
    )
    certificates: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="folder of this machine's certificates, for parties by address", exclude=True
    )
    allow_plaintext: bool = Field(
        default=False, description="parties by address without certificates: links that anybody may read", exclude=True
    )
    sketch: Annotated[int, Field(ge=16, le=65_536)] | None = Field(
        default=256,
        description="scored updates: norms of sketches with this many buckets per group; null = exact norms",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_hidden_scores(cls, value: Any) -> Any:
        """Say what became of a key that scenarios of earlier versions may name."""
        if isinstance(value, dict) and "scores" in value:
            raise PydanticCustomError(
                "removed", "secure_sum.scores = {given}: {what}",
                {"given": str(value["scores"]), "what": _NO_HIDDEN_SCORES, "path": "secure_sum.scores"},
            )  # fmt: skip
        return value

    @field_validator("parties")
    @classmethod
    def _different(cls, value: int | tuple[PartyAddress, ...]) -> int | tuple[PartyAddress, ...]:
        if isinstance(value, tuple):
            twice = [a for index, a in enumerate(value) if a in value[:index]]
            if twice:
                raise ValueError(
                    f"{twice[0].host}:{twice[0].port} is given twice, and one process must not hold two shares; give "
                    "every party once"
                )
        return value

    @model_validator(mode="after")
    def _links_are_settled(self) -> SecureSumConfig:
        by_address, sealed = not isinstance(self.parties, int), self.certificates is not None
        if by_address and not sealed and not self.allow_plaintext:
            raise ValueError(_NO_CERTIFICATES)
        if sealed and (self.allow_plaintext or not by_address):
            other = "allow_plaintext" if self.allow_plaintext else "processes of this machine, which use no network"
            raise ValueError(f"certificates do not go with {other}; leave one of the two out")
        if self.allow_plaintext and not by_address:
            raise ValueError("allow_plaintext is for parties by address; leave it out")
        return self

    @field_serializer("parties")
    def _only_how_many(self, value: int | tuple[PartyAddress, ...]) -> int:
        return self.count

    @property
    def links(self) -> Links:
        """What protects the links to the parties, and among them."""
        if isinstance(self.parties, int):
            return "private sockets"
        return "mutual TLS" if self.certificates is not None else "plaintext"

    @property
    def count(self) -> int:
        """Number of parties."""
        return self.parties if isinstance(self.parties, int) else len(self.parties)


@dataclass(frozen=True)
class Traffic:
    """Bytes on the wire, headers included."""

    from_clients: int  # shares and square pairs, to all parties
    from_server: int  # requests and public vectors, to all parties
    to_server: int
    between_parties: int

    def __sub__(self, earlier: Traffic) -> Traffic:
        return Traffic(
            self.from_clients - earlier.from_clients,
            self.from_server - earlier.from_server,
            self.to_server - earlier.to_server,
            self.between_parties - earlier.between_parties,
        )


@dataclass(frozen=True)
class Revealed:
    """What a batch of rows gave away."""

    sums: int = 0  # weighted sums of rows
    products: int = 0  # numbers about each client
    norms: int = 0  # numbers about each client


@dataclass(frozen=True)
class SecureTransfer:
    """One batch of rows that went through the parties."""

    clients: int
    revealed: Revealed
    traffic: Traffic
    seconds: float
    error: float | None = None  # of its sums, as a share of their largest entry; None: not known


class SharedBatch(SecretRows, ABC):
    """Rows at the parties, and what happened to them there."""

    events: tuple[str, ...]  # who was left out, and why
    revealed: Revealed

    @abstractmethod
    def forget(self) -> None:
        """Let the parties forget the rows."""


class SecureSum(ABC):
    """Splits rows over parties; see :mod:`autoflip_secure.defenses.secure_aggregation.session`."""

    parties: int

    @abstractmethod
    def share(self, rows: Int[Tensor, "clients params"], clients: tuple[int, ...]) -> SharedBatch:
        """Split every row over the parties. Clients whose shares do not reach all of them are left out."""

    def tell(self, numbers: int) -> None:
        """Count numbers that clients tell the server themselves, past the parties."""
        return None

    @property
    @abstractmethod
    def traffic(self) -> Traffic:
        """Bytes so far."""


Connect = Callable[[SecureSumConfig], SecureSum]
"""Gives the session for a configuration; what opens it closes it."""
