"""A log -> its ledger and what it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from autoflip_secure.defenses.privacy.budget import in_words, people
from autoflip_secure.defenses.privacy.logged_rounds import LoggedFederation, LoggedRound, account_of
from autoflip_secure.records.account import FederationAccount
from autoflip_secure.records.budget import ClientLine
from autoflip_secure.records.privacy import Guarantee
from autoflip_secure.scenarios.logs.federation_log import FederationLog, Fixed, Poisson, Round
from autoflip_secure.scenarios.logs.reading import ReadLog
from autoflip_secure.version import __version__

_COUNTED_WITH = ("numpy", "scipy", "opacus", "dp-accounting")


def account(read: ReadLog) -> FederationAccount:
    """What is proven of a log without faults."""
    log = read.log
    names = _names(log)
    logged = _logged(log, names)
    clips = [clip for entry in log.rounds if (clip := entry.clip or log.clip) is not None]
    noise = [entry.noise_multiplier for entry in logged.rounds if entry.came] or [0.0]
    return FederationAccount(
        name=log.name,
        unit=log.unit,
        delta=log.delta,
        clients=logged.clients,
        names=names,
        colluding=logged.colluding,
        protected=[name for place, name in enumerate(names) if logged.protected(place)],
        rounds=len(logged.rounds) if isinstance(log.sampling, Poisson) else sum(e.came > 0 for e in logged.rounds),
        participations=sum(entry.came for entry in logged.rounds),
        clips=(min(clips), max(clips)) if clips else None,
        noise_multipliers=(min(noise), max(noise)),
        noise=log.noise,
        secure_sum=bool(log.secure_sum),
        sampling=_sampling(log),
        secret_from=sorted(logged.secret_from),
        files=read.files,
        versions={"autoflip-secure": __version__, **{name: _version(name) for name in _COUNTED_WITH}},
        privacy=account_of(logged),
        remarks=list(_remarks(log)),
    )


def _names(log: FederationLog) -> list[str]:
    """Of all clients where the log lists them, else of those that took part, in the order in which they did."""
    if not isinstance(log.clients, int):
        return list(log.clients)
    people = (name for e in log.rounds if not isinstance(e.participants, int) for name in e.participants)
    more = () if isinstance(log.colluding, int) else log.colluding
    return list(dict.fromkeys([*people, *more]))


def _logged(log: FederationLog, names: list[str]) -> LoggedFederation:
    place = {name: index for index, name in enumerate(names)}
    sampling = log.sampling
    drawn = isinstance(sampling, Poisson | Fixed)
    gang = None if isinstance(log.colluding, int) else frozenset(place[name] for name in log.colluding)
    return LoggedFederation(
        unit=log.unit,
        clients=log.clients if isinstance(log.clients, int) else len(log.clients),
        rounds=tuple(_round(log, entry, place) for entry in sorted(log.rounds, key=lambda entry: entry.round)),
        delta=log.delta,
        noise="central" if log.noise == "central" else "distributed",
        linear=log.aggregate == "sum",
        secure_sum=bool(log.secure_sum),
        in_advance=log.settings == "in advance",
        colluding=log.colluding if gang is None else len(gang),  # type: ignore[arg-type]
        colluders=gang if gang is not None else frozenset() if log.colluding == 0 else None,
        sampling=sampling.kind if isinstance(sampling, Poisson | Fixed) else "none",
        rate=sampling.rate if isinstance(sampling, Poisson) else 1.0,
        secret_from=frozenset(sampling.secret_from) if drawn else frozenset(),  # type: ignore[union-attr]
        secret_batches=log.batches == "poisson",
        bare=dict(log.also_released),
    )


def _round(log: FederationLog, entry: Round, place: dict[str, int]) -> LoggedRound:
    people = None if isinstance(entry.participants, int) else tuple(place[name] for name in entry.participants)
    rates: tuple[float, ...] = ()
    steps: tuple[int, ...] = ()
    if log.unit == "sample":
        key = "epochs" if log.batches == "shuffled" else "steps"
        steps = tuple(map(int, _each(log, entry, key)))
        rates = _each(log, entry, "batch_rate") if log.batches == "poisson" else (1.0,)
    came = entry.participants if isinstance(entry.participants, int) else len(entry.participants)
    return LoggedRound(entry.round, people, came, _noise(log, entry), rates, steps)


def _each(log: FederationLog, entry: Round, key: str) -> tuple[float, ...]:
    """Of every participant, in their order, or one value for all."""
    value = getattr(entry, key)
    value = getattr(log, key) if value is None else value
    if isinstance(value, dict):
        assert not isinstance(entry.participants, int)
        return tuple(value[name] for name in entry.participants)
    return (value,) if value is not None else (1,)


def _noise(log: FederationLog, entry: Round) -> float:
    """Standard deviation of one draw / clip norm; what a round says itself goes before what is said of all."""
    for said in (entry, log):
        if said.noise_multiplier is not None:
            return said.noise_multiplier
        if said.noise_std is not None:
            clip = entry.clip or log.clip
            return 0.0 if clip is None else said.noise_std / clip
    return 0.0


def _sampling(log: FederationLog) -> str:
    if log.unit == "sample":
        return {"poisson": "Poisson batches", "shuffled": "shuffled batches"}.get(str(log.batches), "unknown batches")
    if isinstance(log.sampling, Poisson):
        return f"Poisson cohorts, rate {log.sampling.rate:g}"
    if isinstance(log.sampling, Fixed):
        return f"cohorts of {log.sampling.cohort}, drawn uniformly"
    return "cohorts chosen in an unknown way"


def _remarks(log: FederationLog) -> list[str]:
    found = []
    if log.unit == "client" and not isinstance(log.sampling, Poisson | Fixed):
        found.append("how participants were chosen is not known, so nothing is amplified: every participation counts")
    if isinstance(log.sampling, Poisson | Fixed) and not log.sampling.secret_from:
        found.append("cohorts are secret from nobody, so nothing is amplified: every participation counts")
    if isinstance(log.sampling, Poisson) and log.sampling.secret_from and log.noise == "distributed":
        found.append(
            "Poisson cohorts amplify nothing that clients noise themselves: how much noise there is tells how many came"
        )
    if isinstance(log.sampling, Poisson | Fixed) and log.sampling.secret_from and log.aggregate == "other":
        found.append("what is published is not a plain sum, so secret cohorts amplify nothing")
    if any(isinstance(entry.participants, int) for entry in log.rounds):
        found.append("some rounds say only how many took part: every round counts for every client")
    if log.unit == "sample" and log.batches != "poisson":
        found.append("batches are not Poisson draws, so nothing is amplified")
    return found


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def client_lines(account: FederationAccount) -> list[ClientLine]:
    """What every client released to every observer, with the epsilon that the ledger has for it.

    Clients that the log names and the ledger does not tell apart (where cohorts are secret, everybody pays alike) have
    a line each; without names there is one, "every".
    """
    return [line for guarantee in account.privacy.guarantees for line in _lines(account, guarantee)]


def _lines(account: FederationAccount, guarantee: Guarantee) -> Iterator[ClientLine]:
    known = {entry.client: entry.epsilon for entry in guarantee.clients}
    for client, mine in people(guarantee.releases).items():
        names = [account.names[int(client)]] if client.isdecimal() else account.protected or [client]
        for name in names:
            yield ClientLine(
                data=account.name, division="", client=name, observer=guarantee.observer, unit=account.unit,
                relation=guarantee.relation, runs=1, releases=sum(release.steps for release in mine),
                released=in_words(mine), delta=account.delta, reason="" if guarantee.proven else guarantee.reason,
                epsilon=known.get(int(client) if client.isdecimal() else None) if guarantee.proven else None,
            )  # fmt: skip
