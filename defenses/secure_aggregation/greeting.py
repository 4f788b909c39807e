"""How a connection begins, once it is clear who is at the other end: the caller says what it wants.

Which certificate may say what: a server's opens sessions, a party's joins them, and only in the name of the machine
that it was made for.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, PlainValidator

from autoflip_secure.defenses.secure_aggregation.messages import Message, Name, Rank, printable, understood
from autoflip_secure.defenses.secure_aggregation.tls import shows_role
from autoflip_secure.defenses.secure_aggregation.wire import Address, Channel, WireError
from autoflip_secure.secure_rows.secure_sum import FEWEST_PARTIES, MOST_PARTIES

PROTOCOL: Final = 4
_LONGEST: Final = 1 << 13  # bytes of a greeting


def _address(value: Any) -> Address:
    match value:
        case [str(host), (int() | None) as port] if len(host) < 256 and (port is None or 0 < port < 2**16):
            return Address(host, port)
    raise ValueError("should be [host, port]")


Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Calls(Message):
    """How a server opens a session."""

    role: Literal["server"] = "server"
    session: Name
    rank: Rank
    timeout: Seconds
    parties: Annotated[
        list[Annotated[Address, PlainValidator(_address)]], Field(min_length=FEWEST_PARTIES, max_length=MOST_PARTIES)
    ]


class Joins(Message):
    """How a party joins one."""

    role: Literal["party"] = "party"
    session: Name
    rank: Rank
    patience: Seconds  # for which it waits for the session to begin


class Answers(Message):
    """What the called party says of itself."""

    party: Name  # tells two addresses of one process apart from two processes


def greet(channel: Channel, purpose: Calls | Joins) -> Answers:
    """The caller's side.

    Raises:
        WireError: the other side is no party of this version, or does not want it.
    """
    channel.send({"protocol": PROTOCOL, **purpose.model_dump()})
    header, size = channel.receive(_LONGEST)
    if header.pop("protocol", None) != PROTOCOL or size:
        raise WireError(
            f"{channel.who} does not speak protocol {PROTOCOL} of secure sums; use the same version of autoflip-secure "
            "everywhere"
        )
    if "error" in header:
        raise WireError(f"{channel.who}: {printable(str(header['error']))}")
    return understood(Answers, header, channel.who)


def greeted(channel: Channel, identity: str) -> Calls | Joins:
    """The called party's side: what the caller wants, and may want.

    Raises:
        WireError: it is no caller of this version, or its certificate is for something else.
    """
    header, size = channel.receive(_LONGEST)
    if header.pop("protocol", None) != PROTOCOL or size:
        channel.send({"protocol": PROTOCOL})
        raise WireError(f"{channel.who} does not speak protocol {PROTOCOL} of secure sums")
    purpose: Calls | Joins
    if header.get("role") == "party":
        purpose = understood(Joins, header, channel.who)
    else:
        purpose = understood(Calls, header, channel.who)
    if not shows_role(channel.certificate, purpose.role):
        channel.send({"protocol": PROTOCOL, "error": f"the certificate shown to it is not a {purpose.role}'s"})
        raise WireError(f"{channel.who} shows a certificate that is not a {purpose.role}'s")
    channel.send({"protocol": PROTOCOL, "party": identity})
    return purpose
