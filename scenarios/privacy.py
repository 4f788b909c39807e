"""Privacy of a cell before it runs: how much noise, and what is proven with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Literal

from autoflip_secure.cell import Cell
from autoflip_secure.errors import InputError
from autoflip_secure.interfaces import ClientPrivacy
from autoflip_secure.privacy_record import OBSERVERS, PrivacyRecord, Release
from defenses.accountants import WHOLE, Count, Mechanism, counted, prv_epsilon, rdp_epsilon
from defenses.calibration import noise_multiplier_for
from defenses.client_privacy import ClientLevel
from defenses.guarantees import account
from defenses.privacy_ledger import Schedule, deltas, releases, schedule_of

_SYSTEM = (
    "noise and batches of this cell came from the operating system's generator: it cannot be repeated bit for bit, and "
    "every attempt to run it counts"
)


def with_noise(cell: Cell) -> Cell:
    """``cell`` with the noise multiplier of every client: as given, or the smallest that keeps its target epsilon.

    Where nothing is proven and the scenario allows that, a target gets the noise that would keep it under a proof.

    Raises:
        InputError: delta is not below 1/n, a batch would be more than all samples, the target cannot be reached, or
            no noise keeps it because nothing is proven.
    """
    mechanism = cell.protocol.mechanism
    if mechanism is None:
        return cell
    clients = len(cell.problem.clients)
    given = replace(cell, noise_multipliers=(mechanism.noise_multiplier or 1.0,) * clients)
    schedule = schedule_of(given)
    _check(schedule, mechanism)
    if mechanism.target_epsilon is None:
        return replace(cell, noise_multipliers=(mechanism.noise_multiplier or 0.0,) * clients)
    refuse_unproven(given)  # no noise reaches a target where nothing is proven
    calibrated = _calibrated(_as_if_proven(schedule), mechanism)
    if isinstance(mechanism, ClientLevel):
        try:
            mechanism.update_multiplier(calibrated[0])
        except ValueError as error:
            raise InputError(f"privacy.{error}") from None
    return replace(cell, noise_multipliers=calibrated)


def ledger(cell: Cell, attempts: int = 1, earlier: Sequence[Cell] = ()) -> PrivacyRecord | None:
    """The ledger of a cell, known before it runs; None without privacy.

    Args:
        cell: what runs.
        attempts: how often it was begun.
        earlier: the same cell under the other conditions that it was begun under, whose releases are others.
    """
    mechanism = cell.protocol.mechanism
    if mechanism is None:
        return None
    notes = (_SYSTEM,) if mechanism.noise_source == "system" else ()
    before = tuple(schedule_of(one) for one in earlier)
    return account(replace(schedule_of(cell), earlier=before), attempts, notes)


def planned(cell: Cell) -> list[Release]:
    """Everything that the cell will release, whoever sees it."""
    schedule = schedule_of(cell)
    return [release for observer in OBSERVERS for release in releases(schedule, observer)[0]]


def refuse_unproven(cell: Cell) -> None:
    """Refuse what noise is added for and nothing is proven of, unless the scenario allows it.

    Raises:
        InputError: with the reason.
    """
    mechanism = cell.protocol.mechanism
    if mechanism is None or mechanism.allow_unproven or mechanism.noise_multiplier == 0:
        return
    _, reason = releases(schedule_of(cell), "public")
    if reason:
        raise InputError(
            f"privacy.kind = {cell.config['privacy']['kind']}: no guarantee: {reason}; or set "
            "privacy.allow_unproven: true to run it with the mark"
        )


def _check(schedule: Schedule, mechanism: ClientPrivacy) -> None:
    if schedule.unit != "sample":
        return
    for client in schedule.honest:
        n = schedule.samples[client]
        if schedule.batch_size > n:
            raise InputError(
                f"training.batch_size = {schedule.batch_size}: client {client} has {n} samples, so its batch rate "
                f"would be {schedule.batch_size / n:.2f}, over 1; lower training.batch_size to {n} or less, or have "
                "fewer clients"
            )
        if mechanism.delta is not None and mechanism.delta >= 1 / n:
            raise InputError(
                f"privacy.delta = {mechanism.delta:g}: is not below 1/n = {1 / n:.3g} of client {client} with {n} "
                f"samples, so one sample could be published whole; give less, or leave it out for {0.1 / n:.2g}"
            )


def _as_if_proven(schedule: Schedule) -> Schedule:
    """Without what takes the proof away; a schedule that has one stays as it is."""
    bare = schedule.unit == "client" and schedule.exploration_noise_multiplier == 0
    return replace(
        schedule,
        early_stopping=False,
        linear=schedule.linear or (schedule.unit == "client" and schedule.noise == "central"),
        explorers=() if bare else schedule.explorers,
    )


def _calibrated(schedule: Schedule, mechanism: ClientPrivacy) -> tuple[float, ...]:
    target = mechanism.target_epsilon
    assert target is not None
    if schedule.unit == "sample":
        found = []
        for client, n in enumerate(schedule.samples):
            alone, _ = releases(replace(schedule, honest=(client,)), "server")
            rate, steps = schedule.batch_size / n, sum(release.steps for release in alone)
            delta = schedule.delta or 0.1 / n
            # a bad client obeys nothing: its number is never used
            found.append(_of_steps(target, mechanism.accountant, rate, steps, delta) if rate <= 1 and steps else 1.0)
        return tuple(found)
    noise = noise_multiplier_for(target, partial(_epsilon, schedule, mechanism), mechanism.accountant)
    return (noise,) * len(schedule.samples)


@lru_cache(maxsize=100_000)
def _of_steps(target: float, accountant: Literal["rdp", "prv"], rate: float, steps: int, delta: float) -> float:
    """Noise multiplier of so many steps at one rate."""

    def epsilon(noise: float) -> float | None:
        count = ((Mechanism(noise, rate, "poisson"), steps),)
        return _best(count, delta, accountant)

    return noise_multiplier_for(target, epsilon, accountant)


def _best(count: Count, delta: float, accountant: Literal["rdp", "prv"]) -> float | None:
    bounds = [rdp_epsilon(count, delta, WHOLE), prv_epsilon(count, delta) if accountant == "prv" else None]
    return min((e for e in bounds if e is not None), default=None)


def _epsilon(schedule: Schedule, mechanism: ClientPrivacy, noise: float) -> float | None:
    """Epsilon of everything released, for whoever is not trusted and of the client that pays most."""
    clients, delta = len(schedule.samples), deltas(schedule)[None]
    extra = noise if mechanism.exploration_multiplier is None else mechanism.exploration_multiplier
    trial = replace(schedule, noise_multipliers=(noise,) * clients, exploration_noise_multiplier=extra)
    worst = 0.0
    for observer in ("server", "public"):
        found, reason = releases(trial, observer)
        if reason and (observer == "public" or not mechanism.trusted_server):
            return None
        if reason:  # a trusted server
            continue
        own: list[int | None] = [*sorted({r.client for r in found if r.client is not None})]
        for client in own or [None]:
            mine = [r for r in found if r.client in (client, None)]
            count = counted(mine)
            if count is None:
                return None
            epsilon = _best(count, delta, mechanism.accountant)
            if epsilon is None:
                return None
            worst = max(worst, epsilon)
    return worst
