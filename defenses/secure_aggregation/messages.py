"""What may be said on a link, and how much of it: every header that arrives is read as one of these, or is refused.

The other side may be broken or hostile. So nothing that it says about a size is believed: bodies are read into memory
of the size that was asked for, counts have bounds, keys are known ones, and its words are cut and made printable before
anybody sees them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from autoflip_secure.defenses.secure_aggregation.wire import WireError
from autoflip_secure.secure_rows.secure_sum import MOST_PARTIES

MOST_CLIENTS: Final = 100_000
MOST_PARAMS: Final = 2**34
MOST_VECTORS: Final = 1024  # public ones in one request, and groups of coordinates
MOST_BUCKETS: Final = 2**16  # of a group in a sketch
MOST_SKETCHES: Final = 16  # of one batch
_MOST_WORDS: Final = 400  # characters
MOST_COMPLAINTS: Final = 1000  # of a batch; further ones are counted


def printable(text: str) -> str:
    r"""What another machine wrote, as it may stand in a terminal and in a record: one line of bounded length.

    >>> printable("no \x1b[31m memory\n left")
    'no ?[31m memory left'
    """
    line = " ".join(text.split())
    cut = line if len(line) <= _MOST_WORDS else f"{line[: _MOST_WORDS - 1]}…"
    return "".join(character if character.isprintable() else "?" for character in cut)


Words = Annotated[str, AfterValidator(printable)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Rank = Annotated[int, Field(ge=0, lt=MOST_PARTIES)]
Client = Annotated[int, Field(ge=0, lt=2**31)]
Clients = Annotated[list[Client], Field(max_length=MOST_CLIENTS)]
Number = Annotated[int, Field(ge=0, lt=2**31)]  # of a sketch
Count = Annotated[int, Field(ge=0, lt=2**40)]


class Message(BaseModel):
    """A header."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


M = TypeVar("M", bound=Message)


def understood(kind: type[M], header: dict[str, Any], who: str) -> M:
    """``header``, which ``who`` sent, as a ``kind``.

    Raises:
        WireError: it is none; says which key is wrong.
    """
    try:
        return kind.model_validate(header)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = printable(".".join(map(str, first["loc"])))
        raise WireError(
            f"{who} sent a header that is not a valid {kind.__name__.lower()} ({place}: {printable(first['msg'])})"
        ) from None


# ---------------------------------------------------------------------------------------------- from server to party


class About(Message):
    """A request about one batch of rows."""

    batch: Name


class Open(About):
    """Take rows of ``params`` entries from ``clients``."""

    clients: Clients
    params: Annotated[int, Field(ge=1, le=MOST_PARAMS)]


class FromClient(About):
    """What a client sends: integers, or (``expand``: how many) the key that they are expanded from."""

    client: Client
    dtype: Annotated[str, Field(max_length=8), AfterValidator(printable)] | None = None
    expand: Count | None = None

    def bytes(self, size: int) -> int:
        """Bytes of the integers, where ``size`` arrive."""
        return size if self.expand is None else 8 * self.expand


class Choose(About):
    """Go on with ``clients``."""

    clients: Clients


class Products(About):
    """Products with public vectors, which are the body."""

    vectors: Annotated[int, Field(ge=0, le=MOST_VECTORS)]
    dtype: Literal["<i8", "|i1"]


class PublicSketch(About):
    """A public linear map, which is the body: buckets, then signs."""

    sketch: Number
    width: Annotated[int, Field(ge=1, le=MOST_PARAMS)]


class Deal(About):
    """Wait for square pairs, of rows or of their sketch; the first entries of the groups are the body."""

    sketch: Number | None
    groups: Annotated[int, Field(ge=1, le=MOST_VECTORS)]


class Norms(Choose):
    """Squared norms of ``clients``."""

    sketch: Number | None


# ---------------------------------------------------------------------------------------------- from party to server


class Ready(Message):
    """It can go on."""

    ready: Literal[True]


class Held(Message):
    """Whose words are there, and what was not taken."""

    held: Clients
    complaints: Annotated[list[Words], Field(max_length=MOST_COMPLAINTS + 1)]


class Done(Message):
    """Its part of revealing is done; party 0 adds what was revealed as the body."""

    done: Literal[True]
    between: Annotated[int, Field(ge=0, lt=2**63)]  # bytes sent to other parties so far
    liars: Clients = []
