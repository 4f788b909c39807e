"""Privacy of a cell before it runs: how much noise, and what is proven with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from pydantic import TypeAdapter, ValidationError

from autoflip_secure.defenses.privacy.accountants import (
    WHOLE,
    Count,
    Mechanism,
    by_client,
    counted,
    prv_epsilon,
    rdp_epsilon,
)
from autoflip_secure.defenses.privacy.calibration import noise_multiplier_for
from autoflip_secure.defenses.privacy.guarantees import account
from autoflip_secure.defenses.privacy.ledger import deltas, releases
from autoflip_secure.defenses.privacy.pld import installed, pld_epsilon
from autoflip_secure.defenses.privacy.schedule import ReleaseSchedule, schedule_of
from autoflip_secure.errors import InputError
from autoflip_secure.federation.cell import Cell
from autoflip_secure.federation.channels import planned as planned_channels
from autoflip_secure.federation.secure_rounds import LARGEST_ENTRY, largest_clip
from autoflip_secure.interfaces import Accountant, ClientPrivacy
from autoflip_secure.records.privacy import OBSERVERS, PrivacyRecord, Release

_SYSTEM = (
    "noise and batches of this cell came from the operating system's generator: it cannot be repeated bit for bit, and "
    "every attempt to run it counts"
)
_VOTES = (
    "clip norm: every round releases the noised sum of updates and the noised count of votes on the clip norm, both of "
    'one cohort; the noise multiplier of the row "updates" is that of both together (Andrew et al. 2021)'
)
_ROOT = (
    "The server's root set is its own data and no client's: it is trained on without noise, the published models rest "
    "on it, and no guarantee covers it."
)
_PREPARED = (
    "preparation: before training all clients send {}, each once; it is a release of its own, in which everybody is, "
    "so that nothing amplifies it"
)
_REMEMBERED = (
    "cohorts amplify nothing: clients send what they remember of earlier rounds ({}), and in cohorts of a fixed number "
    "what others remember tells who was drawn before; sampling: poisson amplifies"
)
_BESIDE = (
    "channels: in {} of {} rounds clients send {} beside their updates, from one cohort; the noise multiplier of a row "
    '"updates, …" is that of all of them together'
)
_PLANNED_OTHERWISE = (
    "an earlier attempt was planned otherwise than this version of the program plans, and is counted here as it would "
    "be now: its ledger file has what it was about to release, and `autoflip-secure budget` adds that up"
)
_RELEASES = TypeAdapter(list[Release])


def with_noise(cell: Cell, known: tuple[float, ...] | None = None) -> Cell:
    """``cell`` with the noise multiplier of every client: as given, or the smallest that keeps its target epsilon.

    Where nothing is proven and the scenario allows that, a target gets the noise that would keep it under a proof.

    Args:
        known: what was found for it before, taken as it is.

    Raises:
        InputError: delta is not below 1/n, a batch would be more than all samples, the target cannot be reached,
            no noise keeps it because nothing is proven, its accountant is not installed, or a secure sum has no room
            for the noised updates.
    """
    mechanism = cell.protocol.mechanism
    if mechanism is None:
        return cell
    if known is not None:
        return replace(cell, noise_multipliers=known)
    clients = len(cell.problem.clients)
    if (own := mechanism.own_noise(cell.noise_plan)) is not None:
        return _with_room(replace(cell, noise_multipliers=(own,) * clients))
    given = replace(cell, noise_multipliers=(mechanism.noise_multiplier or 1.0,) * clients)
    schedule = schedule_of(given)
    _check(schedule, mechanism)
    if mechanism.target_epsilon is None:
        return _with_room(replace(cell, noise_multipliers=(mechanism.noise_multiplier or 0.0,) * clients))
    if mechanism.accountant == "pld" and not installed():
        raise InputError(
            "privacy.accountant = pld: dp-accounting is not installed; pip install 'autoflip-secure[accounting]', or "
            "measure privacy.target_epsilon with accountant: prv or rdp"
        )
    refuse_unproven(given)  # no noise reaches a target where nothing is proven
    calibrated = _calibrated(_as_if_proven(schedule), mechanism)
    try:
        mechanism.update_multiplier(calibrated[0])
    except ValueError as error:
        raise InputError(f"privacy.{error}") from None
    return _with_room(replace(cell, noise_multipliers=calibrated))


def _with_room(cell: Cell) -> Cell:
    """``cell``, where a secure sum that counts on everybody's noise has room for every honest client's noised update.

    An update that does not fit is left out and takes its share of the noise with it.

    Raises:
        InputError: an update may not fit.
    """
    protocol, mechanism, noise = cell.protocol, cell.protocol.client_level, cell.noise_multipliers[0]
    clip = None if mechanism is None else mechanism.first_clip
    if clip is None or not (protocol.visibility.server == "sums" and noise):
        return cell
    rows = sum(len(cell.cohort(number)) for number in range(1, protocol.rounds + 1))
    most = largest_clip(noise / protocol.cohort**0.5, rows * int(cell.problem.layout.sent.sum()))
    if clip > most:
        raise InputError(
            f"privacy.clip = {clip:g}: with noise_multiplier = {noise:.3g} and cohort = {protocol.cohort} a noised "
            f"update may have a value beyond +-{LARGEST_ENTRY:g}, which a secure sum leaves out, and its share of the "
            f"noise with it; give clip: {0.99 * most:.2g} or less, less noise or a larger cohort"
        )
    return _with_room_beside(cell, rows, noise / protocol.cohort**0.5)


def _with_room_beside(cell: Cell, rows: int, share: float) -> Cell:
    """The same for the other channels; ``rows``: of the whole run; ``share``: noise of one client / bound."""
    for channel in {channel for channels in planned_channels(cell) for channel in channels}:
        most = largest_clip(share, rows * channel.size)
        if channel.bound is not None and channel.bound > most:
            raise InputError(
                f"algorithm: the channel {channel.name} with bound {channel.bound:g} may, with the noise of a client, "
                f"have a value beyond +-{LARGEST_ENTRY:g}, which a secure sum leaves out, and its share of the noise "
                f"with it; give a bound of {0.99 * most:.2g} or less, less noise or a larger cohort"
            )
    return cell


def ledger(cell: Cell, attempts: int = 1, earlier: Sequence[Cell] = ()) -> PrivacyRecord | None:
    """The ledger of a cell, known before it runs; None without privacy.

    Args:
        attempts: how often it was begun.
        earlier: the same cell under the other conditions that it was begun under, whose releases are others.
    """
    mechanism = cell.protocol.mechanism
    if mechanism is None:
        return None
    said = (
        (_SYSTEM, mechanism.noise_source == "system"),
        (_VOTES, mechanism.releases_votes),
        (_ROOT, cell.problem.root is not None),
    )
    notes = [*mechanism.remarks(cell.noise_plan), *(note for note, holds in said if holds)]
    before, schedule = tuple(schedule_of(one) for one in earlier), schedule_of(cell)
    if schedule.channels:
        names = dict.fromkeys(name for beside in schedule.channels for name in beside)
        notes.append(_BESIDE.format(sum(map(bool, schedule.channels)), len(schedule.channels), ", ".join(names)))
    if schedule.unit == "client" and not schedule.amplified:
        notes.append(_REMEMBERED.format(", ".join(schedule.remembered)))
    if schedule.prepared:
        notes.append(_PREPARED.format(", ".join(schedule.prepared)))
    return account(replace(schedule, earlier=before), attempts, tuple(notes))


def planned(cell: Cell) -> list[Release]:
    """Everything that the cell will release, whoever sees it."""
    schedule = schedule_of(cell)
    return [release for observer in OBSERVERS for release in releases(schedule, observer)[0]]


def ledger_of_attempts(
    cells: Sequence[Cell], attempts: int, written: Sequence[Sequence[Any] | None]
) -> PrivacyRecord | None:
    """The ledger of a cell that was begun more than once.

    Args:
        cells: it under each of the conditions that it was begun under, those of now last.
        attempts: how often it was begun.
        written: for each of ``cells`` what its ledger file says was planned; None: nothing.
    """
    *earlier, last = cells
    found = ledger(last, attempts, earlier)
    if found is None or all(map(_planned_alike, cells, written)):
        return found
    return found.model_copy(update={"notes": [*found.notes, _PLANNED_OTHERWISE]})


def _planned_alike(cell: Cell, written: Sequence[Any] | None) -> bool:
    try:
        return written is None or _RELEASES.validate_python(written) == planned(cell)
    except ValidationError:
        return False


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
            f"privacy.kind = {cell.config['privacy']['kind']}: no guarantee: {reason}; or set privacy.allow_unproven: "
            "true to run it marked as such"
        )


def _check(schedule: ReleaseSchedule, mechanism: ClientPrivacy) -> None:
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
                f"samples, so one sample could be published in full; give less, or leave it out for {0.1 / n:.2g}"
            )


def _as_if_proven(schedule: ReleaseSchedule) -> ReleaseSchedule:
    """Without what takes the proof away; a schedule that has one stays as it is."""
    bare = schedule.unit == "client" and schedule.exploration_noise_multiplier == 0
    return replace(
        schedule,
        foreign="",
        informed=(),
        early_stopping=False,
        linear=schedule.linear or (schedule.unit == "client" and schedule.noise == "central"),
        explorers=() if bare else schedule.explorers,
    )


def _calibrated(schedule: ReleaseSchedule, mechanism: ClientPrivacy) -> tuple[float, ...]:
    target = mechanism.target_epsilon
    assert target is not None
    if schedule.unit == "sample":
        found = []
        for client, n in enumerate(schedule.samples):
            alone, _ = releases(replace(schedule, honest=(client,)), "server")
            rate, steps = schedule.batch_size / n, sum(release.steps for release in alone)
            delta = schedule.delta or 0.1 / n
            # a malicious client obeys nothing: its number is never used
            found.append(_of_steps(target, mechanism.accountant, rate, steps, delta) if rate <= 1 and steps else 1.0)
        return tuple(found)
    noise = noise_multiplier_for(target, partial(_epsilon, schedule, mechanism), mechanism.accountant)
    return (noise,) * len(schedule.samples)


@lru_cache(maxsize=100_000)
def _of_steps(target: float, accountant: Accountant, rate: float, steps: int, delta: float) -> float:
    """Noise multiplier of so many steps at one rate."""

    def epsilon(noise: float) -> float | None:
        count = ((Mechanism(noise, rate, "poisson"), steps),)
        return _best(count, delta, accountant)

    return noise_multiplier_for(target, epsilon, accountant)


def _best(count: Count, delta: float, accountant: Accountant) -> float | None:
    numeric = {"prv": prv_epsilon, "pld": pld_epsilon}
    bounds = [rdp_epsilon(count, delta, WHOLE)]
    if accountant in numeric:
        bounds.append(numeric[accountant](count, delta))
    return min((e for e in bounds if e is not None), default=None)


def _epsilon(schedule: ReleaseSchedule, mechanism: ClientPrivacy, noise: float) -> float | None:
    """Epsilon of everything released, against whoever is not trusted (other clients too), of who pays most."""
    clients, delta = len(schedule.samples), deltas(schedule)[None]
    extra = noise if mechanism.exploration_multiplier is None else mechanism.exploration_multiplier
    trial = replace(schedule, noise_multipliers=(noise,) * clients, exploration_noise_multiplier=extra)
    worst = 0.0
    for observer in OBSERVERS:
        found, reason = releases(trial, observer)
        if reason and observer == "server" and mechanism.trusted_server:
            continue
        if reason:
            return None
        for mine in by_client(found).values():
            count = counted(mine)
            if count is None:
                return None
            epsilon = _best(count, delta, mechanism.accountant)
            if epsilon is None:
                return None
            worst = max(worst, epsilon)
    return worst
