"""Secure sums in a scenario: what goes together, which parties a sweep needs, and who talks to them.

| what the aggregator needs of the updates | through the parties |
|---|---|
| their weighted sum (mean) | yes |
| that and a few numbers about each (agreement, radial) | yes |
| every one of them (median, Krum, …) | no: refused, with the reason |
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from autoflip_secure.interfaces import Aggregator, ClientPrivacy, Plugin
from autoflip_secure.secure_sum import Connect, PartyAddress, SecureSum, SecureSumConfig
from defenses.secure_scores import refusal
from scenarios.messages import kind_of

if TYPE_CHECKING:
    from defenses.crew import Parties
    from scenarios.config import Settings
    from scenarios.sweep import Block

Where = int | tuple[PartyAddress, ...]
Crews = Mapping[Where, "Parties"]


def impossible(settings: Settings) -> tuple[str, str] | None:
    """The key that is in the way of secure sums, and the sentence about it; None: all is well."""
    config, algorithm = settings.secure_sum, settings.algorithm
    if config is None:
        return None
    pruner, aggregator = algorithm.pruner, algorithm.aggregator
    explores = pruner.needs_guidance or aggregator.needs_guidance
    if not explores and not config.updates:
        return "secure_sum.updates", (
            f"false: algorithm {algorithm.name} does not explore, so nothing would pass through the parties; set "
            "secure_sum.updates: true, or secure_sum: none"
        )
    if explores and settings.exploration.method != "linear":
        return "exploration.method", (
            f"{settings.exploration.method}: needs every explorer's deviation, and secure_sum shows the server sums "
            "only; set exploration.method: linear"
        )
    if explores and pruner.needs_explorers:
        return "algorithm", (
            f"{algorithm.name}: its pruner {kind_of(type(pruner))} looks at what single explorers sent, and secure_sum "
            "shows the server sums only; take the pruner threshold"
        )
    return _impossible_crowd(settings, explores) or _impossible_updates(settings, config)


def needed(kind: type[Plugin]) -> str:
    """What the server has to see of the updates for an aggregator as it is by default: one line of ``list``."""
    aggregator = kind()
    assert isinstance(aggregator, Aggregator)
    reason = refusal(aggregator)
    if reason is not None:
        return f"every one of them, so not through parties: {reason}"
    return "their weighted sum" if aggregator.linear else "a weighted sum, and a few numbers about each"


def _impossible_crowd(settings: Settings, explores: bool) -> tuple[str, str] | None:
    explorers = settings.exploration.explorers or settings.clients
    if explores and explorers < 2:
        return "exploration.explorers", f"{explorers}: a sum over one explorer is its row; let two or more explore"
    if settings.secure_sum is not None and settings.secure_sum.updates and settings.cohort < 2:
        return "cohort", f"{settings.cohort}: a sum over one client is its update; let two or more take part"
    return None


def _impossible_updates(settings: Settings, config: SecureSumConfig) -> tuple[str, str] | None:
    aggregator, privacy = settings.algorithm.aggregator, settings.privacy
    if not config.updates:
        return None
    reason = refusal(aggregator)
    if reason is not None:
        return "secure_sum.updates", (
            f"true: the aggregator {kind_of(type(aggregator))} cannot do with sums: {reason}; or set "
            "secure_sum.updates: false"
        )
    if isinstance(privacy, ClientPrivacy) and privacy.unit == "client" and privacy.trusted_server:
        return "privacy.noise", (
            "central: the server clips every update, so it has to see them; set privacy.noise: distributed, or "
            "secure_sum.updates: false"
        )
    return None


def _wanted(blocks: Iterable[Block]) -> dict[Where, float]:
    configs = [spec.settings.secure_sum for block in blocks for spec in block.cells]
    return {config.parties: config.timeout for config in configs if config is not None}


def check_parties(blocks: Iterable[Block]) -> None:
    """What the parties of ``blocks`` need is here: CrypTen for those of this machine, a token for others.

    Raises:
        InputError: it is not; says how to get it.
    """
    wanted = _wanted(blocks)
    if any(isinstance(where, int) for where in wanted):
        from defenses.crypten_import import require

        require()
    if any(not isinstance(where, int) for where in wanted):
        from defenses.crew import shared_token

        shared_token()


def exposed(blocks: Iterable[Block]) -> str | None:
    """What the user has to know of parties on other machines; None: there are none."""
    wanted = [address for where in _wanted(blocks) if not isinstance(where, int) for address in where]
    far = [f"{address.host}:{address.port}" for address in wanted if not _here(address.host)]
    if not far:
        return None
    return f"secure sum: links to {', '.join(dict.fromkeys(far))} {_OPEN}"


def _here(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_OPEN = (
    "are not encrypted: who reads the links of all parties reads every row; use a private network or a tunnel "
    "(WireGuard, TLS)"
)


@contextlib.contextmanager
def crews_for(blocks: Iterable[Block]) -> Iterator[Crews]:
    """The parties that ``blocks`` need: processes of this machine, started once, or the addresses of others.

    Raises:
        SecureSumError: a party did not start.
    """
    with contextlib.ExitStack() as stack:
        crews: dict[Where, Parties] = {}
        for where, timeout in _wanted(blocks).items():
            from defenses.crew import Parties, local_parties, shared_token

            if isinstance(where, int):
                crews[where] = stack.enter_context(local_parties(where, timeout))
            else:
                addresses = tuple((address.host, address.port) for address in where)
                crews[where] = Parties(addresses, shared_token(), timeout)
        yield crews


def serve_party(host: str, port: int, tell: Callable[[str], None]) -> None:
    """Be a party for sweeps elsewhere until interrupted.

    Raises:
        InputError: the token is not set, CrypTen is not installed, or the address cannot be listened on.
    """
    from defenses.crew import TOKEN_VARIABLE, ready, shared_token

    party, port = ready(host, port, shared_token())
    tell(f"party: listening on {host}:{port} for whoever knows {TOKEN_VARIABLE}; Ctrl-C stops it")
    if not _here(host):
        tell(f"party: note: links to it {_OPEN}")
    party.serve()


@contextlib.contextmanager
def connecting(crews: Crews) -> Iterator[Connect]:
    """Opens one session with each crew that is asked for, and closes them all."""
    with contextlib.ExitStack() as stack:
        sessions: dict[Where, SecureSum] = {}

        def connect(config: SecureSumConfig) -> SecureSum:
            if config.parties not in sessions:
                from defenses.secure_aggregation import Session

                where = replace(crews[config.parties], timeout=config.timeout)
                sessions[config.parties] = stack.enter_context(Session(where))
            return sessions[config.parties]

        yield connect
