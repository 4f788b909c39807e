"""What a log cannot say: keys that do not go together, missing rounds, draws that its own rounds contradict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import log as ln

from scipy.stats import binom

from autoflip_secure.scenarios.config.key_paths import KeyPath
from autoflip_secure.scenarios.logs.federation_log import FederationLog, Fixed, Poisson, Round
from autoflip_secure.terminal.counting import count_of, listed
from autoflip_secure.terminal.visible import short

Fault = tuple[KeyPath, str]
IMPLAUSIBLE = 1e-9
"""Chance, at most, that a log is refused whose cohorts really were drawn as it says."""
_SAMPLES = ("batch_rate", "steps", "epochs")
_NEEDED = {"poisson": ("batch_rate", "steps"), "shuffled": ("epochs",), "unknown": ("steps",)}


def check(log: FederationLog) -> Iterator[Fault]:
    """What is wrong, where, and the way out; the first is enough."""
    yield from _keys(log)
    yield from _numbering(log)
    yield from _clients(log)
    for index, entry in enumerate(log.rounds):
        yield from _amounts(log, index, entry)
    yield from _draws(log)


def _keys(log: FederationLog) -> Iterator[Fault]:
    """What goes with the unit."""
    of_clients = {
        "noise": log.noise,
        "aggregate": log.aggregate,
        "secure_sum": log.secure_sum,
        "sampling": log.sampling,
    }
    of_samples = {"batches": log.batches, **{key: getattr(log, key) for key in _SAMPLES}}
    needed, foreign = (of_clients, of_samples) if log.unit == "client" else ({"batches": log.batches}, of_clients)
    for key, value in needed.items():
        if value is None:
            description = type(log).model_fields[key].description
            yield (key,), f"{key}: is missing ({description}); add it: unit: {log.unit} has no guarantee without it"
    for key, value in foreign.items():
        if value is not None:
            yield (key,), f"{key}: does not go with unit: {log.unit}; leave it out"
    if log.secure_sum and log.aggregate == "other":
        yield (
            ("secure_sum",),
            "secure_sum = True: goes with aggregate: sum only: rows that nobody sees can only be summed",
        )
    people = log.clients if isinstance(log.clients, int) else len(log.clients)
    if log.unit == "client" and log.delta * people >= 1:
        yield (
            ("delta",),
            f"delta = {log.delta:g}: should be below 1/{people} for {count_of(people, 'client')}; a mechanism that "
            "publishes one of them at random would meet it",
        )


def _numbering(log: FederationLog) -> Iterator[Fault]:
    """Every round is there, once: what is not counted is not covered."""
    numbers = Counter(entry.round for entry in log.rounds)
    for index, entry in enumerate(log.rounds):
        if numbers[entry.round] > 1:
            yield ("rounds", index), f"round {entry.round} appears {numbers[entry.round]} times; keep one"
        if entry.round > log.last_round:
            yield (
                ("rounds", index),
                f"round {entry.round} comes after last_round = {log.last_round}; correct one of them",
            )
    missing = [number for number in range(1, log.last_round + 1) if number not in numbers]
    if missing:
        some = listed([*map(str, missing[:5]), *(["…"] if len(missing) > 5 else [])])
        yield (
            ("rounds",),
            f"rounds: {count_of(len(missing), 'round')} of 1 to {log.last_round} missing ({some}); a release that is "
            "not counted is not covered: add them, with participants: [] where nothing was released",
        )


def _clients(log: FederationLog) -> Iterator[Fault]:
    known = None if isinstance(log.clients, int) else set(log.clients)
    people = log.clients if isinstance(log.clients, int) else len(log.clients)
    if known is not None and len(known) < people:
        twice = next(name for name, count in Counter(log.clients).items() if count > 1)  # type: ignore[arg-type]
        yield ("clients",), f"clients: '{short(twice)}' is listed twice; keep one"
    seen: set[str] = set()
    for index, entry in enumerate(log.rounds):
        at: KeyPath = ("rounds", index, "participants")
        if isinstance(entry.participants, int):
            if entry.participants > people:
                yield (
                    at,
                    f"participants = {entry.participants} in round {entry.round}: there are {people} clients; correct "
                    "one of them",
                )
            continue
        seen.update(entry.participants)
        if len(set(entry.participants)) < len(entry.participants):
            twice = next(name for name, count in Counter(entry.participants).items() if count > 1)
            yield at, f"client '{short(twice)}' takes part twice in round {entry.round}; keep one"
        stranger = next((name for name in entry.participants if known is not None and name not in known), None)
        if stranger is not None:
            yield (
                at,
                f"client '{short(stranger)}' of round {entry.round} is not among clients; add it there, or correct it",
            )
    if known is None and len(seen) > people:
        yield ("clients",), f"clients = {people}: but {len(seen)} different ones take part; count all who could have"
    gang = log.colluding if isinstance(log.colluding, int) else len(set(log.colluding))
    if gang >= people:
        yield ("colluding",), f"colluding = {gang}: of {people} clients leaves nobody to protect; give fewer"
    if not isinstance(log.colluding, int):
        double = next((name for name, count in Counter(log.colluding).items() if count > 1), None)
        if double is not None:
            yield ("colluding",), f"colluding: '{short(double)}' is listed twice; keep one"
        stranger = next((n for n in log.colluding if n not in (known if known is not None else seen)), None)
        if stranger is not None:
            yield ("colluding",), f"colluding: '{short(stranger)}' is not a client; correct the name, or give a number"


def _amounts(log: FederationLog, index: int, entry: Round) -> Iterator[Fault]:
    """Clip norm and noise of a round, by itself or as said for all."""
    nobody = entry.participants in (0, ()) and not isinstance(log.sampling, Poisson)
    if not nobody and (entry.clip or log.clip) is None:
        yield (
            ("rounds", index),
            f"clip: is missing in round {entry.round}; without it an update may have any length: add it",
        )
    own = [key for key in ("noise_multiplier", "noise_std") if getattr(entry, key) is not None]
    shared = [key for key in ("noise_multiplier", "noise_std") if getattr(log, key) is not None]
    if len(own) == 2 or (not own and len(shared) == 2):
        yield ("rounds", index), "noise_multiplier and noise_std are both given, and one decides the other; keep one"
    if not nobody and not own and not shared:
        yield (
            ("rounds", index),
            f"noise_multiplier: is missing in round {entry.round}; add it, 0 where there was no noise",
        )
    if log.unit == "client":
        foreign = next((key for key in _SAMPLES if getattr(entry, key) is not None), None)
        if foreign is not None:
            yield ("rounds", index, foreign), f"{foreign}: does not go with unit: client; leave it out"
        return
    for key in _NEEDED.get(log.batches or "unknown", ()):
        value = getattr(entry, key) if getattr(entry, key) is not None else getattr(log, key)
        if value is None and not nobody:
            yield ("rounds", index), f"{key}: is missing in round {entry.round}; batches: {log.batches} needs it"
        if isinstance(value, dict):
            people = () if isinstance(entry.participants, int) else entry.participants
            if set(value) != set(people):
                odd = sorted(set(value) ^ set(people))[0]
                yield (
                    ("rounds", index, key),
                    f"{key} of round {entry.round}: should name exactly its participants, and '{short(odd)}' is on one "
                    "side only",
                )


def _draws(log: FederationLog) -> Iterator[Fault]:
    """Cohorts that were surely not drawn as the log says: no amplification may be counted for them."""
    sampling = log.sampling
    if not isinstance(sampling, Poisson | Fixed):
        return
    people = log.clients if isinstance(log.clients, int) else len(log.clients)
    came = [
        entry.participants if isinstance(entry.participants, int) else len(entry.participants) for entry in log.rounds
    ]
    out = "; say `sampling: unknown`, which counts every participation"
    if isinstance(sampling, Fixed):
        if sampling.cohort > people:
            yield ("sampling", "cohort"), f"sampling.cohort = {sampling.cohort}: there are {people} clients"
        for index, number in enumerate(came):
            if number != sampling.cohort:
                yield (
                    ("rounds", index),
                    f"{number} took part in round {log.rounds[index].round}, but sampling.cohort = {sampling.cohort}; "
                    f"who stays away is no uniform draw{out}",
                )
    rate = sampling.rate if isinstance(sampling, Poisson) else sampling.cohort / people
    if isinstance(sampling, Poisson):
        tests = len(came) + 2
        for index, number in enumerate(came):
            if _both_tails(number, people, rate) * tests < IMPLAUSIBLE:
                yield (
                    ("rounds", index),
                    _odd(f"{number} of {people} took part in round {log.rounds[index].round}", rate) + out,
                )
        if _both_tails(sum(came), people * len(came), rate) * tests < IMPLAUSIBLE:
            yield (
                ("sampling",),
                _odd(f"{sum(came)} participations in {len(came)} rounds of {people} clients", rate) + out,
            )
        likeliest = float(binom.pmf(min(people, int((people + 1) * rate)), people, rate))
        alike = len(set(came)) == 1 and likeliest < 1
        if alike and (len(came) - 1) * ln(max(likeliest, 1e-300)) + ln(tests) < ln(IMPLAUSIBLE):
            yield ("sampling",), _odd(f"{came[0]} took part in each of {len(came)} rounds", rate) + out
    yield from _one_by_one(log, people, rate, out)


def _one_by_one(log: FederationLog, people: int, rate: float, out: str) -> Iterator[Fault]:
    """In how many rounds each client took part: a binomial number, by either draw."""
    if any(isinstance(entry.participants, int) for entry in log.rounds):
        return
    count = Counter(name for entry in log.rounds for name in entry.participants)  # type: ignore[union-attr]
    tails = {number: _both_tails(number, len(log.rounds), rate) * people for number in set(count.values())}
    for name, number in count.items():
        if tails[number] < IMPLAUSIBLE:
            yield (
                ("sampling",),
                _odd(f"client '{short(name)}' took part in {number} of {len(log.rounds)} rounds", rate) + out,
            )
            return


def _both_tails(number: int, of: int, rate: float) -> float:
    """Chance of so few, or of so many, twice the smaller."""
    return min(1.0, 2 * min(float(binom.cdf(number, of, rate)), float(binom.sf(number - 1, of, rate))))


def _odd(what: str, rate: float) -> str:
    return f"{what}: draws with probability {rate:.4g} do not give that (chance below {IMPLAUSIBLE:g})"
