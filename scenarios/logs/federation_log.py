"""The format of a federation's log: who took part in which round, and what was clipped and noised. See docs/account.md.

Every key is a fact about the federation, and those that a proof rests on have no default: what nobody says is not
taken for granted.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag

from autoflip_secure.interfaces import Config
from autoflip_secure.terminal.visible import short

MOST_ROUNDS = 100_000
MOST_PARTICIPATIONS = 5_000_000


def _name(value: Any) -> Any:
    """Names of clients may be whole numbers."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _form(value: Any) -> str:
    """Which of two forms a value has, so that what is wrong with it is said of one."""
    return "<many>" if isinstance(value, list | tuple | dict) else "<one>"


def _once(value: Any) -> Any:
    """Of two values for one client neither may be lost."""
    if isinstance(value, dict):
        names = [str(key).strip() for key in value]
        if twice := [name for name in names if names.count(name) > 1][:1]:
            raise ValueError(f"'{short(twice[0])}' is named twice; keep one")
    return value


def _kind(value: Any) -> Any:
    """``sampling: unknown`` for ``sampling: {kind: unknown}``."""
    return {"kind": value} if isinstance(value, str) else value


Client = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True), BeforeValidator(_name)]
Clip = Annotated[float, Field(gt=0, le=1e9)]
Noise = Annotated[float, Field(ge=0, le=1e6)]
Rate = Annotated[float, Field(gt=0, le=1)]
Number = Annotated[int, Field(ge=1, le=1_000_000)]
Participants = Annotated[
    Annotated[int, Field(ge=0, le=10**9), Tag("<one>")] | Annotated[tuple[Client, ...], Tag("<many>")],
    Discriminator(_form),
]
Clients = Annotated[
    Annotated[int, Field(ge=1, le=10**9), Tag("<one>")]
    | Annotated[tuple[Client, ...], Field(min_length=1), Tag("<many>")],
    Discriminator(_form),
]
RateOfEach = Annotated[
    Annotated[Rate, Tag("<one>")] | Annotated[dict[Client, Rate], BeforeValidator(_once), Tag("<many>")],
    Discriminator(_form),
]
NumberOfEach = Annotated[
    Annotated[Number, Tag("<one>")] | Annotated[dict[Client, Number], BeforeValidator(_once), Tag("<many>")],
    Discriminator(_form),
]
Outsider = Literal["public", "another client"]


class Unknown(Config):
    """Nobody says how participants were chosen: nothing is amplified."""

    kind: Literal["unknown"] = "unknown"


class Poisson(Config):
    """Every client took part in every round with the same probability, by a coin of its own."""

    kind: Literal["poisson"] = "poisson"
    rate: Rate = Field(description="probability of each client in each round")
    secret_from: tuple[Outsider, ...] = Field(description="who never learns who took part; [] = everybody does")


class Fixed(Config):
    """Every cohort was drawn from all clients, uniformly and without replacement, and all who were drawn came."""

    kind: Literal["fixed"] = "fixed"
    cohort: Number = Field(description="clients of each round")
    secret_from: tuple[Outsider, ...] = Field(description="who never learns who took part; [] = everybody does")


Sampling = Annotated[Unknown | Poisson | Fixed, Discriminator("kind")]


class Amounts(Config):
    """What may be said once for all rounds, or of a single one."""

    clip: Clip | None = Field(default=None, description="L2 norm that what is noised was clipped to")
    noise_multiplier: Noise | None = Field(default=None, description="standard deviation of one noise draw / clip")
    noise_std: Noise | None = Field(default=None, description="the same, not divided by clip")


class LocalAmounts(Amounts):
    """With what local training needs where single samples are protected."""

    batch_rate: Rate | None = Field(default=None, description="probability of a sample to be in a batch")
    steps: Number | None = Field(default=None, description="noised steps of a participant in a round")
    epochs: Number | None = Field(default=None, description="passes over its samples in a round")


class Round(Amounts):
    """One round that released something, or in which nobody took part."""

    round: Annotated[int, Field(ge=1, le=MOST_ROUNDS)]
    participants: Participants = Field(
        description="names of those whose rows are in what was released, or only how many"
    )
    batch_rate: RateOfEach | None = None
    steps: NumberOfEach | None = None
    epochs: NumberOfEach | None = None


class FederationLog(LocalAmounts):
    """A whole log."""

    name: Annotated[str, Field(min_length=1, max_length=200, description="of the federation, for the page")]
    unit: Literal["client", "sample"] = Field(description="what one unit of privacy is: a whole client, or one sample")
    delta: Annotated[float, Field(gt=0, lt=1, description="at which epsilon is stated; far below 1/n for n units")]
    clients: Clients = Field(description="all who could have taken part: how many, or their names")
    settings: Literal["in advance", "from results"] = Field(
        description="in advance: number of rounds, clip norms, noise and sampling were fixed before the first round, "
        "or follow from no data of clients and no result"
    )
    last_round: Annotated[int, Field(ge=1, le=MOST_ROUNDS, description="number of the last round that was run")]
    rounds: tuple[Round, ...] = Field(description="the rounds, or the name of a CSV file beside this one")
    colluding: Participants = Field(
        default=0, description="clients that may tell others their noise and their rounds: how many, or their names"
    )
    also_released: dict[Literal["server", "public", "another client"], Annotated[str, Field(min_length=1)]] = Field(
        default={}, description="what else reached an observer from clients without noise, by observer"
    )
    noise: Literal["central", "distributed"] | None = Field(
        default=None, description="central: the server noises the sum; distributed: each participant its own row"
    )
    aggregate: Literal["sum", "other"] | None = Field(
        default=None,
        description="sum: what is published follows from the sum of the rows, divided by a number fixed in advance",
    )
    secure_sum: bool | None = Field(default=None, description="whether the server sees that sum alone, and no row")
    sampling: Annotated[Sampling, BeforeValidator(_kind)] | None = Field(
        default=None, description="how participants were chosen: unknown, or a mapping with kind poisson or fixed"
    )
    batches: Literal["poisson", "shuffled", "unknown"] | None = Field(
        default=None, description="how batches were drawn, where single samples are protected"
    )
